"""What a page of metrics tells of a server's load, in the words of each kind of server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.server_metrics import NoLoad, Scrape, ServerLoad, read_load

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
"""
SGLANG = b"""\
sglang:num_running_reqs{model_name="m"} 7.0
sglang:num_queue_reqs{model_name="m"} 1.0
sglang:token_usage{model_name="m"} 0.28
"""
TGI = (
    b"# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 3\n\n# TYPE tgi_queue_size gauge\ntgi_queue_size 12\n"
)
LLAMA = b"llamacpp:requests_processing 2\nllamacpp:requests_deferred 5\n"


@pytest.mark.parametrize(
    ("page", "load"),
    [
        (VLLM, ServerLoad("vLLM", 10, 3, 0.5)),
        (VLLM.replace(b"kv_cache_usage", b"gpu_cache_usage"), ServerLoad("vLLM", 10, 3, 0.5)),
        (VLLM.replace(b"\n", b"\r\n"), ServerLoad("vLLM", 10, 3, 0.5)),
        (SGLANG, ServerLoad("SGLang", 7, 1, 0.28)),
        (TGI, ServerLoad("TGI", 3, 12, None)),
        (LLAMA, ServerLoad("llama.cpp", 2, 5, None)),
    ],
)
def test_each_kind_of_server_is_known_by_its_names(page: bytes, load: ServerLoad) -> None:
    """Sequences of all engines are added up, the greatest usage counts; who tells no usage has none."""
    assert read_load(page) == load


def test_label_values_may_hold_anything() -> None:
    """A brace, a blank and a figure in a model's name, and a timestamp after the value, mislead nobody."""
    page = b'tgi_batch_current_size{model="a } 9 {b\\"} 7"} 4 1395066363000\ntgi_queue_size 1e0\n'
    assert read_load(page) == ServerLoad("TGI", 4, 1, None)


def test_ranks_that_run_the_same_sequences_count_once() -> None:
    """Tensor-parallel ranks tell the same batch each; data-parallel ones have batches of their own."""
    page = b"".join(
        b'sglang:%b{dp_rank="%d",model_name="m",tp_rank="%d"} %d\n' % (name, dp, tp, 4 + dp)
        for name in (b"num_running_reqs", b"num_queue_reqs")
        for dp in (0, 1)
        for tp in (0, 1, 2)
    )
    assert read_load(page) == ServerLoad("SGLang", 9, 9, None)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (b"", "no load under a name of vLLM"),
        (b"<html>not found</html>", "no load under a name of vLLM"),
        (b"# TYPE vllm:num_requests_running gauge\n", "no load under a name of vLLM"),
        (b"tgi_queue_size 0\n", "tgi_queue_size and no tgi_batch_current_size"),
        (b"vllm:num_requests_running 1\n", "vllm:num_requests_running and no vllm:num_requests_waiting"),
        (TGI.replace(b" 12", b" NaN"), "tgi_queue_size is no number of sequences"),
        (TGI.replace(b" 3", b" -1"), "tgi_batch_current_size is no number of sequences"),
        (TGI.replace(b" 3", b" many"), "tgi_batch_current_size is no number of sequences"),
        (VLLM.replace(b"8.0", b"+Inf"), "vllm:num_requests_running is no number of sequences"),
    ],
)
def test_what_is_not_told_is_not_taken_for_nothing(page: bytes, says: str) -> None:
    """Missing series and broken figures are no load of 0."""
    found = read_load(page)
    assert isinstance(found, NoLoad)
    assert found.result is Scrape.UNREADABLE
    assert says in found.reason


def test_a_usage_that_is_no_figure_leaves_the_sequences() -> None:
    """The share of the cache is then unknown."""
    assert read_load(SGLANG.replace(b"0.28", b"NaN")) == ServerLoad("SGLang", 7, 1, None)


@given(st.binary(max_size=400), st.integers(0, len(VLLM)))
def test_any_page_is_read_or_refused(noise: bytes, at: int) -> None:
    """Whatever stands in it, nothing is raised and no figure is below 0."""
    found = read_load(VLLM[:at] + noise + VLLM[at:])
    assert isinstance(found, NoLoad) or min(found.running, found.waiting, found.kv_ratio or 0.0) >= 0
