"""Who says whether an answer will do, before it is sent? Whoever the request names, asked by the way he can be reached.

Implements `router.ports.verify`. A further way, such as a webhook, is a file here and a line in `wiring`.
"""

from __future__ import annotations
