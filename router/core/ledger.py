"""What is in flight, exactly: the local truth about load.

A permit is leave to run one attempt. It is opened when the attempt is decided, not when it is sent, so many decisions
on one instant see each other. Aggregates are kept up to date so that a view costs nothing per permit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from router.control.allowance import Allowance, Reservation
from router.control.capacity import Quota
from router.domain.outcome import Attempt
from router.domain.view import Load
from router.stats.ewma import Rate

if TYPE_CHECKING:
    from router.core.fleet import Member

_PREFILL_WINDOW_S = 2.0
_GAP_TOKENS = 8
_HISTORY = 256
"""Heartbeats of past in-flight counts, to compare late telemetry with what was in flight when it was taken."""
_SCRAPE_STALE_S = 30.0
_HEARD_S = 2.0
"""So long the pace of our own tokens is news; counting what servers tell of others besides cost .05 of useful answers
where others come and go (`router simulate --scenario stale-telemetry`), and .004 where they stay."""
_OURS = 1.1
"""Up to so many times our own calls, all that a server counts are ours: some came since we counted."""
_OUTSIDE_SHARE = 0.3
"""How far one scrape moves the estimate of the load of others."""


class Permit:
    """One attempt in flight. A `silent` one does not stream: nothing is heard of it before its end."""

    __slots__ = (
        "allowance",
        "attempt",
        "beside",
        "cached_tokens",
        "expected_tokens",
        "first_token",
        "is_unsent",
        "is_with_reader",
        "lane_wait_s",
        "mark_at",
        "mark_prefilled",
        "mark_tokens",
        "member",
        "multiplier",
        "overtaken",
        "predicted_tpot_s",
        "predicted_ttft_s",
        "quota",
        "reservation",
        "silent",
        "spread",
        "stalled_s",
        "tokens",
    )

    def __init__(
        self,
        attempt: Attempt,
        member: Member,
        *,
        predicted_ttft_s: float,
        predicted_tpot_s: float,
        expected_tokens: float,
    ) -> None:
        self.attempt = attempt
        self.member = member
        self.multiplier = member.latency.multiplier
        self.lane_wait_s = 0.0 if member.wait is None else member.wait.typical_s
        """What of the predicted TTFT is the wait of a lane."""
        self.spread = member.spread
        self.silent = not attempt.stream or member.is_whole
        self.predicted_ttft_s = predicted_ttft_s
        self.predicted_tpot_s = predicted_tpot_s
        self.expected_tokens = expected_tokens
        self.quota: Quota | None = None
        """Where its tokens were reserved."""
        self.allowance: Allowance | None = None
        self.reservation: Reservation | None = None
        self.cached_tokens = 0.0
        """That were expected to be read from a prompt cache."""
        self.stalled_s = 0.0
        """Seconds that the reader of the answer kept us waiting."""
        self.is_with_reader = False
        """Whether the reader is being given a piece: until it has it no other is asked for."""
        self.overtaken = False
        """Whether a call that was sent later spoke first."""
        self.is_unsent = False
        """Whether it was given back before the call was made."""
        self.first_token: float | None = None
        self.beside = 0, 0
        """Calls and tokens that were in flight when it was sent."""
        self.tokens = 0
        self.mark_at = 0.0
        self.mark_tokens = 0
        self.mark_prefilled = 0

    def reserve(self, allowance: Allowance, *, now: float) -> None:
        """Take what the call reserves of its account's quota."""
        attempt = self.attempt
        bound = attempt.request.max_tokens or attempt.max_tokens
        self.allowance = allowance
        self.reservation = allowance.reserve(allowance.asked(attempt.request.input_tokens, bound), now=now)

    @property
    def decodes_unheard(self) -> bool:
        """Whether it counts as decoding from the start: its prompt's end will not be heard."""
        return self.silent and not self.member.is_whole

    def stall(self, seconds: float, *, now: float) -> None:
        """The reader took this long over a piece: it says nothing about the deployment."""
        self.stalled_s += seconds
        self.mark_at += seconds
        self.member.account.heard_at = now

    def excused_s(self, times: float) -> float:
        """Seconds of silence that a load or an answer `times` as long as expected explains, at the usual speed of the
        deployment: slowness that silence itself has taught is no excuse for silence."""
        if self.decodes_unheard:
            expected = self.predicted_whole_s(times * self.expected_tokens)
        else:
            expected = times * self.predicted_ttft_s
        return expected / max(self.multiplier, 1.0)

    def predicted_whole_s(self, tokens: float) -> float:
        """Seconds that the whole call was predicted to take for this length."""
        return self.predicted_ttft_s + self.predicted_tpot_s * max(tokens - 1.0, 0.0)


class GapSink(Protocol):
    """Who learns from gaps between tokens."""

    def observe_gap(self, load: Load, window_s: float, tokens: int, prefill_tokens: int, *, now: float) -> None:
        """See `router.learning.latency.LatencyModel.observe_gap`."""
        ...


