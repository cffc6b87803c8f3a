"""One call to a model from its admission to its bill, for every operation alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from router.doubles.aws.call import AwsError, Call, Event
from router.doubles.aws.models import Answer, Bill, Guardrail, Lane, Model, cut
from router.doubles.aws.runtime.cache import Split
from router.doubles.aws.runtime.places import Place, find_place
from router.doubles.aws.runtime.prompt import Prompt
from router.doubles.aws.runtime.quota import Holder, Reservation
from router.doubles.aws.world import World


@dataclass(slots=True)
class Asked:
    """What a call asks for beside its prompt. `None`: nothing was said."""

    latency: str | None = None
    tier: str | None = None
    guardrail: str | None = None


@dataclass(slots=True)
class Serving:
    """A call being served. `tokens` is how long the model's whole answer is and `made` how much of it has been given;
    `latency` and `tier` are what is served, which may be less than what was asked for; `blocked` is the side that the
    guardrail stopped, `input` or `output`."""

    world: World
    call: Call
    prompt: Prompt
    place: Place
    answer: Answer
    tokens: int
    split: Split
    held: Reservation
    lane: Lane
    latency: str
    tier: str
    blocked: str | None
    began: float
    made: int = 0
    first_ms: int | None = None

    async def first_token(self) -> None:
        """Wait as long as the model needs for its first token, loading included."""
        if self.blocked == "input":
            return
        speed, key = self.place.model.speed, f"{self.place.kind} {self.place.model.id}"
        cold = speed.cold_start_s if self.world.warm_until.get(key, self.began) <= self.began else 0.0
        self.world.warm_until[key] = self.began + speed.warm_s
        computed = self.split.fresh + self.split.written
        await self.world.sleep(cold + self.lane.time * (speed.first_token_s + computed * speed.input_token_s))
        self.first_ms = self.elapsed_ms()
        self.world.cache.keep(cache_scope(self.call, self.place), self.split.kept, now=self.world.now())

    async def next_token(self) -> None:
        """Wait the gap between two tokens."""
        await self.world.sleep(self.lane.time * self.place.model.speed.output_token_s)

    async def whole(self) -> None:
        """Wait for the whole answer."""
        await self.first_token()
        self.made = self.tokens
        await self.world.sleep(self.lane.time * self.place.model.speed.output_token_s * max(0, self.tokens - 1))

    async def pieces(self, pieces: Sequence[Event]) -> AsyncIterator[Event]:
        """The pieces of an answer in the time that the model takes for them: the tokens are spread over them."""
        for index, piece in enumerate(pieces, 1):
            await (self.first_token() if index == 1 else self.next_token())
            self.made = self.tokens * index // len(pieces)
            yield piece

    def close(self) -> None:
        """Settle the quota and write the bill: for what was made, also when the client has left."""
        split, model = self.split, self.place.model
        used = split.fresh + split.written + self.held.quota.output_burndown * self.made
        self.world.quotas.settle(self.held, used, now=self.world.now())
        long = split.written_for("1h")
        usd = self.lane.price * model.prices.usd(split.fresh, split.read, split.written, self.made, long=long)
        self.world.bills.append(
            Bill(
                at=self.world.at(),
                operation=self.call.operation,
                model=self.held.holder.model,
                model_id=self.call.params["modelId"],
                region=self.call.region,
                account=self.call.account,
                tier="provisioned" if self.place.reserved else self.tier,
                latency=self.latency,
                input_tokens=split.fresh,
                output_tokens=self.made,
                cache_read_tokens=split.read,
                cache_write_tokens=split.written,
                usd=0.0 if self.place.reserved else usd,
                quota_tokens=used,
                latency_ms=self.elapsed_ms(),
                first_token_ms=self.first_ms if "Stream" in self.call.operation else None,
            )
        )

    def elapsed_ms(self) -> int:
        """Milliseconds since the call came."""
        return round((self.world.now() - self.began) * 1e3)


def cache_scope(call: Call, place: Place) -> str:
    """Whose prompt cache it is: caches are not shared between accounts, regions or models."""
    return f"{call.account} {call.region} {place.model.id}"


def admit(world: World, call: Call, prompt: Prompt, asked: Asked) -> Serving:
    """Reserve the quota and settle who serves the call, and how; raises `AwsError` for what Bedrock refuses."""
    now = world.now()
    place = find_place(world, call.params["modelId"], prompt.tokens)
    model = place.model
    limit = model.max_tokens if prompt.max_tokens is None else prompt.max_tokens
    tier = asked.tier or "default"
    _check(model, prompt, tier)
    guardrail = _guardrail(world, asked.guardrail)
    called = call.params["modelId"] if model is world.default else model.id
    holder = Holder(call.account, call.region, called, place.kind)
    held = _optimized(world, place, asked, holder, prompt.tokens + limit, now)
    latency, lane = ("standard", model.tiers[tier])
    if held is not None and model.optimized is not None:
        latency, lane = "optimized", model.optimized.lane
    else:
        reserved = world.quotas.reserve(holder, place.quota, prompt.tokens + limit, now=now)
        if isinstance(reserved, str):
            raise AwsError("ThrottlingException", reserved)
        held = reserved
    answer = cut(model.answer(call), limit)
    tokens = len(answer.pieces) if answer.output_tokens is None else answer.output_tokens
    split = _split(world, call, place, prompt, answer)
    answer, blocked = _guarded(guardrail, prompt, answer)
    if blocked == "input":
        split, tokens = Split(0, 0, 0), 0
    return Serving(world, call, prompt, place, answer, tokens, split, held, lane, latency, tier, blocked, now)


def _check(model: Model, prompt: Prompt, tier: str) -> None:
    if prompt.tokens > model.window_tokens:
        raise AwsError("ValidationException", "Input is too long for requested model.")
    if prompt.max_tokens is not None and prompt.max_tokens > model.max_tokens:
        limit = f"maximum tokens you requested exceeds the model limit of {model.max_tokens}"
        raise AwsError("ValidationException", f"The {limit}. Try again with a maximum tokens value that is lower.")
    if tier not in model.tiers:
        raise AwsError("ValidationException", f"The service tier {tier} is not supported for this model.")


def _optimized(world: World, place: Place, asked: Asked, holder: Holder, tokens: int, now: float) -> Reservation | None:
    """A share of the optimised quota; where it is used up the call goes on as standard without a word but the
    response's."""
    if asked.latency != "optimized":
        return None
    if place.model.optimized is None:
        raise AwsError("ValidationException", "Latency performance configuration is not supported for this model.")
    mine = Holder(holder.account, holder.region, holder.model, "optimized")
    held = world.quotas.reserve(mine, place.model.optimized.quota, tokens, now=now)
    return None if isinstance(held, str) else held


