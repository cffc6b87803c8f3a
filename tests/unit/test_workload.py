"""Workload files: both forms become the same arrivals, the truth stays apart, errors say where."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from router.backends.simulated import SimulatedAnswer
from router.sim.workload import WorkloadError, WorkloadTruth, read_workload

HEADER = "arrival_s,input_tokens,output_tokens,class,deadline_s,session,colour,quality.small-1.5,estimate.small-1.5"
CSV = f"""{HEADER}
2.5,100,20,chat,30,7,red,0,0.25
1.0,50,10,,,,,1,0.75
"""
JSON = """\
{"arrival_s": 2.5, "input_tokens": 100, "output_tokens": 20, "class": "chat", "deadline_s": 30, "session": 7,
 "quality": {"small-1.5": 0}, "estimate": {"small-1.5": 0.25}, "colour": "red"}
{"arrival_s": 1.0, "input_tokens": 50, "output_tokens": 10, "quality.small-1.5": 1, "estimate": {"small-1.5": 0.75}}
""".replace(",\n ", ", ")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(("name", "text"), [("w.csv", CSV), ("w.csv.gz", CSV), ("w.jsonl", JSON), ("w.jsonl.gz", JSON)])
def test_every_form_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    """Sorted by arrival, unknown columns ignored, absent values unknown."""
    workload = read_workload(write(tmp_path, name, text))
    first, second = (workload.request(n, now=10.0, at=1000.0) for n in range(2))
    assert [row.at_s for row in workload.arrivals] == [1.0, 2.5]
    assert (first.input_tokens, first.request_class, first.deadline, first.attributes) == (50, None, None, ())
    assert (second.input_tokens, second.request_class, second.deadline) == (100, "chat", 40.0)
    assert second.attributes == (("session", "7"),)
    assert [workload.estimates(n)["small-1.5"] for n in "01"] == [0.75, 0.25]


def test_the_request_holds_nothing_of_the_truth(tmp_path: Path) -> None:
    """No max_tokens, and neither quality nor estimate among what the router sees."""
    request = read_workload(write(tmp_path, "w.csv", CSV)).request(1, now=0.0, at=0.0)
    assert request.max_tokens is None
    assert "0.25" not in repr(request)


def test_load_divides_times_and_for_cuts_what_comes_later(tmp_path: Path) -> None:
    """At twice the load the second arrives at 1.25 s, which `for_s=1.25` leaves out."""
    workload = read_workload(write(tmp_path, "w.csv", CSV))
    assert [row.at_s for row in workload.over(load=2.0).arrivals] == [0.5, 1.25]
    assert [row.at_s for row in workload.over(load=2.0, for_s=1.25).arrivals] == [0.5]


def test_lengths_may_differ_by_model(tmp_path: Path) -> None:
    """Each model has its own; one that was not recorded gets the mean."""
    line = '{"arrival_s": 0, "input_tokens": 1, "output_tokens": {"a": 10, "b": 30}, "prompt": "why?"}'
    workload = read_workload(write(tmp_path, "w.jsonl", line))
    truth, request = WorkloadTruth(workload), workload.request(0, now=0.0, at=0.0)
    assert [truth.answer(request, model) for model in "abc"] == [SimulatedAnswer(n) for n in (10, 30, 20)]
    assert request.prompt.last_user == "why?"
    assert workload.has_prompts


def test_adequate_of_binary_truth_is_a_half(tmp_path: Path) -> None:
    """With 0 and 1 the reference does not matter; an unknown model is not judged."""
    truth = WorkloadTruth(read_workload(write(tmp_path, "w.csv", CSV)))
    assert [truth.adequate(n, "small-1.5", reference="small-1.5") for n in "01"] == [True, False]
    assert truth.adequate("0", "other") is None


def test_adequate_of_graded_truth_is_the_references_quality(tmp_path: Path) -> None:
    """0.6 is enough against 0.6 and not against 0.7; without a reference a half is enough."""
    text = "arrival_s,input_tokens,output_tokens,quality.s,quality.l\n0,1,1,0.6,0.6\n1,1,1,0.6,0.7\n"
    truth = WorkloadTruth(read_workload(write(tmp_path, "w.csv", text)))
    assert [truth.adequate(n, "s", reference="l") for n in "01"] == [True, False]
    assert truth.adequate("1", "s") is True


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("w.csv", "2.5,100", "soon,100", "w.csv:2: arrival_s: Expected `float`"),
        ("w.csv", "1.0,50", "1.0,-50", "w.csv:3: input_tokens: Expected `int` >= 0"),
        ("w.csv", "arrival_s", "arrived", "w.csv:2: Object missing required field `arrival_s`"),
        ("w.csv", "red,0,0.25", "red,0,1.25", "w.csv:2: estimate[...]: Expected `float` <= 1"),
        ("w.csv", "2.5,100", "nan,100", "w.csv:2: arrival_s"),
        ("w.csv", "1.0,50", "1.0,7,50", "w.csv:3: 10 fields, the header has 9"),
        ("w.jsonl", '"input_tokens": 50', '"input_tokens": "many"', "w.jsonl:2: input_tokens: Expected `int`"),
        ("w.jsonl", '{"arrival_s": 1.0', '"arrival_s": 1.0', "w.jsonl:2: "),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, name: str, old: str, new: str, problem: str) -> None:
    """File, line and field of each mistake."""
    text = CSV if name == "w.csv" else JSON
    assert old in text
    with pytest.raises(WorkloadError) as caught:
        read_workload(write(tmp_path, name, text.replace(old, new, 1)))
    assert f"{tmp_path}/{problem}" in str(caught.value)


def test_what_is_no_file_of_lines_is_refused(tmp_path: Path) -> None:
    """Missing, cut off, or not gzip at all."""
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(CSV.encode())[:40])
    not_gzip = write(tmp_path, "plain.csv", CSV).rename(tmp_path / "plain.csv.gz")
    for path in (tmp_path / "none.csv", cut, not_gzip):
        with pytest.raises(WorkloadError, match=path.name):
            read_workload(path)