class Account:
    """The ledger of one deployment."""

    __slots__ = (
        "context_tokens",
        "decoding",
        "heard_at",
        "history",
        "outside",
        "permits",
        "prefill_rate",
        "prefilled",
        "progress_at",
        "scraped_at",
        "waiting",
        "waiting_tokens",
    )

    def __init__(self) -> None:
        self.permits: dict[str, Permit] = {}
        self.waiting = 0
        self.waiting_tokens = 0
        self.decoding = 0
        self.context_tokens = 0
        self.prefilled = 0
        self.progress_at = 0.0
        self.heard_at = -math.inf
        """When a token last came, or a reader was ready for the next."""
        self.prefill_rate = Rate(_PREFILL_WINDOW_S)
        self.outside = 0.0
        """Sequences of others that scraped load shows and we did not send."""
        self.scraped_at = -math.inf
        self.history: deque[tuple[float, int, int]] = deque(maxlen=_HISTORY)

    @property
    def in_flight(self) -> int:
        """Permits held."""
        return self.waiting + self.decoding

    @property
    def held_tokens(self) -> int:
        """Contexts and waiting prompts."""
        return self.context_tokens + self.waiting_tokens

    def open(self, permit: Permit, *, now: float) -> None:
        """Take a permit."""
        tokens = permit.attempt.request.input_tokens
        self.permits[permit.attempt.id] = permit
        self.prefill_rate.add(tokens, now=now)
        if permit.decodes_unheard:
            self.decoding += 1
            self.context_tokens += tokens
            return
        if not self.waiting:
            self.progress_at = now
        self.waiting += 1
        self.waiting_tokens += tokens

    def on_first_token(self, permit: Permit, *, now: float) -> None:
        """The prompt is through."""
        tokens = permit.attempt.request.input_tokens
        permit.first_token = permit.mark_at = self.heard_at = now
        permit.tokens = permit.mark_tokens = 1
        if permit.decodes_unheard:
            self.context_tokens += 1
            return
        self.waiting -= 1
        self.waiting_tokens -= tokens
        self.prefilled += tokens
        permit.mark_prefilled = self.prefilled
        self.decoding += 1
        self.context_tokens += tokens + 1
        self.progress_at = now

    def on_tokens(self, permit: Permit, count: int, sink: GapSink, *, now: float) -> None:
        """More tokens of an answer; every few of them teach the latency model."""
        permit.tokens += count
        self.context_tokens += count
        self.heard_at = now
        fresh = permit.tokens - permit.mark_tokens
        if fresh >= _GAP_TOKENS:
            sink.observe_gap(
                self.load(now, 0.0),
                now - permit.mark_at,
                fresh,
                self.prefilled - permit.mark_prefilled,
                now=now,
            )
            permit.mark_at, permit.mark_tokens, permit.mark_prefilled = now, permit.tokens, self.prefilled

    def close(self, permit: Permit) -> None:
        """Give a permit back; doing so twice is harmless."""
        if self.permits.pop(permit.attempt.id, None) is None:
            return
        tokens = permit.attempt.request.input_tokens
        if permit.first_token is None and not (permit.decodes_unheard):
            self.waiting -= 1
            self.waiting_tokens -= tokens
        else:
            self.decoding -= 1
            self.context_tokens -= tokens + permit.tokens

    def relax(self, now: float) -> bool:
        """Telemetry that stopped coming is believed less and less; whether it has."""
        stale = now - self.scraped_at - _SCRAPE_STALE_S
        if self.outside > 0.0 and stale > 0.0:
            self.outside *= 0.5 ** min(stale / _SCRAPE_STALE_S, 1.0)
        return stale > 0.0

    def load(self, now: float, prefill_s_per_token: float) -> Load:
        """The load as of `now`; prompts ahead are taken to drain since the last one that was through.

        The load of others counts where we hear nothing ourselves: the pace of our tokens tells sooner what it does.
        """
        waiting = self.waiting_tokens
        if waiting and prefill_s_per_token > 0.0:
            left = waiting - int((now - self.progress_at) / prefill_s_per_token)
            waiting = left if left > 0 else 0
        if self.outside <= 0.0 or now - self.heard_at < _HEARD_S:
            return Load(self.decoding, self.waiting, waiting, self.context_tokens)
        mean = self.context_tokens / self.decoding if self.decoding else 1000.0
        return Load(
            self.decoding + round(self.outside),
            self.waiting,
            waiting,
            self.context_tokens + self.outside * mean,
        )

    def remember(self, now: float) -> None:
        """Keep what is in flight now, for telemetry that will come late."""
        self.history.append((now, self.in_flight, self.held_tokens))

    def on_scraped(self, running: int, waiting: int, observed: float) -> float | None:
        """A server counted these sequences, ours included, at `observed`: the rest are of others. Gives the tokens that
        were in its memory for us then, where there were no others: what still waits before it is not."""
        if observed <= self.scraped_at:
            return None
        self.scraped_at = observed
        then = next((past for past in reversed(self.history) if past[0] <= observed), None)
        own, held = (self.in_flight, self.held_tokens) if then is None else then[1:]
        sequences = running + waiting
        self.outside += _OUTSIDE_SHARE * (max(sequences - own, 0) - self.outside)
        if sequences > _OURS * own:
            return None
        return held * running / sequences if sequences else 0.0

    def silent_s(self, now: float) -> float:
        """For how long calls that stream have been silent, all of them; 0 where there are none. One whose reader is
        slow is not."""
        oldest = next((p for p in self.permits.values() if not p.silent and not p.is_with_reader), None)
        return 0.0 if oldest is None else now - max(self.heard_at, oldest.attempt.started)

    def overdue(self) -> Iterable[Permit]:
        """Permits that have not seen a token yet, the longest first."""
        return (p for p in self.permits.values() if p.first_token is None)
