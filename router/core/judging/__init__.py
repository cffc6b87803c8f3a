"""How good are the answers that nobody tells us about?

A class may name a deployment as its judge. Of its finished answers a seeded share is drawn (`judging`), and a drawn one
is judged where that is free of harm: the data may go there, the day's budget of the judge holds the call, and the
deployment has room to spare. What the judge said waits a while for the sender's own word and then teaches as feedback
does (`docket`).

Invariants: an answer is drawn by chance alone, with the probability that is recorded; what was drawn and not judged is
told with its reason. No call is opened whose most expensive end would pass the day's budget. One answer teaches once:
the sender's word goes before the judge's, and where it comes after, it counts only if it says otherwise. Where both
spoke, how far they are apart is kept by judge.
"""

from __future__ import annotations
