"""What would a new policy have earned on the traffic that was logged?

`cases` joins the log to one line a request, `rewards` says what is earned and what was predicted of it, `intervals` how
sure an estimate is, `conclusion` where the log is too thin to tell and what would help, `caveats` what no log can tell,
and `evaluate` puts them together. How the estimators work is in `router.learning.off_policy`; how a decision is taken
again in `router.sim.replay`.

A decision is never estimated by picking the log's favourable part: what cannot be replayed is left out on both sides
and counted. A further quantity is a line in `rewards.METRICS`.
"""
