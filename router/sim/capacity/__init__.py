"""How many provisioned units should be bought, for which hours, and how sure is that?

`calls` reads what was asked for from a decision log or a trace; `minutes` turns it into units needed a minute;
`days` says what hour and what kind of day a minute was, and cuts the record into folds; `saved` tables the on-demand
money that each number of units takes over in each fold and hour; `offers` finds the best units for each way to buy;
`proof` asks what that would have cost on days it was not chosen on, and how sure the answer is; `advice` brings the
figures together; `plan` is the file that comes of it. Nothing here buys or changes anything.
"""
