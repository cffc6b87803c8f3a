"""A check of given strength: it fails so many of the inadequate answers, and so many of the adequate ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random

from msgspec import Struct

from router.domain.errors import SettingsError
from router.ports.verify import Question
from router.sim.workload import WorkloadTruth

VERIFY = b'{"callback":"simulated"}'
"""What a request says whose answer is checked."""
_FIELDS = ("catch", "alarm", "wait")


class Strength(Struct, frozen=True):
    """`catch`: share of the inadequate answers that fail; `alarm`: share of the adequate ones that fail. Equal shares
    make a check that says nothing. `wait` is what a verdict takes, in seconds."""

    catch: float
    alarm: float
    wait: float = 0.0


def read_strength(text: str) -> Strength:
    """`catch=0.7,alarm=0.05` and perhaps `,wait=0.2`; raises `SettingsError` where it is not that."""
    fields: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            fields[name] = float(value)
        except ValueError:
            fields[""] = 0.0
    is_share = all(0.0 <= fields.get(name, -1.0) <= 1.0 for name in _FIELDS[:2])
    if not is_share or not fields.keys() <= set(_FIELDS) or not 0.0 <= fields.get("wait", 0.0) < float("inf"):
        raise SettingsError(
            f"`{text}` is no check: say for example catch=0.7,alarm=0.05, the shares of inadequate and of adequate"
            " answers that fail it, and wait=0.2 for the seconds that it takes"
        )
    return Strength(**fields)


class SimulatedChecks:
    """Implements `router.ports.verify.Verifier`. A verdict depends on seed, request and model alone."""

    def __init__(
        self,
        strength: Strength,
        truth: WorkloadTruth,
        models: Mapping[str, str],
        references: Mapping[str, str | None],
        *,
        seed: int,
    ) -> None:
        """`models` by deployment; `references` by request id: the model whose quality is the standard, if any."""
        self._strength, self._truth, self._seed = strength, truth, seed
        self._models, self._references = models, references

    def refusal(self, topic: str) -> str | None:
        """Everybody can be asked."""
        return None

    async def verdict(self, question: Question, *, within_s: float) -> bool | None:
        """See `router.ports.verify.Verifier.verdict`; `None` where no truth is known."""
        model, strength = self._models[question.deployment], self._strength
        reference = self._references.get(question.request_id)
        adequate = self._truth.adequate(question.request_id, model, reference=reference)
        if strength.wait > 0.0:
            await asyncio.sleep(min(strength.wait, within_s))
        if adequate is None or strength.wait > within_s:
            return None
        fails = strength.alarm if adequate else strength.catch
        return Random(f"{self._seed}/check/{question.request_id}/{model}").random() >= fails
