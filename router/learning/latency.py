"""How long will a deployment take to the first token, and from token to token?

A server with B sequences decoding, ctx context tokens and P prompt tokens in the step takes
`k * (a + b*B + c*ctx + e*P)` seconds a step (Sarathi-Serve's chunked prefill; constants from profiles). From that,

* TTFT: the prompt tokens ahead of us and our own go through in `ceil(Q / budget)` steps, after a fixed time (`first_s`:
  network, gateway) that a slow server does not stretch;
* TPOT: each decode step also carries the prompts of those who come after us, a share `u = k*e*rate` of all time,
  so a step lasts `k*(a + b*B + c*ctx) / (1 - u)`.

`k` follows slowdowns within seconds (from token gaps, first tokens, and from calls that *should* have answered by
now); the shape follows slowly. Residuals of the two predictions give their spread.
"""

from __future__ import annotations

from math import erfc, exp, hypot, log, sqrt

from msgspec import Struct

from router.domain.decision import Spread
from router.domain.deployment import StepProfile
from router.domain.view import Load
from router.stats.ewma import Ewma
from router.stats.least_squares import ScaledFit, Vector
from router.stats.normal import SQRT_HALF

_MULTIPLIER_HALF_LIFE_S = 1.5
_PACE_SHARE = 0.1
"""How far one gap moves the pace."""
_RESIDUAL_HALF_LIFE_S = 20.0
_SILENCE_S = 2.0
_RELAX_HALF_LIFE_S = 10.0
_TTFT_SIGMA = 0.25
_TPOT_SIGMA = 0.12
_MIN_SIGMA = 0.04
E2E_SIGMA = 0.6
"""Spread of the log of end-to-end time: output length is most of it."""
BATCH_SIGMA = 0.2
"""The same where all of a batch ends together."""
_SPREAD_DIGITS = 3
"""Finer than this a spread neither changes a decision nor is worth its place in the log."""
_REFIT_EVERY = 64
_BUSIEST_PREFILL = 0.85
_FARTHEST_LOG = 2.5
"""One observation is never taken to be further off than this factor of e, either way."""
_LEAST_ROOM = 64
"""Prompt tokens a step always has room for, so that nothing divides by nothing."""


class Residual:
    """How far predictions are off, as a factor: mean and spread of the log of observed over predicted."""

    __slots__ = ("_moments", "_wider", "_width", "shift", "sigma")

    def __init__(self, sigma: float) -> None:
        self._moments = Ewma(_RESIDUAL_HALF_LIFE_S, mean=0.0, variance=sigma**2, weight=20.0)
        self.sigma = sigma
        self._wider, self._width = 0.0, 1.0
        self.shift = 0.0
        """Log of the factor by which it is taken to be slower than observed, for want of news."""

    def widen(self, wider: float, shift: float, width: float = 1.0) -> None:
        """Be less sure than what was observed says (a spread besides, and a factor), and take it for slower."""
        if wider != self._wider or width != self._width:
            self._wider, self._width = wider, width
            self._spread_out()
        self.shift = shift

    def _spread_out(self) -> None:
        learned = self._width * max(sqrt(self._moments.variance), _MIN_SIGMA)
        self.sigma = hypot(learned, self._wider) if self._wider else learned

    def observe(self, ratio: float, *, now: float) -> None:
        """One observed over predicted."""
        self._moments.update(_bounded_log(ratio), now=now)
        self._spread_out()

    def relax(self, kept: float) -> None:
        """Keep only this share of the bias."""
        self._moments.mean *= kept

    @property
    def mean(self) -> float:
        """Bias: the mean log of observed over predicted."""
        return self._moments.mean + self.shift

    def p_within(self, predicted_s: float, objective_s: float) -> float:
        """P(observed <= objective)."""
        if objective_s <= 0.0:
            return 0.0
        log_over = log(predicted_s / objective_s) + self._moments.mean + self.shift
        return 0.5 * erfc(log_over / self.sigma * SQRT_HALF)

    def state(self) -> list[float]:
        """Mean and variance."""
        return [self._moments.mean, max(self._moments.variance, _MIN_SIGMA**2)]

    def restore(self, mean: float, variance: float) -> None:
        """Take up a checkpoint."""
        self._moments.mean = min(max(mean, -_FARTHEST_LOG), _FARTHEST_LOG)
        self._moments.variance = min(max(variance, _MIN_SIGMA**2), _FARTHEST_LOG**2)
        self.sigma = sqrt(self._moments.variance)


