"""Which AWS answers when there is no account? Bedrock and SageMaker on one loopback port, for the real SDK.

A request is read, and its answer written, by the service models that botocore ships, so that no handler can drift
from the API. A service is a class in a file of its own, listed in `server.SERVICES`: `service` is its name in
botocore, and each operation is an async method in snake case that takes a `Call` and gives the answer's members. All
services share one `World`: what there is to call, how fast it is, what it costs, and what goes wrong.
"""
