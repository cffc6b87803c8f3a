"""What did the outcome teach?

Each model here predicts with its uncertainty and takes observations; none of them chooses. `latency` learns how fast
a deployment steps, `length` how long answers get, `quality` how far the complexity estimate can be believed for a kind
of prompt. All state is bounded and can be written to a checkpoint and taken up again.
The next model goes into a file of its own and is filled into the view by `router.core.views`.
"""
