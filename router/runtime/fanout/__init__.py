"""How is a request answered that consists of independent parts?

Each part is a request of its own: it is admitted, decided, queued, paid and judged as any other. Here they are only
sent out together, waited for, and put together again, under the deadline and the cancellation of the one request.

Invariants: no part outlives its request; a failed part takes no other with it; the parts are given back in order; the
merge is made only where at least one part was answered.
"""
