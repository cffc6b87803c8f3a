"""Who is told?

The core and the shell return events; `sink` queues them and hands them out in batches, off the path of a request.
Those who are told: metrics (one file a group, one subscriber a group), log lines, and from elsewhere the decision log
and the demo's view. Invariants: telling never blocks and never raises; a subscriber that breaks is counted and harms
nobody; label values come from closed sets (`labels`); no prompt, answer or key leaves here. A new metric goes into one
file of `metrics/`; a new event fails `tests/house/test_events_measured.py` until metrics or logs take it.
"""
