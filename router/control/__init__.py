"""How much at once?

Limits, quotas, batch sizes and circuits: numbers with the reason they last moved. Nothing here holds an attempt back
(that is the ledger's and the queue's part) and nothing here is fed end-to-end latency, which output length confounds.
A new limit is a file with a class of the `Limit` protocol; `router.core.fleet` builds one per deployment.
"""
