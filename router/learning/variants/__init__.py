"""Which optimised variants of a model are there, and what would one of them do to a latency that was measured?

`catalogue` holds which models of SageMaker JumpStart take which technique, `effects` what is documented of each
technique, `predict` puts the two and a deployment's own latencies together; `descent` says what a variant starts with
of what is known of its base, `young` what it makes of what is only known later. All of it is where learning starts: a
variant earns its place by measurement. A further technique is a row in `effects`.
"""
