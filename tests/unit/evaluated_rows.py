"""An artefact that goes by the length of a prompt, and outcomes to hold it against, for tests of evaluation."""

from __future__ import annotations

import json
from random import Random

import numpy as np

from router.complexity.features import POSITION
from router.complexity.hashing import BUCKETS, SLOTS
from router.complexity.outcomes import Example, Observed
from router.complexity.trained import (
    BOUND_POINTS,
    DENSE,
    LEAF_CODES,
    SPLITS,
    HeadInfo,
    Heads,
    Inputs,
    Model,
)
from router.domain.deployment import Tier

HOSTILE = '<script>alert("x")</script><img src=http://example.com/a.png> & \u202e\x00'


def model() -> Model:
    """Two heads that go by the length of the prompt alone: the longer, the less small is trusted."""
    linear = np.zeros((2, DENSE))
    linear[0, POSITION["log_words"]] = -8.0
    info = tuple(HeadInfo(name, tier, 100, 0.5, (0,), {}) for name, tier in (("S", Tier.SMALL), ("L", Tier.LARGE)))
    inputs = Inputs(np.full(DENSE, 2.5), np.ones(DENSE), np.zeros(SLOTS, np.uint16), 0.1)
    slopes = np.tile([4.0, 0.0, 0.0], (2, 1))
    bounds = np.tile(np.linspace(0.05, 0.95, BOUND_POINTS), (2, 1))
    heads = Heads(
        np.zeros((2, 1, SPLITS), np.int64),
        np.zeros((2, 1, SPLITS)),
        np.zeros((2, 1, LEAF_CODES), np.float32),
        linear,
        np.zeros((2, BUCKETS), np.float32),
        np.array([[0.0, 0.0, 0.0], [0.0, 8.0, 0.0]]),
        slopes,
        slopes.copy(),
        bounds,
        np.zeros_like(bounds),
        bounds.copy(),
    )
    return Model(info, inputs, heads)


def examples(count: int = 140, cost: bool = True) -> list[Example]:
    """Small does worse the longer the prompt; two sources; one prompt is hostile."""
    rng, made = Random(3), []
    for n in range(count):
        words = 1 + n % 40
        right = float(rng.random() > words / 45)
        prompt = HOSTILE if n == 7 else " ".join(["secretword", *["word"] * words])
        prices = (1e-4, 2e-3) if cost else (None, None)
        outcomes = {"S": Observed(0.0 if n == 7 else right, prices[0]), "L": Observed(1.0, prices[1])}
        made.append(Example(prompt, outcomes, f"src<{n % 2}>", f"id{n}"))
    return made


def line(example: Example) -> str:
    seen = {
        m: {"quality": o.quality} | ({} if o.cost_usd is None else {"cost_usd": o.cost_usd})
        for m, o in example.outcomes.items()
    }
    return json.dumps({"id": example.id, "source": example.source, "prompt": example.prompt, "outcomes": seen})
