"""From a request that lists parts to the requests they are, and back to one answer: without any router."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.errors import Rejected, RequestError, RouterError
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.runtime.fanout.sums import summed
from router.wire.openai import Envelope, completion_body, read_request, whole_choices
from router.wire.openai.fanout.asked import from_short
from router.wire.openai.fanout.plan import Plan, read_plan
from router.wire.openai.fanout.report import for_merge, joined, report
from router.wire.openai.stream import DONE, ChunkWriter

TALK = [
    {"role": "system", "content": "Be exact."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "All three, please."},
]
RECEIPT = Receipt("d1", "small", "llama", "p1", 1, 0.25, 0.001, "chat", 0.25, 0.5, 0.125, "policy")


def asked(parts: object, merge: object = None, **fields: Any) -> Request:
    metadata = {"subqueries": parts, **fields.pop("metadata", {})} | ({} if merge is None else {"merge": merge})
    body = {"model": "auto", "messages": TALK, "metadata": metadata, **fields}
    envelope = Envelope("r1", 5.0, 1e9, "http", "acme", "t", "chat", 3, 9.0, "00-aa", (("team", "x"),))
    return read_request(json.dumps(body).encode(), envelope)


def planned(parts: object, merge: object = None, *, most: int = 16, **fields: Any) -> Plan:
    return read_plan(asked(parts, merge, **fields), most=most)


def body(request: Request) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(request.payload)
    return fields


def reply(text: str, cost_usd: float = 0.25) -> Reply:
    receipt = Receipt("d1", "small", "llama", "p1", 1, cost_usd, 0.001)
    return Reply(asked(["x"]), whole_choices(text, "stop"), Usage(10, 5, 2, 1), receipt, 1, "stop")


def test_a_request_says_that_it_has_parts() -> None:
    """Null and nothing are none; whatever else stands there is looked at when it is planned."""
    assert asked(["a"]).subqueries
    assert asked("a").subqueries
    assert not asked(None).subqueries
    assert not read_request(json.dumps({"messages": TALK}).encode(), Envelope("r", 0.0, 0.0, "http")).subqueries


def test_a_question_takes_the_place_of_the_last_of_the_users() -> None:
    """The conversation before it stays, and every field that the part does not say itself."""
    first, second = planned(["One?", {"content": "Two?", "model": "large", "temperature": 0.5}], temperature=0.25).parts
    assert body(first)["messages"] == [*TALK[:3], {"role": "user", "content": "One?"}]
    assert (body(first)["temperature"], first.model) == (0.25, None)
    assert body(second)["messages"][-1]["content"] == "Two?"
    assert (body(second)["temperature"], second.model) == (0.5, "large")


def test_messages_of_its_own_take_the_place_of_all() -> None:
    """A part can be a conversation that has nothing to do with the request's."""
    (part,) = planned([{"messages": [{"role": "user", "content": "Alone"}]}]).parts
    assert body(part)["messages"] == [{"role": "user", "content": "Alone"}]


def test_a_part_inherits_what_the_transport_said() -> None:
    """Class, tenant, priority, deadline, arrival and trace are the request's; the id is under it."""
    parts = planned(["a", "b"], metadata={"use_case": "faq"}).parts
    assert [part.id for part in parts] == ["r1/0", "r1/1"]
    for part in parts:
        assert (part.tenant, part.request_class, part.priority, part.deadline) == ("acme", "chat", 3, 9.0)
        assert (part.arrived, part.source, part.topic, part.traceparent) == (5.0, "http", "t", "00-aa")
        assert part.attributes == (("team", "x"), ("use_case", "faq"))
        assert (part.parent, part.subqueries) == ("r1", False)
        assert body(part)["metadata"] == {"use_case": "faq"}


def test_metadata_of_a_part_goes_over_the_requests() -> None:
    """Field by field, for classification too."""
    (part,) = planned(
        [{"content": "a", "metadata": {"use_case": "code"}}], metadata={"use_case": "faq", "k": "v"}
    ).parts
    assert body(part)["metadata"] == {"use_case": "code", "k": "v"}
    assert dict(part.attributes)["use_case"] == "code"


def test_a_list_may_come_as_text() -> None:
    """OpenAI's own metadata takes text only."""
    plan = planned('["a", {"content": "b"}]', '{"content": "Compare."}')
    assert [part.prompt.last_user for part in plan.parts] == ["a", "b"]
    assert plan.merge is not None


def test_how_the_answer_is_given_is_no_affair_of_the_parts() -> None:
    """A streaming request has parts that do not stream, and a merge that does."""
    plan = planned(["a"], "Sum up.", stream=True, stream_options={"include_usage": True})
    assert not plan.parts[0].stream
    assert "stream" not in body(plan.parts[0])
    assert plan.merge is not None
    assert plan.merge.request(["x"], arrived=0.0, at=0.0).stream


