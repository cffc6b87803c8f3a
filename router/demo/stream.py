"""What traffic does the demo have? Bursty arrivals of a mixed stream, with constants fitted to public traces.

Each source of traffic is a two-state Markov-modulated Poisson process with lognormal lengths, fitted by
`bench/fit_arrivals.py` (the busiest hour of the longer traces; requests/s and mean stay in s; of ln tokens):

| source       | trace                                | quiet          | busy           | input       | output      |
|--------------|--------------------------------------|----------------|----------------|-------------|-------------|
| conversation | Azure LLM inference 2023, conv       | 4.828 / 104.84 | 7.049 / 56.47  | 6.713 .967  | 5.041 .908  |
| code         | Azure LLM inference 2023, code       | 0.017 / 20.49  | 10.640 / 8.51  | 6.998 1.344 | 2.775 .838  |
| documents    | ServeGen, m-large, day 1             | 3.146 / 16.42  | 14.203 / 10.81 | 6.628 .786  | 3.690 1.539 |
| automation   | ServeGen, m-small, day 5             | 2.515 / 21.37  | 45.352 / 3.85  | 5.514 .381  | 3.121 1.315 |

(Azure's traces are CC-BY-4.0, ServeGen's Apache-2.0.) The rates of all are scaled by one factor to the rate that
the demo is asked for; the stays are left as they are, so that bursts last as long as in the traces.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random

from msgspec import Struct

from router.demo.prompts import USE_CASES, UseCase, write

_INPUT_MAX = 3000
_OUTPUT_MAX = 800
_DIFFICULTY_SPREAD = 0.10
_STREAMED_RATIO = 0.3
_EXPIRY_S = (60, 90, 120)
_TENANTS = ("atelier", "bakery", "clinic", "depot")


class LogNormal(Struct, frozen=True):
    """Tokens whose logarithm is normal."""

    mu: float
    sigma: float

    def draw(self, rng: Random, most: int) -> int:
        """A number of tokens from 1 to `most`."""
        return max(1, min(most, round(rng.lognormvariate(self.mu, self.sigma))))


class State(Struct, frozen=True):
    """Requests a second, and how long that holds on average."""

    per_s: float
    stay_s: float


class Traffic(Struct, frozen=True):
    """One source: two states that alternate, and the lengths of its requests."""

    quiet: State
    busy: State
    input_tokens: LogNormal
    output_tokens: LogNormal

    @property
    def mean_per_s(self) -> float:
        """Requests a second in the long run."""
        states = (self.quiet, self.busy)
        return sum(s.per_s * s.stay_s for s in states) / sum(s.stay_s for s in states)

    def arrivals(self, rng: Random, scale: float) -> Iterator[float]:
        """Times in seconds from 0, without end; rates times `scale`. Starts in a state by its share of time."""
        now = 0.0
        state = rng.choices((self.quiet, self.busy), weights=(self.quiet.stay_s, self.busy.stay_s))[0]
        while True:
            until = now + rng.expovariate(1 / state.stay_s)
            now += rng.expovariate(state.per_s * scale)
            while now < until:
                yield now
                now += rng.expovariate(state.per_s * scale)
            now, state = until, self.busy if state is self.quiet else self.quiet


TRAFFIC = {
    "conversation": Traffic(
        State(4.828, 104.84), State(7.049, 56.47), LogNormal(6.713, 0.967), LogNormal(5.041, 0.908)
    ),
    "code": Traffic(State(0.017, 20.49), State(10.640, 8.51), LogNormal(6.998, 1.344), LogNormal(2.775, 0.838)),
    "documents": Traffic(State(3.146, 16.42), State(14.203, 10.81), LogNormal(6.628, 0.786), LogNormal(3.690, 1.539)),
    "automation": Traffic(State(2.515, 21.37), State(45.352, 3.85), LogNormal(5.514, 0.381), LogNormal(3.121, 1.315)),
}


class DemoRequest(Struct, frozen=True):
    """One request of the demo and what only the demo knows of it: its difficulty and the length of its answer."""

    id: str
    at_s: float
    use_case: str
    tenant: str
    system: str
    prompt: str
    stream: bool
    expiry_s: int
    difficulty: float
    output_tokens: int


def requests(*, seed: int, per_s: float, run: str = "") -> Iterator[DemoRequest]:
    """The stream: all sources together, without end, in order of arrival, on average `per_s` a second. `run` goes into
    the ids, so that a second run on the same journal is not taken for the first come again."""
    scale = per_s / sum(traffic.mean_per_s for traffic in TRAFFIC.values())
    sources = [_source(name, Random(f"{seed}/{name}"), scale, run) for name in TRAFFIC]
    yield from heapq.merge(*sources, key=lambda request: request.at_s)


def _source(name: str, rng: Random, scale: float, run: str) -> Iterator[DemoRequest]:
    use_cases = [use_case for use_case in USE_CASES if use_case.traffic == name]
    weights = [use_case.share for use_case in use_cases]
    for number, at_s in enumerate(TRAFFIC[name].arrivals(rng, scale)):
        yield _request(f"{run}{name}-{number}", at_s, rng.choices(use_cases, weights)[0], rng)


def _request(request_id: str, at_s: float, use_case: UseCase, rng: Random) -> DemoRequest:
    traffic = TRAFFIC[use_case.traffic]
    difficulty, prompt = write(rng, use_case, traffic.input_tokens.draw(rng, _INPUT_MAX))
    return DemoRequest(
        id=f"demo-{rng.getrandbits(32):08x}-{request_id}",
        at_s=at_s,
        use_case=use_case.name,
        tenant=rng.choice(_TENANTS),
        system=use_case.system,
        prompt=prompt,
        stream=rng.random() < _STREAMED_RATIO,
        expiry_s=rng.choice(_EXPIRY_S),
        difficulty=difficulty + rng.gauss(0.0, _DIFFICULTY_SPREAD),
        output_tokens=traffic.output_tokens.draw(rng, _OUTPUT_MAX),
    )
