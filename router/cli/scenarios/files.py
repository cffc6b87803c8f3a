"""What do the files of `router simulate` look like? The part of its help that one writes them by."""

FILES = """

A workload has the columns arrival_s,input_tokens,output_tokens and, where wanted, class, tenant, deadline_s (from
arrival), session, prompt, quality.MODEL (in [0, 1]: without it nothing is said of useful and adequate) and
estimate.MODEL (P(adequate)). JSON lines have the same keys. A fleet says how servers behave:

    deployments:
    - {name: small, model: llama-3.1-8b, tier: small,
       price_usd_per_mtok: {input: 0.22, output: 0.22},
       step_ms: {base: 6.7, per_sequence: 0.06,
                 per_context_token: 0.00003, per_prefill_token: 0.02}}
    - {name: items, model: llama-3.1-70b, tier: large, kind: batch,
       price_usd_per_mtok: {input: 0.99, output: 0.99},
       batch_ms: {base: 300, per_item: 20}, max_items: 16}
    events:
    - {at_s: 600, until_s: 900, deployment: small, slowdown: 2.0}

Also in a deployment: replicas, max_sequences, kv_tokens, and for kind: provisioned tokens_per_min and hourly_usd.

A lane of batch jobs stands beside the same model on demand; rows whose deadline_s leaves hours wait for it:

    {name: n, model: m, tier: small, kind: job, job: {takes_s: 7200},
     price_usd_per_mtok: {input: 0.5, output: 2}}

Also in job: per_record_s, sigma, fail_ratio, record_fail_ratio, and what a policy has, in seconds (collect_s).
"""