@pytest.mark.parametrize(
    ("parts", "merge", "says", "param"),
    [
        ([], None, "is empty", "subqueries"),
        (["a"] * 5, None, "5 parts; 4 are allowed", "subqueries"),
        ("one", None, "list of questions", "subqueries"),
        ({"content": "a"}, None, "list of questions", "subqueries"),
        (["a", 3], None, "neither text nor an object", "subqueries[1]"),
        ([{}], None, "either `content`", "subqueries[0]"),
        ([{"content": "a", "messages": TALK}], None, "either `content`", "subqueries[0]"),
        ([{"content": 3}], None, "subqueries[0]: Expected", "subqueries[0].messages[3].content"),
        ([{"content": "a", "temperature": 9}], None, "subqueries[0]: Expected", "subqueries[0].temperature"),
        ([{"content": "a", "stream": True}], None, "only the whole answer", "subqueries[0].stream"),
        ([{"content": "a", "n": 2}], None, "one choice", "subqueries[0].n"),
        ([{"content": "a", "subqueries": ["b"]}], None, "no parts of its own", "subqueries[0]"),
        ([{"content": "a", "metadata": {"subqueries": ["b"]}}], None, "no parts", "subqueries[0].metadata.subqueries"),
        ([{"content": "a", "metadata": 3}], None, "metadata is not", "subqueries[0].metadata"),
        (["a"], 3, "`merge` takes", "merge"),
        (["a"], {"model": "large"}, "`merge` takes", "merge"),
        (["a"], {"messages": "x"}, "not a list", "merge.messages"),
        (["a"], {"messages": [{"content": "x"}]}, "role", "merge.messages[0]"),
        (["a", "b"], "{{parts[2]}}", "there are 2 parts", "merge"),
    ],
)
def test_what_cannot_be_done_is_said(parts: object, merge: object, says: str, param: str) -> None:
    """Before anything is paid: what is wrong, and where it stands."""
    with pytest.raises(RequestError, match=r".") as raised:
        planned(parts, merge, most=4)
    assert says in raised.value.message
    assert raised.value.param == param
    assert raised.value.code == "invalid_request"


def test_places_are_filled_once() -> None:
    """By number, in the text of every message; an answer that looks like a place is left alone."""
    prompt = [
        {"role": "system", "content": "First: {{parts[0]}}"},
        {"role": "user", "content": [{"type": "text", "text": "Second: {{ parts[1] }}. Both?"}]},
    ]
    plan = planned(["a", "b"], {"messages": prompt, "model": "large"})
    assert plan.merge is not None
    made = plan.merge.request(["A {{parts[1]}}", "B"], arrived=7.0, at=8.0)
    assert body(made)["messages"][0]["content"] == "First: A {{parts[1]}}"
    assert body(made)["messages"][1]["content"][0]["text"] == "Second: B. Both?"
    assert (made.id, made.parent, made.arrived, made.at, made.deadline) == ("r1/merge", "r1", 7.0, 8.0, 9.0)
    assert (made.model, made.tenant) == ("large", "acme")


@pytest.mark.parametrize("text", ["Compare.", "Compare.\n\n{{parts}}"])
def test_all_answers_under_headings(text: str) -> None:
    """Where the prompt says so, and at its end where it says nothing of them."""
    plan = planned(["a", "b"], text)
    assert plan.merge is not None
    messages = body(plan.merge.request(["A", "B"], arrived=0.0, at=0.0))["messages"]
    assert messages[:3] == TALK[:3]
    assert messages[3]["content"] == "Compare.\n\n[part 0]\nA\n\n[part 1]\nB"


def test_after_a_prompt_that_is_not_the_users_come_answers_that_are() -> None:
    """A merge of a system prompt alone has the answers to work on."""
    plan = planned(["a"], {"messages": [{"role": "system", "content": "Join."}]})
    assert plan.merge is not None
    messages = body(plan.merge.request(["A"], arrived=0.0, at=0.0))["messages"]
    assert messages[1] == {"role": "user", "content": "[part 0]\nA"}


def test_the_short_form_is_the_long_one() -> None:
    """`subqueries` and `merge` at the top level, with no conversation around them."""
    short = json.dumps({"model": "auto", "subqueries": ["a"], "merge": "Sum up.", "metadata": {"k": "v"}}).encode()
    plan = read_plan(read_request(from_short(short), Envelope("r", 0.0, 0.0, "http")), most=1)
    assert body(plan.parts[0])["messages"] == [{"role": "user", "content": "a"}]
    assert body(plan.parts[0])["metadata"] == {"k": "v"}
    assert plan.merge is not None


@pytest.mark.parametrize(
    "written", [b'{"messages":[]}', b"no JSON", b'{"metadata":{"subqueries":["a"]}}', b'"subqueries"']
)
def test_what_is_not_short_stays(written: bytes) -> None:
    """The same bytes: the ordinary reader says what is wrong with them."""
    assert from_short(written) is written


@pytest.mark.parametrize(
    "written", [b'{"messages":[]}', b'{"messages":[{"role":"user","content":"\\"subqueries\\""}]}']
)
def test_the_route_for_parts_wants_parts(written: bytes) -> None:
    """Refused with an example of what to write."""
    with pytest.raises(RequestError, match="there are no parts"):
        from_short(written, required=True)


