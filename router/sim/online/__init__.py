"""What would the router have learned, and at what price, on a stream of prompts whose outcomes are known?

`learner` chooses and learns: the beliefs, cost models and budget price of the daemon. `stream` sends rows through it
under a budget, in many seeded orders; `frozen` lets two models learn from a bounded number of feedbacks and scores the
rest as `router evaluate` does. A learner sees the outcomes of the models it chose, no others, and never how many rows
are to come.
"""
