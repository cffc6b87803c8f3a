"""Which of those who came together is decided first, and who had better wait?

A decision takes what is best for one request, and the ledger lets the next one see it. Where there is room for all that
is enough. Where capacity is short, who comes first takes what another needs more. So those who come within a window of
a few milliseconds are ordered before they are decided: see `window`. Each is then decided as it would be by itself,
with the permits of those before it open, so that they do not herd. Another order is another key in `Window.order`.
"""
