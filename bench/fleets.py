"""Simulated fleets that more than one closed loop runs on."""

SMALL_LARGE = """
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
  - name: large
    model: llama-3.1-70b
    tier: large
    price_usd_per_mtok: {input: 0.99, output: 0.99}
    step_ms: {base: 16.4034, per_sequence: 0.080096, per_context_token: 0.000023, per_prefill_token: 0.0650}
"""
"""One 8B and one 70B server; step times fitted from ML.ENERGY's measurements of vLLM on H100s, prompts from vidur."""
