"""The file that `train` writes: a readable header and raw arrays. No pickle; nothing in it is run.

    8 bytes   b"RTRMODEL"
    4 bytes   length of the header, little endian
    header    JSON: format and feature versions, heads, lineage, calibration, one entry per array
    payload   the arrays one after another, C order, little endian, zlib-compressed as one stream

A reader knows every array's name and shape from the header's numbers of heads and trees, so a file can claim neither
sizes nor types of its own. Sizes are bounded before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.features import FEATURES_VERSION, NAMES
from router.complexity.hashing import BUCKETS, SCHEME, SLOTS
from router.complexity.lexicon import ACTIONS, LEXICON
from router.complexity.trained import BOUND_POINTS, DENSE, LEAF_CODES, SPLITS, HeadInfo, Heads, Inputs, Model
from router.domain.errors import RouterError

MAGIC: Final = b"RTRMODEL"
FORMAT: Final = 3
MAX_BYTES: Final = 64 << 20
MAX_HEADER_BYTES: Final = 1 << 20
MAX_HEADS: Final = 64
MAX_TREES: Final = 512


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of outcomes that a model was fitted on."""

    name: str
    sha256: str
    rows: int


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """Out-of-fold figures of one head. `auc` is null where only one outcome was seen."""

    subject: str
    rows: int
    adequate_ratio: float
    auc: float | None
    brier: float
    ece: float