def _split(world: World, call: Call, place: Place, prompt: Prompt, answer: Answer) -> Split:
    """How the prompt's tokens are accounted; an answer that says its own counts is believed."""
    total = prompt.tokens if answer.input_tokens is None else answer.input_tokens
    if answer.cache_read_tokens is not None or answer.cache_write_tokens is not None:
        return Split(answer.cache_read_tokens or 0, answer.cache_write_tokens or 0, total)
    least = place.model.cache_min_tokens
    return world.cache.look(cache_scope(call, place), prompt.prefixes, total, least, now=world.now())


def _guardrail(world: World, name: str | None) -> Guardrail | None:
    if name is None:
        return None
    if name not in world.guardrails:
        problem = "The guardrail identifier or version provided in the request does not exist."
        raise AwsError("ValidationException", problem)
    return world.guardrails[name]


def _guarded(guardrail: Guardrail | None, prompt: Prompt, answer: Answer) -> tuple[Answer, str | None]:
    """The answer, or the guardrail's message in its place with which side it blocked: `input` or `output`."""
    if guardrail is None:
        return answer, None
    said = Answer((guardrail.message,), stop_reason="guardrail_intervened")
    if matched(guardrail, " ".join(prompt.texts)):
        return said, "input"
    if matched(guardrail, "".join(answer.pieces)):
        return said, "output"
    return answer, None


def matched(guardrail: Guardrail, text: str) -> list[str]:
    """The guardrail's words that are in a text."""
    lower = text.lower()
    return [word for word in guardrail.words if word.lower() in lower]
