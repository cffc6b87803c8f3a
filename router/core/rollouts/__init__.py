"""Which side of a change does a request fall on, and is the change good?

An edit of a class whose `rollout` says so does not replace the class in force: both stand side by side in two tables,
and a stable hash says which of them a request is decided under, whole: class, parameters and promises come from one
snapshot. `tables` place requests in snapshots, `trial` is one edit on its way, `experiment` one class with arms,
`evidence` what was seen of one side, `verdict` the rules by which an edit goes on or back, `shadow` the comparison of
decisions, `saved` what a restart must not forget, `rollouts` all of them together.

Invariants: a request never changes sides; a larger share keeps those it had; what was taken back is not tried again
until its text changes or its mode says `live`; every transition is an event with its reason.
"""