class Lineage(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model comes from."""

    files: tuple[File, ...]
    seed: int
    folds: int
    versions: dict[str, str]
    calibration: tuple[Calibration, ...]


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """What stands before the arrays. `half` says that n-gram weights are stored in 16 bits."""

    format: int
    scheme: str
    features: str
    trees: int
    half: bool
    usual_unseen: float
    heads: tuple[HeadInfo, ...]
    lineage: Lineage
    payload_bytes: int
    payload_sha256: str


class Artefact(Struct, frozen=True):
    """A model with its lineage."""

    model: Model
    lineage: Lineage


_REAL: Final = (
    "center",
    "scale",
    "split_threshold",
    "linear",
    "intercepts",
    "adequate",
    "quality",
    "bound_at",
    "lift",
    "bound",
)
"""Arrays that stay in 64 bits."""


def features_name() -> str:
    """Names the dense features, their order and the word lists; an artefact of others is refused."""
    told = msgspec.json.encode((NAMES, LEXICON, ACTIONS))
    return f"{FEATURES_VERSION}/{hashlib.sha256(told).hexdigest()[:12]}"


def digest(data: bytes) -> str:
    """What names an artefact: SHA-256 of its bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layout(heads: int, trees: int, *, half: bool) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, dtype and shape of every array, in order."""
    return (
        ("center", "<f8", (DENSE,)),
        ("scale", "<f8", (DENSE,)),
        ("commonness", "<u2", (SLOTS,)),
        ("split_feature", "<u2", (heads, trees, SPLITS)),
        ("split_threshold", "<f8", (heads, trees, SPLITS)),
        ("leaves", "<f4", (heads, trees, LEAF_CODES)),
        ("linear", "<f8", (heads, DENSE)),
        ("hashed", "<f2" if half else "<f4", (heads, BUCKETS)),
        ("intercepts", "<f8", (heads, 3)),
        ("adequate", "<f8", (heads, 3)),
        ("quality", "<f8", (heads, 3)),
        ("bound_at", "<f8", (heads, BOUND_POINTS)),
        ("lift", "<f8", (heads, BOUND_POINTS)),
        ("bound", "<f8", (heads, BOUND_POINTS)),
    )


def dump(model: Model, lineage: Lineage, *, half: bool = False) -> bytes:
    """The bytes of a model. `half` stores n-gram weights in 16 bits: half the size, log odds change by about 1e-4."""
    trees = model.heads.split_feature.shape[1]
    parts = []
    for name, dtype, shape in _layout(len(model.info), trees, half=half):
        array = getattr(model.inputs if hasattr(model.inputs, name) else model.heads, name)
        assert array.shape == shape, name
        parts.append(np.ascontiguousarray(array, dtype).tobytes())
    payload = zlib.compress(b"".join(parts), 9)
    header = msgspec.json.encode(
        Header(
            format=FORMAT,
            scheme=SCHEME,
            features=features_name(),
            trees=trees,
            half=half,
            usual_unseen=model.inputs.usual_unseen,
            heads=model.info,
            lineage=lineage,
            payload_bytes=len(payload),
            payload_sha256=hashlib.sha256(payload).hexdigest(),
        )
    )
    return MAGIC + struct.pack("<I", len(header)) + header + payload


def load(data: bytes) -> Artefact:
    """The model in some bytes; `RouterError` (code `invalid_artefact`) says what is wrong with them."""
    header, payload = _split(data)
    _check(header)
    arrays = _arrays(header, payload)
    bad = [name for name, array in arrays.items() if not _sound(name, array)]
    if bad or not (np.abs(arrays["scale"]) > 0.0).all():
        raise _wrong(f"array {', '.join(bad) or 'scale'} holds what no fitted model has")
    if int(arrays["split_feature"].max(initial=0)) >= DENSE:
        raise _wrong("a tree asks for a feature that does not exist")
    real = {name: array.astype(np.float64) for name, array in arrays.items() if name in _REAL}
    inputs = Inputs(real["center"], real["scale"], arrays["commonness"].astype(np.uint16), header.usual_unseen)
    heads = Heads(
        split_feature=arrays["split_feature"].astype(np.int64),
        leaves=arrays["leaves"].astype(np.float32),
        hashed=arrays["hashed"].astype(np.float32),
        **{name: real[name] for name in _REAL if name not in ("center", "scale")},
    )
    return Artefact(Model(header.heads, inputs, heads, digest(data)), header.lineage)


def _sound(name: str, array: NDArray[np.generic]) -> bool:
    """Whether an array holds numbers only. A split that a tree does not need has an infinite threshold."""
    if name == "split_threshold":
        return not np.isnan(array).any()
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _wrong(why: str) -> RouterError:
    return RouterError(f"not a usable artefact: {why}", code="invalid_artefact")


def _split(data: bytes) -> tuple[Header, bytes]:
    start = len(MAGIC) + 4
    if len(data) > MAX_BYTES:
        raise _wrong(f"{len(data)} bytes, more than {MAX_BYTES}")
    if len(data) < start or not data.startswith(MAGIC):
        raise _wrong("it does not begin as one")
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    if length > MAX_HEADER_BYTES or start + length > len(data):
        raise _wrong("its header is cut short or too long")
    try:
        header = msgspec.json.decode(data[start : start + length], type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"its header: {error}") from None
    return header, data[start + length :]


def _check(header: Header) -> None:
    """Refuse what this program cannot read, before any array is touched."""
    if header.format != FORMAT:
        raise _wrong(f"format {header.format}, this program reads {FORMAT}; train again")
    if header.scheme != SCHEME or header.features != features_name():
        raise _wrong("it was fitted on other features than this program computes; train again")
    if not 0 < len(header.heads) <= MAX_HEADS or not 0 < header.trees <= MAX_TREES:
        raise _wrong(f"{len(header.heads)} heads of {header.trees} trees")
    if not 0.0 <= header.usual_unseen <= 1.0:
        raise _wrong("usual_unseen is no share")
    for key in ("model", "tier"):
        named = [value for h in header.heads if (value := getattr(h, key)) is not None]
        if len(named) != len(set(named)):
            raise _wrong(f"two heads for one {key}")


def _arrays(header: Header, payload: bytes) -> dict[str, NDArray[np.generic]]:
    if len(payload) != header.payload_bytes or hashlib.sha256(payload).hexdigest() != header.payload_sha256:
        raise _wrong("its arrays are damaged")
    layout = _layout(len(header.heads), header.trees, half=header.half)
    sizes = [np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in layout]
    unpack = zlib.decompressobj()
    try:
        raw = unpack.decompress(payload, sum(sizes))
        tail = unpack.decompress(unpack.unconsumed_tail, 1)
    except zlib.error as error:
        raise _wrong(f"its arrays: {error}") from None
    if len(raw) != sum(sizes) or tail or not unpack.eof or unpack.unused_data:
        raise _wrong("its arrays have not the size that its header says")
    arrays, at = {}, 0
    for (name, dtype, shape), size in zip(layout, sizes, strict=True):
        arrays[name] = np.frombuffer(raw, dtype, math.prod(shape), at).reshape(shape)
        at += size
    return arrays
