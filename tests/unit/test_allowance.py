"""The on-demand quota of an account: what a call reserves, what comes back, and what throttles teach of its size."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from router.complexity.heuristic import HeuristicEstimator
from router.control.allowance import REQUESTS, TOKENS, Allowance, Reservation
from router.core.capacity.shared import Shared
from router.core.controller import Controller
from router.core.fleet import Member
from router.core.snapshot import restore, take
from router.domain.aws.terms import AwsTerms, CallQuota, Latency
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Tier
from router.domain.outcome import Attempt, AttemptId, Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import RequestClass
from router.doubles.aws.models import Quota
from router.doubles.aws.runtime.quota import Holder, Quotas
from router.policy.policy import Bounds, Policy

AWS_EXAMPLE = CallQuota(tokens_per_min=2_000_000.0)


def on_demand(name: str = "d", *, target: str = "m", quota: CallQuota | None = None, **fields: Any) -> Deployment:
    address = Address("bedrock", target, region="us-east-1", aws=AwsTerms(quota=quota, **fields.pop("terms", {})))
    given = {"address": address, "kind": Kind.CONTINUOUS, **fields}
    return Deployment(DeploymentName(name), "g", "m", Tier.SMALL, price=Price(1.0, 1.0), **given)


def ended(input_tokens: int, output_tokens: int, cached: int = 0) -> Outcome:
    request = Request(RequestId("r"), 0.0, 0.0, Prompt("hi"), input_tokens)
    attempt = Attempt(AttemptId("a"), DecisionId("d"), request, on_demand(), 1, 0.0, None, stream=True)
    return Outcome(attempt, Ending.COMPLETED, 0.0, 0.0, input_tokens, output_tokens, 0.0, cached_tokens=cached)


def at_once(allowance: Allowance, tokens: float) -> int:
    """How many calls that reserve so much start at one instant."""
    count = 0
    while allowance.has_room(tokens, now=0.0):
        allowance.reserve(tokens, now=0.0)
        count += 1
    return count


@pytest.mark.parametrize(("max_tokens", "calls"), [(64_000, 31), (1_000, 1_333)])
def test_a_realistic_bound_lets_more_calls_run(max_tokens: int, calls: int) -> None:
    """AWS's own example: 2 million tokens a minute and 500 of input hold 31 calls of 64,000, and 1,333 of 1,000."""
    allowance = Allowance(AWS_EXAMPLE)
    assert at_once(allowance, allowance.asked(500, max_tokens)) == calls


def test_an_answer_without_a_bound_reserves_the_longest() -> None:
    """What nobody bounds is as long as the model's longest answer, as stated."""
    allowance = Allowance(CallQuota(tokens_per_min=2_000_000.0, max_output_tokens=64_000))
    assert at_once(allowance, allowance.asked(500, None)) == 31


def test_what_a_call_did_not_use_comes_back_at_its_end() -> None:
    """10,000 a minute; 1,000 in and 4,000 reserved; used are 1,000 - 600 from the cache + 5 x 100. So 900 are gone."""
    allowance = Allowance(CallQuota(tokens_per_min=10_000.0, output_burndown=5.0))
    held = allowance.reserve(5_000.0, now=0.0)
    assert allowance.tokens.level == 5_000.0
    allowance.settle(held, ended(1_000, 100, cached=600), now=0.0)
    assert allowance.tokens.level == 9_100.0


def test_calls_a_minute_are_a_bucket_too() -> None:
    """Three a minute: three at once, and the next after 20 seconds."""
    allowance = Allowance(CallQuota(requests_per_min=3.0, tokens_per_min=1e9))
    assert at_once(allowance, 1.0) == 3
    assert not allowance.has_room(1.0, now=19.0)
    assert allowance.has_room(1.0, now=20.1)


def test_what_was_never_taken_in_comes_back_whole() -> None:
    """A call that failed before it was taken counts neither as a call nor in tokens."""
    allowance = Allowance(CallQuota(requests_per_min=3.0, tokens_per_min=10_000.0))
    held = allowance.reserve(5_000.0, now=0.0)
    allowance.refund(held, now=0.0)
    assert (allowance.requests.level, allowance.tokens.level) == (3.0, 10_000.0)


