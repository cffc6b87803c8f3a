"""The fleet of two that policies are compared over."""

from __future__ import annotations

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, tags: [eu]}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices:
  models:
    llama-3.1-8b: {input: 0.22, output: 0.22}
    llama-3.1-70b: {input: 0.99, output: 0.99}
"""
