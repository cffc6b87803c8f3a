"""How does one deployment answer under a load that we make ourselves?

A load test sends calls by so many users at once, level after level. `calls` is what is known of each call, `figures`
puts a level into the metrics that SageMaker's evaluation of optimised models shows, `crowd` says what else was in
flight meanwhile, `step_fit` and `batch_fit` find the figures of the server's step, which become the deployment's
latency prior, and `knee` the level past which more users only wait longer. Values in, values out: `router.runtime`
makes the calls.
"""