def test_what_can_never_fit_is_told_where_the_size_is_stated() -> None:
    """A call larger than a full bucket never fits a stated one; a learned one may be larger than is known."""
    assert not Allowance(CallQuota(tokens_per_min=1_000.0)).fits(1_001.0)
    learning = Allowance(CallQuota())
    learning.restore(0.0, 1_000.0)
    assert learning.fits(1_001.0)
    assert learning.has_room(1_001.0, now=0.0)


def test_a_backend_that_asks_to_stay_away_is_left_alone_by_all_who_share_its_quota() -> None:
    """`Retry-After: 7` closes the allowance for seven seconds, whatever its buckets hold."""
    allowance = Allowance(CallQuota(tokens_per_min=10_000.0))
    allowance.on_throttled(allowance.reserve(10.0, now=0.0), 7.0, "requests", now=0.0)
    assert not allowance.has_room(10.0, now=6.9)
    assert allowance.has_room(10.0, now=7.1)


def test_a_throttle_empties_what_is_stated_and_does_not_resize_it() -> None:
    """Somebody else uses the account: the bucket is empty, and as large as it was."""
    allowance = Allowance(CallQuota(tokens_per_min=6_000.0))
    assert allowance.on_throttled(allowance.reserve(10.0, now=1.0), None, "tokens", now=1.0) == []
    assert not allowance.has_room(100.0, now=1.5)
    assert allowance.has_room(100.0, now=2.1)


class Account:
    """The double's quota behind an allowance."""

    holder = Holder("a", "r", "m", "on-demand")

    def __init__(self, quota: Quota, terms: CallQuota) -> None:
        self.quota, self.quotas, self.allowance = quota, Quotas(), Allowance(terms)
        self.throttled = self.taken = 0

    def call(self, tokens: float, now: float) -> Reservation | None:
        """Make a call if there is room; the reservation of one that was taken."""
        held = self.allowance.reserve(tokens, now=now)
        if isinstance(said := self.quotas.reserve(self.holder, self.quota, tokens, now=now), str):
            self.throttled += 1
            self.allowance.on_throttled(held, None, "tokens" if "tokens" in said else "requests", now=now)
            return None
        self.taken += 1
        return held


def test_one_burst_teaches_the_size() -> None:
    """400 calls of 10,000 at once against 2 million a minute: the 200 that are taken are the size, to one call."""
    account = Account(Quota(tokens_per_min=2e6), CallQuota())
    held = [account.allowance.reserve(10_000.0, now=0.0) for _ in range(400)]
    said = [account.quotas.reserve(account.holder, account.quota, 10_000.0, now=0.0) for _ in held]
    for one, answer in zip(held, said, strict=True):
        if isinstance(answer, str):
            account.allowance.on_throttled(one, None, "tokens", now=0.1)
    assert account.allowance.tokens.capacity == pytest.approx(2e6, rel=0.01)


@pytest.mark.parametrize(
    ("there", "what", "size"),
    [(Quota(tokens_per_min=120_000.0), TOKENS, 120_000.0), (Quota(requests_per_min=90.0), REQUESTS, 90.0)],
)
def test_a_size_is_learned_from_steady_demand(there: Quota, what: str, size: float) -> None:
    """Several times the quota is wanted for 20 minutes: throttles are fewer than one a minute, the size is known
    within a fifth (it is being probed), and all that the quota gives is served."""
    account = Account(there, CallQuota())
    for tick in range(12_000):
        now = tick * 0.1
        account.allowance.probe(now=now)
        if tick % 2 == 0 and account.allowance.has_room(1_000.0, now=now):
            account.call(1_000.0, now)
    index = 0 if what == REQUESTS else 1
    assert account.allowance.state()[index] == pytest.approx(size, rel=0.2)
    assert account.throttled < 20
    assert account.taken == pytest.approx(21 * size / (1.0 if what == REQUESTS else 1_000.0), rel=0.03)


def test_a_learned_size_grows_while_it_is_used_without_a_throttle() -> None:
    """A minute of full use raises it by a twentieth, the next by a tenth; idle minutes by nothing."""
    allowance = Allowance(CallQuota(requests_per_min=1e6))
    allowance.restore(0.0, 6_000.0)
    for second in range(181):
        full = second <= 120
        if full and allowance.has_room(100.0, now=float(second)):
            allowance.reserve(100.0, now=float(second))
        allowance.probe(now=float(second))
    assert allowance.tokens.capacity == pytest.approx(6_000.0 * 1.05 * 1.1)


