"""`router profile`: how does one deployment answer under load, and what does that cost?

`command` is the command, `options` its words, `target` what is called and with which prompts, `live` the progress bar.
`told` is everything that came of it: `view` shows it in a terminal, `page` with `charts` in a browser, `written` as
JSON and as lines for a policy; `rows` names the metrics.
"""

from __future__ import annotations

from router.cli.profile.command import profile

__all__ = ["profile"]
