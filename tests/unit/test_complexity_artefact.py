"""The artefact: what goes in comes out, and nothing hostile gets through."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.complexity.artefact import FORMAT, MAGIC, MAX_BYTES, Calibration, File, Lineage, digest, dump, load
from router.complexity.evaluate import request_of
from router.complexity.hashing import BUCKETS, SLOTS
from router.complexity.trained import (
    BOUND_POINTS,
    DENSE,
    LEAF_CODES,
    SPLITS,
    HeadInfo,
    Heads,
    Inputs,
    Model,
    TrainedEstimator,
)
from router.domain.deployment import Tier
from router.domain.errors import RouterError

TREES = 3


def made(seed: int = 0) -> tuple[Model, Lineage]:
    """A random model of two heads."""
    rng = np.random.default_rng(seed)
    heads = Heads(
        split_feature=rng.integers(0, DENSE, (2, TREES, SPLITS)),
        split_threshold=rng.normal(size=(2, TREES, SPLITS)),
        leaves=rng.normal(size=(2, TREES, LEAF_CODES)).astype(np.float32),
        linear=rng.normal(size=(2, DENSE)),
        hashed=rng.normal(size=(2, BUCKETS)).astype(np.float32),
        intercepts=rng.normal(size=(2, 3)),
        adequate=rng.normal(size=(2, 3)),
        quality=rng.normal(size=(2, 3)),
        bound_at=np.sort(rng.random((2, BOUND_POINTS))),
        lift=rng.normal(0.0, 0.02, (2, BOUND_POINTS)),
        bound=np.sort(rng.random((2, BOUND_POINTS))),
    )
    inputs = Inputs(rng.normal(size=DENSE), rng.random(DENSE) + 0.5, rng.integers(0, 9, SLOTS).astype(np.uint16), 0.2)
    info = (
        HeadInfo("tiny", Tier.SMALL, 90, 0.6, (0,), {"qa": 90}),
        HeadInfo("big", Tier.LARGE, 90, 0.8, (0,), {"qa": 90}),
    )
    table = (Calibration("tiny", 90, 0.6, 0.7, 0.2, 0.01), Calibration("big", 90, 0.8, None, 0.1, 0.02))
    return Model(info, inputs, heads), Lineage((File("a.jsonl", "0" * 64, 90),), 0, 5, {"numpy": "2"}, table)


DATA = dump(*made())
HEADER_AT = len(MAGIC) + 4
(LENGTH,) = struct.unpack_from("<I", DATA, len(MAGIC))
PAYLOAD = DATA[HEADER_AT + LENGTH :]


def forged(change: Callable[[dict[str, Any]], None], payload: bytes = PAYLOAD) -> bytes:
    """The same file with another header, whose sums over the payload are right."""
    header = msgspec.json.decode(DATA[HEADER_AT : HEADER_AT + LENGTH])
    header["payload_bytes"], header["payload_sha256"] = len(payload), hashlib.sha256(payload).hexdigest()
    change(header)
    text = msgspec.json.encode(header)
    return MAGIC + struct.pack("<I", len(text)) + text + payload


def test_round_trip() -> None:
    """Every array, head and line of lineage comes back, and writing it again gives the same bytes."""
    model, lineage = made()
    back = load(DATA)
    for part in ("inputs", "heads"):
        ours, theirs = getattr(model, part), getattr(back.model, part)
        for name in ours.__struct_fields__:
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert (back.model.info, back.lineage) == (model.info, lineage)
    assert dump(back.model, back.lineage) == DATA
    assert back.model.digest == digest(DATA) == f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def test_the_header_can_be_read_by_people() -> None:
    """Lineage stands in plain JSON at the head of the file."""
    header = msgspec.json.decode(DATA[HEADER_AT : HEADER_AT + LENGTH])
    assert header["format"] == FORMAT
    assert header["lineage"]["files"][0]["name"] == "a.jsonl"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin"),
        (b"PK\x03\x04 an npz file", "does not begin"),
        (MAGIC, "does not begin"),
        (MAGIC + struct.pack("<I", 1 << 31) + b"{}", "header is cut"),
        (MAGIC + struct.pack("<I", 2) + b"{}", "header"),
        (MAGIC + struct.pack("<I", 4) + b"\xff\xfe\x00{", "header"),
        (MAGIC + struct.pack("<I", 100_000) + b"[" * 100_000, "header"),
        (DATA[:-1], "damaged"),
        (DATA + b"x", "damaged"),
        (forged(lambda h: h.update(format=FORMAT + 1)), f"format {FORMAT + 1}"),
        (forged(lambda h: h.update(scheme="other")), "other features"),
        (forged(lambda h: h.update(features="0/0")), "other features"),
        (forged(lambda h: h.update(surprise=1)), "header"),
        (forged(lambda h: h.update(trees=10**9)), "trees"),
        (forged(lambda h: h.update(trees=-1)), "trees"),
        (forged(lambda h: h.update(trees=TREES + 1)), "size"),
        (forged(lambda h: h.update(trees=TREES - 1)), "size"),
        (forged(lambda h: h.update(half=True)), "size"),
        (forged(lambda h: h.update(heads=h["heads"] * 100)), "heads"),
        (forged(lambda h: h.update(heads=[])), "heads"),
        (forged(lambda h: h.update(heads=[h["heads"][0]] * 2)), "two heads"),
        (forged(lambda h: h["heads"][0].update(tier="huge")), "header"),
        (forged(lambda h: h.update(usual_unseen=-3.0)), "share"),
        (forged(lambda h: None, b"no zlib at all"), "arrays"),
        (forged(lambda h: None, zlib.compress(b"\0" * (200 << 20))), "size"),
        (forged(lambda h: None, PAYLOAD + PAYLOAD), "size"),
        (forged(lambda h: None, zlib.compress(b"\xff" * len(zlib.decompress(PAYLOAD)))), "no fitted model"),
        (b"\0" * (MAX_BYTES + 1), "bytes, more than"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(data: bytes, why: str) -> None:
    """Not an artefact, another version, forged sizes, a decompression bomb, not-a-numbers: each says what it is."""
    with pytest.raises(RouterError, match=why) as caught:
        load(data)
    assert caught.value.code == "invalid_artefact"


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_mutation_does_anything_but_fail_clearly(data: st.DataObject) -> None:
    """Bytes changed, cut out or put in anywhere in the header give a clear error, or a model that still predicts."""
    at = data.draw(st.integers(0, HEADER_AT + LENGTH + 8))
    cut = data.draw(st.integers(0, 12))
    mutated = DATA[:at] + data.draw(st.binary(max_size=12)) + DATA[at + cut :]
    try:
        model = load(mutated).model
    except RouterError as error:
        refused = error.code
    else:
        said = TrainedEstimator(model).estimate(request_of("what is this?"))
        refused = None
        assert 0.0 <= said.complexity <= 1.0
    assert refused in (None, "invalid_artefact")


@given(st.binary(max_size=400))
def test_noise_behind_the_magic_fails_clearly(noise: bytes) -> None:
    """Random bytes that claim to be an artefact are refused."""
    with pytest.raises(RouterError):
        load(MAGIC + noise)


@pytest.mark.parametrize("name", ["adequate", "linear", "hashed", "lift", "bound"])
def test_an_infinite_weight_is_refused(name: str) -> None:
    """Weights that would make every prediction not a number are told at loading, not at the first request."""
    model, lineage = made()
    table = getattr(model.heads, name).copy()
    table[0, 0] = np.inf
    with pytest.raises(RouterError, match=name):
        load(dump(msgspec.structs.replace(model, heads=msgspec.structs.replace(model.heads, **{name: table})), lineage))


def test_a_feature_beyond_the_last_is_refused() -> None:
    """A tree cannot read outside the feature row."""
    model, lineage = made()
    wild = msgspec.structs.replace(model.heads, split_feature=np.full((2, TREES, SPLITS), DENSE))
    with pytest.raises(RouterError, match="does not exist"):
        load(dump(msgspec.structs.replace(model, heads=wild), lineage))
