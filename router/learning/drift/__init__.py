"""Is the world still the one that was learned from? Three things drift, and each means something else.

| what drifts | told by | forgotten | frozen | falls back |
|---|---|---|---|---|
| residuals of one model (1) | `learning.belief` | its variances are those of a new model | - | to its lower bound |
| residuals of a class (2) | `residuals` | variances of its use cases' offsets | - | - |
| feedback, all models at once (3) | `residuals`, by source | the run | beliefs and checks, for the source | - |
| share that is told (4) | `stream`, by class | - | - | - |
| features of a class (5) | `stream`, by class | the reference | - | to the prior where novel |

1. The model fell. No other belief moves. Its lower bound stands for its estimate, and the exploration share of each
   class goes to it where the class explores at all and its floor, if it has one, is below that bound. It rises when its
   answers say so; after 200 answers it is taken for what it is now; after 15 minutes (doubled with each fall) in which
   nothing was told of it, it is tried again as it was, with the doubt of a new one: so it comes back also where no
   class explores.
2. The class's prompts changed in a way that the estimator does not see: all its models moved. What the run taught of
   the models is undone; the offsets of its use cases stay as they were, and feedback moves them fast.
3. The judge or the senders changed their mind, or everything became harder: feedback alone cannot tell these apart. A
   step of the yardstick is often taken back, and beliefs that followed it would have to be learned twice; so what was
   learned from the run is undone and nothing is learned from this source for 200 answers, at most 30 minutes. If it is
   still off then, that is the new level, and all beliefs are as open as at first.
4. It is said, and that is all: beliefs change with answers, not with time.
5. Other prompts than before. P(adequate) is conditional on the prompt, so nothing that was learned is forgotten; but it
   does not reach prompts more novel than those that feedback came for (`reach`). There the correction shrinks to the
   static prior, whose lower bound is lower the more novel the prompt.

Latency, length and cost models are of what was measured, not of what was told: nothing here freezes them.
"""
