"""How does the router behave when something changes under it? Eight changes, and what is measured of each.

A scenario is data (`scenario`, `catalogue`): phases that follow each other, and in each the load, the mix, what befalls
the servers, what is promised, how old telemetry is. `traffic` makes its requests from published statistics or from a
trace, `staging` its fleet, events and edits. The daemon's own dispatcher plays it; `hindsight` looks for the fixed
setting of each phase that would have done best on the very same requests, on the very same servers (`fixed`). `course`
cuts both runs into windows, and `measures` says from them how fast the router settled, how far it overshot, how long
promises were broken and what was lost.
"""

from __future__ import annotations
