"""Who sends the calls of a load test, and who stops them?

`prompts` says what is asked, `purse` what may still be spent, `calls` makes one call or batch through its backend and
measures it, `users` runs levels of users who each wait for their answer before they ask again. On any clock and loop:
real ones, or the simulator's.
"""
