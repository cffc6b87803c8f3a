"""What only the simulation knows: how long a request sent now will really take, if nothing else were sent after it."""

from __future__ import annotations

from bisect import bisect_right

from router.backends.simulated import SimulatedBackend
from router.backends.simulated_fleet import DeploymentSpec, FleetSpec

_WINDOWS = 16
"""The answer's tokens are walked in this many pieces: the load changes little within one."""


class ExactOracle:
    """Predicts from the exact state of the servers and the length of the answer."""

    def __init__(self, fleet: FleetSpec, backend: SimulatedBackend) -> None:
        self._specs = {name: group for group in fleet.deployments for name in group.names()}
        self._backend = backend

    def predict(self, deployment: str, input_tokens: int, output_tokens: int) -> tuple[float, float]:
        """TTFT and TPOT in seconds; a batch endpoint gives the time of a batch of one and 0, batch jobs the time to
        collect one and make it, and 0."""
        spec = self._specs[deployment]
        if spec.job is not None:
            return spec.job.collect_s + spec.job.takes_s, 0.0
        if spec.step_ms is None:
            assert spec.batch_ms is not None
            return (spec.batch_ms.base + spec.batch_ms.per_item) / 1e3, 0.0
        return self._continuous(deployment, spec, input_tokens, output_tokens)

    def _continuous(
        self, deployment: str, spec: DeploymentSpec, input_tokens: int, output_tokens: int
    ) -> tuple[float, float]:
        state, step = self._backend.state(deployment), spec.step_ms
        assert step is not None
        if state.down:
            return float("inf"), float("inf")
        tokens = state.waiting_tokens + input_tokens
        room = max(spec.step_token_budget - state.decoding, 1)
        decode_ms = step.base + step.per_sequence * state.decoding + step.per_context_token * state.context_tokens
        ttft_ms = -(-tokens // room) * decode_ms + step.per_prefill_token * tokens
        if state.step_ends_ns is not None:
            ttft_ms += 0.5 * decode_ms
        remaining = sorted(state.remaining)
        joined, mean = state.gauge.waiting + 1, state.context_tokens / max(state.decoding, 1)
        tpot_ms = 0.0
        for window in range(_WINDOWS):
            at = output_tokens * (window + 0.5) / _WINDOWS
            ended = bisect_right(remaining, at)
            decoding = len(remaining) - ended
            context = decoding * (mean + at) + tokens + joined * at
            tpot_ms += step.base + step.per_sequence * (decoding + joined) + step.per_context_token * context
        return state.slowdown * ttft_ms / 1e3, state.slowdown * tpot_ms / _WINDOWS / 1e3
