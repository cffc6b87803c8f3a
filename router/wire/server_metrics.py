"""What a model server's Prometheus page tells of its load.

Names as the servers document them: vLLM (docs.vllm.ai, "Production Metrics"; `gpu_cache_usage_perc` until V1), SGLang
(docs.sglang.io, "Production Metrics"; started with `--enable-metrics`), TGI (huggingface.co/docs/text-generation-
inference, "Metrics") and llama.cpp's server (tools/server/README.md; started with `--metrics`).

One page may hold several series of a name, by model, LoRA or engine: sequences are added up, of cache usages the
greatest counts. Ranks that compute the same sequences together (SGLang with `--enable-metrics-for-all-schedulers`)
count once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

_SERIES = re.compile(rb"([^\s{]+)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\s*")
_RANK = re.compile(rb'(?:^|,)\s*(?:tp_rank|pp_rank|moe_ep_rank)="[^"]*"')


class Scrape(StrEnum):
    """How asking a server ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


class ServerLoad(Struct, frozen=True):
    """Sequences that a server has in its batch and in its queue, and the used share of its KV cache (`None`: it tells
    none). `server` is the kind of server."""

    server: str
    running: int
    waiting: int
    kv_ratio: float | None


class NoLoad(Struct, frozen=True):
    """Why there are no figures; `reason` is for people."""

    result: Scrape
    reason: str


class _Names(Struct, frozen=True):
    server: str
    running: bytes
    waiting: bytes
    usages: tuple[bytes, ...]


_KNOWN = (
    _Names(
        "vLLM",
        b"vllm:num_requests_running",
        b"vllm:num_requests_waiting",
        (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    _Names("SGLang", b"sglang:num_running_reqs", b"sglang:num_queue_reqs", (b"sglang:token_usage",)),
    _Names("TGI", b"tgi_batch_current_size", b"tgi_queue_size", ()),
    _Names(
        "llama.cpp",
        b"llamacpp:requests_processing",
        b"llamacpp:requests_deferred",
        (b"llamacpp:kv_cache_usage_ratio",),
    ),
)
_WANTED = tuple(name for one in _KNOWN for name in (one.running, one.waiting, *one.usages))
_Page = Mapping[bytes, Mapping[bytes, float]]
"""By name, then by labels without ranks; NaN stands for what is no figure."""


def read_load(page: bytes) -> ServerLoad | NoLoad:
    """The load that a page of metrics tells; a figure that is missing or no number is never taken for 0."""
    found = _series(page)
    names = next((one for one in _KNOWN if one.running in found or one.waiting in found), None)
    if names is None:
        return NoLoad(Scrape.UNREADABLE, "it tells no load under a name of vLLM, SGLang, TGI or llama.cpp")
    for there, missing in ((names.running, names.waiting), (names.waiting, names.running)):
        if missing not in found:
            return NoLoad(Scrape.UNREADABLE, f"it tells {there.decode()} and no {missing.decode()}")
    running, waiting = (sum(found[name].values()) for name in (names.running, names.waiting))
    if math.isnan(running) or math.isnan(waiting):
        wrong = names.running if math.isnan(running) else names.waiting
        return NoLoad(Scrape.UNREADABLE, f"a figure of {wrong.decode()} is no number of sequences")
    usage = next((found[name] for name in names.usages if name in found), {})
    shares = [share for share in usage.values() if not math.isnan(share)]
    return ServerLoad(names.server, round(running), round(waiting), max(shares, default=None))


def _series(page: bytes) -> _Page:
    """The series of known names."""
    found: dict[bytes, dict[bytes, float]] = {}
    for line in page.split(b"\n"):
        if not line.startswith(_WANTED) or (read := _SERIES.fullmatch(line)) is None:
            continue
        name, labels, text = read.groups()
        if name in _WANTED:
            series, key = found.setdefault(name, {}), _RANK.sub(b"", labels or b"").lstrip(b",")
            value, before = _number(text), series.get(key, 0.0)
            series[key] = value if math.isnan(value) else max(value, before)
    return found


def _number(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) and value >= 0.0 else math.nan
