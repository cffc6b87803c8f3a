"""What is paid for anyway, what may wait for it, and how much of it should there be?

`reserve` keeps the account of reserved capacity and says when load spills from it, `patience` lets requests that have
time wait for a cheaper lane, and `scaling` turns the offered work of a group into replicas. The buckets and their bid
price are `router.control.capacity`, the rounding to replicas is `router.control.replicas`.
"""
