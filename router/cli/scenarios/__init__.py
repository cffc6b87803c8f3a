"""How are scenarios asked for, and how are they told? `command` plays them, `tables` and `picture` show what came of
them; `drawing` are the panels of a picture and `style` is their look. The scenarios themselves are in
`router.sim.scenarios`.
"""

from __future__ import annotations
