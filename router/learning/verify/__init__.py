"""What does the answer itself say about whether it is adequate?

A prompt tells less than an answer does. Checks grade an answer (`checks`), each grade moves the log odds of P(adequate)
by as much as feedback has shown it to be worth (`evidence`). What a sender brings to check with cannot keep the router
busy: `schema` bounds its steps, `pattern` matches in linear time. A further check is a member of `domain.slo.Check`, a
function in `checks` and a line in the prior of `evidence`.
"""

from __future__ import annotations