def test_one_unlucky_throttle_takes_no_more_than_a_share() -> None:
    """Others may have used the quota up: a single throttle after next to no use of ours takes three tenths, not all."""
    allowance = Allowance(CallQuota())
    allowance.restore(0.0, 100_000.0)
    held = [allowance.reserve(10.0, now=5.0) for _ in range(20)]
    for one in held:
        allowance.on_throttled(one, None, "tokens", now=5.2)
    assert allowance.tokens.capacity == 70_000.0


def test_without_a_word_of_what_was_short_tokens_are_blamed_first() -> None:
    """A throttle that does not say: tokens; but calls, where far fewer tokens were used than are known to be taken."""
    allowance = Allowance(CallQuota())
    allowance.on_throttled(allowance.reserve(50_000.0, now=0.0), None, None, now=0.0)
    assert allowance.state()[0] == 0.0
    allowance.restore(0.0, 50_000.0)
    for _ in range(30):
        held = allowance.reserve(10.0, now=300.0)
    assert [m.what for m in allowance.on_throttled(held, None, None, now=300.1)] == [REQUESTS]


@pytest.mark.parametrize("sizes", [(-1.0, 5.0), (float("nan"), 5.0), (5.0, float("inf"))])
def test_nonsense_is_no_size(sizes: tuple[float, float]) -> None:
    """A checkpoint that says so is refused."""
    with pytest.raises(ValueError, match="finite"):
        Allowance(CallQuota()).restore(*sizes)


def test_a_checkpoint_keeps_what_was_learned_and_leaves_what_is_stated() -> None:
    """Another life begins with the learned size; the operator's word is not changed by a checkpoint."""

    def life(quota: CallQuota | None) -> Controller:
        policy = Policy("test", (RequestClass("all"),), (on_demand(quota=quota),))
        return Controller(policy, HeuristicEstimator(), rng=Random(0))

    first, again, stated = life(None), life(None), life(AWS_EXAMPLE)
    learned = first.fleet.members[DeploymentName("d")].allowance
    assert learned is not None
    learned.restore(0.0, 77_000.0)
    kept = take(first, at=1.0)
    for one in (again, stated):
        restore(one, kept)
    sizes = [one.fleet.members[DeploymentName("d")].allowance for one in (again, stated)]
    assert [size.state()[1] for size in sizes if size is not None] == [77_000.0, 2_000_000.0]


def handed_out(*deployments: Deployment) -> list[Allowance | None]:
    members = [Member(d, Bounds()) for d in deployments]
    Shared().hand_out(members)
    return [m.allowance for m in members]


def test_tiers_and_operations_share_one_quota() -> None:
    """One model, region and role: lanes share; another target, role or an optimised latency has its own; reserved
    capacity and other backends have none."""
    first, lane, other, role, fast = handed_out(
        on_demand("a", quota=AWS_EXAMPLE),
        on_demand("b", lane=Lane.FLEX),
        on_demand("c", target="us.m"),
        on_demand("d", terms={"role_arn": "arn:aws:iam::123456789012:role/r"}),
        on_demand("e", terms={"latency": Latency.OPTIMIZED}),
    )
    assert first is lane
    assert first is not None and first.terms == AWS_EXAMPLE  # noqa: PT018
    assert len({id(x) for x in (first, other, role, fast)}) == 4
    assert handed_out(on_demand("p", kind=Kind.PROVISIONED)) == [None]
    assert handed_out(on_demand("v", address=Address("openai_http", "m"))) == [None]


def test_an_edit_keeps_what_was_learned() -> None:
    """The same terms keep the allowance, others begin anew."""
    shared, member = Shared(), Member(on_demand(), Bounds())
    shared.hand_out([member])
    learned = member.allowance
    shared.hand_out([member])
    assert member.allowance is learned
    member.deployment = on_demand(quota=AWS_EXAMPLE)
    shared.hand_out([member])
    assert member.allowance is not learned


def test_one_throttle_beside_few_calls_teaches_nothing() -> None:
    """It may be the doing of others in the account; a second within a minute is taken for our own."""
    allowance = Allowance(CallQuota())
    assert allowance.on_throttled(allowance.reserve(500.0, now=0.0), None, None, now=1.0) == []
    assert allowance.has_room(60_000.0, now=2.0)
    assert allowance.on_throttled(allowance.reserve(500.0, now=300.0), None, None, now=301.0) == []
    assert allowance.on_throttled(allowance.reserve(500.0, now=310.0), None, None, now=311.0) != []
