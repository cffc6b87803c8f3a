"""Who asks the servers for their own load, and how often?

One task for each distinct way of asking. What a server tells goes to `Controller.on_load` as of the moment at which it
was asked, so that its age is never too small. The local ledger stays the truth about what we sent; a server that does
not answer changes nothing but how much is known (`router.control.staleness`).
"""
