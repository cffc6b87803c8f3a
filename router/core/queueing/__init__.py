"""Whose turn is it, how long will it take, and who gives way when there is no place?

`fair` keeps the virtual time by which tenants share what gets free, `line` the order of all who wait, `drain` how fast
a line moves, `outlook` until when a start is of use, and `tenants` who asks for more than its share of the fleet.
All of it is pure; `runtime.queue` waits. Another order is another `Line`; it must neither lose nor double anybody.
"""
