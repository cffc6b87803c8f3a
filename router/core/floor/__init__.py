"""Is the promised share adequate among what is served?

Every answer is counted when it is decided, set right when it has ended, and again when a verdict comes; the price that
this moves is `slo.floor`. Where an estimate is not to be trusted, quality is bought: a model's lower bound stands for
its estimate, both in what the floor counts and in what it pays for. The likeliest model to be adequate keeps its
estimate: no doubt can buy a better one.
"""
