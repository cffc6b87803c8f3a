"""Which deployment?

Filter -> score -> pick. A filter says why a deployment cannot serve; the scorer turns a frozen `DeploymentView` into
one utility, `P(SLO met) * P(adequate)` plus and minus what the dual prices say; exploration lives in the picker alone,
which also says with what probability it picked. A `Profile` names a set of filters, a scorer and a picker; the
baselines of `router simulate` are other profiles over the same dispatcher. A new picker is a class in `pickers` and a
line in whichever profile uses it.
"""
