"""May this class still pay for a call today?

`account` keeps the books of one class: what was spent in the running day of UTC and what the calls in flight may still
cost. `spending` asks them for a decision, reserves before a call and settles after it, and tells how they stand.

Invariant: a call within the budget is opened only where `spent + reserved + its own reservation <= limit`. So at any
time `spent + reserved` exceeds the limit by no more than what calls that were in flight together cost beyond what was
reserved for them: a reservation is a 97th percentile, three calls of a hundred go over it, and the next call is only
opened once they are counted. What a class pays past its budget (`when_spent: cheapest`) is told, not bounded.
"""