class Prospect(Struct, frozen=True, gc=False):
    """What the next request can expect of a server with a given load: the part of a prediction that all have alike."""

    k: float
    step: float
    """Seconds of a decode step, before `k`; so are `ahead` and `joined`."""
    room: int
    ahead: float
    """Half of the step under way."""
    joined: float
    """The part of a decode step that does not grow with context, once the request has joined."""
    left: float
    """Share of time that prompts of those to come leave."""
    per_sequence: float
    per_prefill_token: float
    per_context_token: float
    waiting_tokens: int
    context_tokens: float
    first_s: float
    """Seconds before each first token that are in no step; `k` does not touch them."""

    def predict(self, input_tokens: int, output_tokens: float) -> tuple[float, float, float]:
        """Median TTFT (from sending) and TPOT in seconds for a request of `input_tokens`, and the server seconds that
        it adds: its prompt, and its place in each of its decode steps."""
        k, per_prompt, per_context = self.k, self.per_prefill_token, self.per_context_token
        tokens, half = self.waiting_tokens + input_tokens, 0.5 * output_tokens
        ttft = -(-tokens // self.room) * self.step + per_prompt * tokens + self.ahead
        step = self.joined + per_context * (self.context_tokens + tokens + half)
        place = self.per_sequence + per_context * (input_tokens + half)
        return k * ttft + self.first_s, k * (step / self.left), k * (per_prompt * input_tokens + output_tokens * place)


class LatencyModel:
    """Latency of one deployment, learned online around a prior profile."""

    def __init__(self, prior: StepProfile) -> None:
        self.prior = prior
        self._fit = ScaledFit(4, prior_weight=200.0, decay=0.9995)
        self._a, self._b = prior.base_s, prior.per_sequence_s
        self._c, self.per_prefill_token_s = prior.per_context_token_s, prior.per_prefill_token_s
        self._budget, self._first_s = prior.step_token_budget, prior.first_s
        self._log_k = Ewma(_MULTIPLIER_HALF_LIFE_S, mean=0.0, weight=4.0)
        self.ttft = Residual(_TTFT_SIGMA)
        self.tpot = Residual(_TPOT_SIGMA)
        self.multiplier = 1.0
        """How many times slower than its shape the deployment is at the moment."""
        self.pace = 1.0
        """How many times slower than its shape tokens come, silence left aside."""
        self.last_observed: float | None = None
        self._relaxed = 0.0
        self.frozen = False
        """The shape and the spread, which a checkpoint keeps, stay as they are; the momentary slowness is followed."""

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds that one prompt token adds to a step."""
        return self.multiplier * self.per_prefill_token_s

    def step_s(self, sequences: float, context_tokens: float) -> float:
        """Seconds of a step that only decodes."""
        return self.multiplier * (self._a + self._b * sequences + self._c * context_tokens)

    @property
    def alone_s(self) -> float:
        """Seconds of a step of a call alone, at the usual speed."""
        return self._a + self._b

    def prefill_pace_s(self, sequences: int, context_tokens: float) -> float:
        """Seconds that one prompt token ahead takes while so many sequences decode."""
        k, room = self.multiplier, self.prior.step_token_budget - sequences
        step = k * (self._a + self._b * sequences + self._c * context_tokens)
        return k * self.per_prefill_token_s + step / (room if room > _LEAST_ROOM else _LEAST_ROOM)

    def prospect(self, load: Load, prefill_tokens_per_s: float) -> Prospect:
        """What the next request can expect, given what is in flight."""
        a, b, c, e, k = self._a, self._b, self._c, self.per_prefill_token_s, self.multiplier
        sequences, waiting = load.sequences, load.waiting_tokens
        step = a + b * sequences + c * load.context_tokens
        spare = self._budget - sequences
        room = spare if spare > _LEAST_ROOM else _LEAST_ROOM
        ahead = 0.5 * (step + e * (waiting if waiting < room else room)) if sequences or waiting else 0.0
        share = k * e * prefill_tokens_per_s
        left = 1.0 - (share if share < _BUSIEST_PREFILL else _BUSIEST_PREFILL)
        joined = a + b * (sequences + load.waiting_sequences + 1)
        return Prospect(k, step, room, ahead, joined, left, b, e, c, waiting, load.context_tokens, self._first_s)

    def predict(
        self, load: Load, input_tokens: int, output_tokens: float, prefill_tokens_per_s: float
    ) -> tuple[float, float]:
        """Median TTFT (from sending) and TPOT in seconds for a request of `input_tokens`, given what is in flight."""
        return self.prospect(load, prefill_tokens_per_s).predict(input_tokens, output_tokens)[:2]

    def observe_gap(self, load: Load, window_s: float, tokens: int, prefill_tokens: int, *, now: float) -> None:
        """One sequence gave `tokens` tokens in `window_s` while `load` was in flight and `prefill_tokens` prompt
        tokens of others went through: what the multiplier follows."""
        if window_s <= 0.0:
            return
        step = self._a + self._b * load.sequences + self._c * load.context_tokens
        slower = window_s / (tokens * step + self.per_prefill_token_s * prefill_tokens)
        self.pace += _PACE_SHARE * (slower - self.pace)
        self._follow(slower, now=now)
        if self.frozen:
            return
        base = self.prior
        x = (
            base.base_s * tokens,
            base.per_sequence_s * load.sequences * tokens,
            base.per_context_token_s * load.context_tokens * tokens,
            base.per_prefill_token_s * prefill_tokens,
        )
        self._fit.add(x, window_s)
        if self._fit.samples % _REFIT_EVERY == 0:
            self._reshape(self._fit.solve())

    def observe_first_token(self, predicted_s: float, observed_s: float, *, now: float) -> None:
        """A first token came `observed_s` after sending where `predicted_s` was expected."""
        self.last_observed = now
        if predicted_s <= 0.0 or observed_s <= 0.0 or self.frozen:
            return
        self.ttft.observe(observed_s / predicted_s, now=now)

    def observe_tpot(self, predicted_s: float, observed_s: float, *, now: float) -> None:
        """A call ended with this mean gap where `predicted_s` was expected."""
        self.last_observed = now
        if predicted_s <= 0.0 or observed_s <= 0.0 or self.frozen:
            return
        self.tpot.observe(observed_s / predicted_s, now=now)

    def observe_whole(self, predicted_s: float, observed_s: float, multiplier: float, *, now: float) -> None:
        """A call that did not stream took this long, where `predicted_s` was expected for its length under the
        `multiplier` of its decision."""
        if predicted_s > 0.0 and observed_s > 0.0:
            self._follow(multiplier * observed_s / predicted_s, now=now)

    def observe_overdue(self, predicted_s: float, waited_s: float, multiplier: float, *, now: float) -> None:
        """A call, predicted under `multiplier`, has waited longer and has still not answered: it takes at least this
        long."""
        if waited_s > predicted_s > 0.0:
            self._follow(max(multiplier * waited_s / predicted_s, self.multiplier), now=now)

    def relax(self, *, now: float) -> None:
        """Called at every heartbeat: where nothing is observed the momentary slowness is slowly forgotten, so that a
        deployment that traffic has left is tried again."""
        last = self.last_observed
        if last is None or now - last < _SILENCE_S:
            self._relaxed = now
            return
        kept = 0.5 ** ((now - max(self._relaxed, last)) / _RELAX_HALF_LIFE_S)
        self._relaxed = now
        self._log_k.mean *= kept
        self.multiplier = exp(self._log_k.mean)
        if not self.frozen:
            self.ttft.relax(kept)
            self.tpot.relax(kept)

    def _follow(self, ratio: float, *, now: float) -> None:
        self.last_observed = now
        self._log_k.update(_bounded_log(ratio), now=now)
        self.multiplier = exp(self._log_k.mean)

    def _reshape(self, theta: Vector) -> None:
        a, b, c, e = theta.tolist()
        self._a, self._b = self.prior.base_s * a, self.prior.per_sequence_s * b
        self._c, self.per_prefill_token_s = self.prior.per_context_token_s * c, self.prior.per_prefill_token_s * e

    def spread(self, e2e_sigma: float = E2E_SIGMA) -> Spread:
        """How far predictions are off at the moment."""
        ttft, tpot = self.ttft, self.tpot
        figures = (ttft.mean, ttft.sigma, tpot.mean, tpot.sigma, e2e_sigma)
        return Spread(*(round(x, _SPREAD_DIGITS) for x in figures))

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps: the shape and the spread, not the momentary multiplier."""
        return {**self._fit.state(), "spread": [*self.ttft.state(), *self.tpot.state()]}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` or `KeyError` where it is not one."""
        ttft_mean, ttft_variance, tpot_mean, tpot_variance = state["spread"]
        self._fit.restore(state)
        self._reshape(self._fit.theta)
        self.ttft.restore(ttft_mean, ttft_variance)
        self.tpot.restore(tpot_mean, tpot_variance)


def _bounded_log(ratio: float) -> float:
    return max(-_FARTHEST_LOG, min(_FARTHEST_LOG, log(ratio)))
