"""What does a drift change in what is decided?

`watch` asks the detectors of `learning.drift` about every request and every answer that was told, and does what the
table there says. It reports with the next heartbeat, and remembers nothing over a restart: what was reopened or undone
is in the beliefs themselves, which the checkpoint keeps. A fallen model starts as one that stands, with what is
believed of it.
"""
