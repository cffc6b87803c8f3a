"""Is a first answer worth a look, and then a second call?

Before the first call every candidate is worth, besides what it is itself, the option to check its answer and make it
again elsewhere (`option`): the decision weighs both calls and the wait. When the answer is there, the checks move
P(adequate), and it is made again where the best other deployment is worth more than sending it (`second`).

Invariants: a class without `cascade` pays for nothing here; an answer is checked once; a second call is never expected
to end past the deadline; the dollars and seconds of both calls stand in the ticket.
"""

from __future__ import annotations