def test_the_answer_says_what_became_of_each_part() -> None:
    """In order, with what it cost and the decision that can be rated; a failed one with its error."""
    parts: list[Reply | RouterError] = [reply("A"), Rejected("full", code="queue_full"), reply("C", 0.5)]
    assert joined(parts) == "A\n\n[part 1 failed: queue_full]\n\nC"
    assert [for_merge(told) for told in parts] == ["A", "(no answer: queue_full)", "C"]
    first, second, third = json.loads(report(parts, None))["parts"]
    assert first["message"] == {"role": "assistant", "content": "A"}
    assert (first["index"], first["status"], first["decision_id"], first["cost_usd"]) == (0, "completed", "d1", 0.25)
    assert first["usage"]["total_tokens"] == 15
    assert (second["index"], second["status"], second["error"]["code"]) == (1, "failed", "queue_full")
    assert (third["index"], third["cost_usd"]) == (2, 0.5)


def test_the_merge_is_reported_without_its_message() -> None:
    """That is the answer itself."""
    said = json.loads(report([reply("A")], reply("all")))["merge"]
    assert said["status"] == "completed"
    assert "message" not in said
    assert "index" not in said


def test_a_part_without_text_is_left_out_of_the_text() -> None:
    """A tool call stands in the report as it came; the merge is told that there is no text."""
    choices = (
        b'[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[]},"finish_reason":"tool_calls"}]'
    )
    call = Reply(asked(["x"]), choices, Usage(1, 1), RECEIPT, 1, "tool_calls")
    assert joined([reply("A"), call]) == "A"
    assert for_merge(call) == "(no text)"
    assert json.loads(report([call], None))["parts"][0]["message"]["tool_calls"] == []


def test_receipts_are_summed() -> None:
    """Money and attempts add up; what went on at the same time counts by the longest."""
    request = asked(["a", "b"])
    other = Receipt("d2", "large", "gpt", "p1", 2, 0.5, 0.003, "chat", 0.75, 0.25, 0.0, "litellm")
    whole = summed(request, [RECEIPT, other], None)
    assert (whole.decision_id, whole.deployment, whole.model) == ("fanout-r1", "small,large", "llama,gpt")
    assert (whole.attempts, whole.cost_usd, whole.cost_source) == (3, 0.75, "policy,litellm")
    assert (whole.overhead_s, whole.queue_s, whole.ttft_s, whole.complexity) == (0.003, 0.125, 0.25, 0.75)
    merged = summed(request, [RECEIPT, RECEIPT], other, merge_after_s=4.0)
    assert (merged.decision_id, merged.deployment) == ("d2", "large")
    assert (merged.attempts, merged.cost_usd, merged.ttft_s) == (4, 1.0, 4.25)
    assert merged.overhead_s == pytest.approx(0.004)


def test_an_ordinary_answer_has_no_report() -> None:
    """Its body is what it was: only an answer of parts has a field of the router's."""
    assert "router" not in json.loads(completion_body(reply("A")))
    assert ChunkWriter(asked(["x"]), RECEIPT, 1).end(reply("A")) == [DONE]


def test_a_stream_ends_with_the_report() -> None:
    """On a chunk of its own whose choice says nothing, or with the usage where that is asked for."""
    answer = Reply(asked(["x"]), b"[]", Usage(1, 1), RECEIPT, 1, "stop", b'{"parts":[]}')
    alone = json.loads(ChunkWriter(asked(["x"]), RECEIPT, 1).end(answer)[0])
    assert alone["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert alone["router"] == {"parts": []}
    asking = asked(["x"], stream=True, stream_options={"include_usage": True})
    writer = ChunkWriter(asking, RECEIPT, 1)
    assert writer.pieces(Delta(whole_choices("A", "stop"), whole=True))
    with_usage = json.loads(writer.end(answer)[0])
    assert (with_usage["choices"], with_usage["router"]) == ([], {"parts": []})
    assert with_usage["usage"]["total_tokens"] == 2


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("{{parts[0]}}")
_NAMES = st.sampled_from(["content", "messages", "metadata", "subqueries", "merge", "model", "role", "text", "type"])
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=12
)
_MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": _JSON}), max_size=2)
_OWN = st.fixed_dictionaries({"content": _JSON}) | st.fixed_dictionaries({"messages": _MESSAGES})


@given(parts=st.lists(_OWN | _JSON, max_size=2) | _JSON, merge=_OWN | _JSON, spoil=st.booleans())
def test_whatever_is_asked_is_planned_or_refused(parts: object, merge: object, spoil: bool) -> None:
    """By the one error that is the sender's; a plan has a merge that can be made. So too with text that is none."""
    metadata = {"subqueries": parts, "merge": merge}
    data = json.dumps({"messages": TALK, "metadata": metadata}).encode()
    if spoil:
        data = data.replace(b"parts", b"\\ud800")
    try:
        request = read_request(data, Envelope("r", 0.0, 0.0, "http"))
        if request.subqueries:
            plan = read_plan(request, most=2)
            if plan.merge is not None:
                plan.merge.request(["x"] * len(plan.parts), arrived=0.0, at=0.0)
        from_short(json.dumps(metadata).encode())
    except RequestError:
        pass
