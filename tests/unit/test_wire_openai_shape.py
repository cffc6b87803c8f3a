"""What a class changes in a request before it is sent on: the input budget and the brevity instruction."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.outcome import Attempt, AttemptId
from router.domain.request import Request
from router.domain.slo import RequestClass, Style
from router.wire.aws.bedrock import converse_request
from router.wire.openai import Envelope, read_body, read_request, upstream_body
from router.wire.openai.request import prompt_tokens
from router.wire.openai.shape import INSTRUCTION, concise, shape, trimmed

ENVELOPE = Envelope(id="r", arrived=0.0, at=0.0, source="test")
SYSTEM = {"role": "system", "content": "You sell boats. " * 10}
LONG = "word " * 40
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def user(text: str = LONG, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str | None = LONG, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def tool(text: str = LONG) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": text}


def body(*messages: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"messages": list(messages), **fields}).encode()


def request(*messages: dict[str, Any], **fields: Any) -> Request:
    return read_request(body(*messages, **fields), ENVELOPE)


def said(payload: bytes) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(payload)["messages"]
    return messages


def size(*messages: dict[str, Any]) -> int:
    return prompt_tokens(read_body(body(*messages)))


def attempt(sent: Request) -> Attempt:
    deployment = Deployment(
        DeploymentName("d"), "d", "m", Tier.SMALL, Kind.CONTINUOUS, Address("x", "target"), Price(1, 1)
    )
    return Attempt(AttemptId("a"), DecisionId("d"), sent, deployment, 1, 0.0, None, stream=False)


def test_the_oldest_turns_go_first() -> None:
    """As many whole turns as it takes, and not one more."""
    old, middle, last = (user("1" + LONG), assistant()), (user("2" + LONG), assistant()), (user("3"),)
    budget = size(SYSTEM, *middle, *last)
    short, saved = trimmed(body(SYSTEM, *old, *middle, *last), budget_tokens=budget)
    assert said(short) == [SYSTEM, *middle, *last]
    assert saved == size(SYSTEM, *old, *middle, *last) - budget
    shorter, _ = trimmed(body(SYSTEM, *old, *middle, *last), budget_tokens=budget - 1)
    assert said(shorter) == [SYSTEM, *last]


def test_what_fits_is_left_as_it_is() -> None:
    """Byte for byte, and nothing is saved."""
    payload = body(SYSTEM, user(), assistant(), user())
    budget = prompt_tokens(read_body(payload))
    assert trimmed(payload, budget_tokens=budget) == (payload, 0)


def test_system_prompts_and_the_last_turn_stay_over_any_budget() -> None:
    """Also a developer's message in the middle, and all that follows the last user message."""
    developer = {"role": "developer", "content": LONG}
    last = (user(), assistant(None, tool_calls=[CALL]), tool(), assistant(None, tool_calls=[CALL]), tool())
    short, _ = trimmed(body(SYSTEM, user(), developer, assistant(), *last), budget_tokens=1)
    assert said(short) == [SYSTEM, developer, *last]


def test_a_tool_result_goes_with_its_call() -> None:
    """Calls and results of an old turn go together."""
    old = (user(), assistant(None, tool_calls=[CALL]), tool(), assistant())
    short, _ = trimmed(body(*old, user("now")), budget_tokens=size(*old[1:], user("now")))
    assert said(short) == [user("now")]


def test_a_user_who_speaks_before_the_tool_does_not_part_call_and_result() -> None:
    """Such a message begins no turn: what the tool says still belongs to the call before it."""
    first = (user("1"), assistant(None, tool_calls=[CALL]), user("hurry"), tool(), assistant("done"))
    short, _ = trimmed(body(*first, user("2")), budget_tokens=size(*first[2:], user("2")))
    assert said(short) == [user("2")]
    kept, saved = trimmed(body(*first), budget_tokens=1)
    assert (said(kept), saved) == ([*first], 0)


def test_a_greeting_before_the_first_user_is_the_oldest_turn() -> None:
    """It goes first, and what is left starts with a user."""
    messages = (assistant("Welcome. " + LONG), user(), assistant(), user("x"))
    short, _ = trimmed(body(*messages), budget_tokens=size(*messages) - 1)
    assert said(short) == [*messages[1:]]


def test_what_stays_is_passed_on_as_it_came() -> None:
    """Unknown fields of the body and of its messages survive."""
    last = user("now", cache_control={"type": "ephemeral"})
    short, _ = trimmed(body(user(), assistant(), last, min_p=0.1), budget_tokens=30)
    assert json.loads(short) == {"messages": [last], "min_p": 0.1}


messages = st.lists(
    st.sampled_from(["user", "assistant", "calls", "tool", "system", "developer"]).flatmap(
        lambda role: st.text(max_size=60).map(
            lambda text: {
                "user": user(text),
                "assistant": assistant(text),
                "calls": assistant(None, tool_calls=[CALL]),
                "tool": tool(text),
                "system": {"role": "system", "content": text},
                "developer": {"role": "developer", "content": text},
            }[role]
        )
    ),
    min_size=1,
    max_size=14,
)


@given(messages, st.integers(1, 120))
def test_any_conversation_is_cut_cleanly(conversation: list[dict[str, Any]], budget: int) -> None:
    """What is saved is what the estimate says, system prompts and the last turn stay, no tool result loses the
    assistant before it, and a conversation that began with a user still does."""
    payload = body(*conversation)
    short, saved = trimmed(payload, budget_tokens=budget)
    left = said(short)
    assert saved == size(*conversation) - size(*left)
    prompts = [m for m in conversation if m["role"] in {"system", "developer"}]
    assert [m for m in left if m["role"] in {"system", "developer"}] == prompts
    spoken, kept = ([m for m in all_of if m not in prompts] for all_of in (conversation, left))
    assert kept == spoken[len(spoken) - len(kept) :]
    if any(m["role"] == "user" for m in spoken):
        tail = max(i for i, m in enumerate(spoken) if m["role"] == "user")
        assert len(kept) >= len(spoken) - tail
    else:
        assert kept == spoken
    if spoken and spoken[0]["role"] == "user":
        assert kept[0]["role"] == "user"
    if saved and kept[0]["role"] == "user":
        owed = next((m["role"] for m in kept if m["role"] != "user"), "assistant")
        assert owed == "assistant"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_instruction_ends_the_system_prompt(role: str) -> None:
    """The sender's text stays as it is, before it."""
    (prompt, asked) = said(concise(body({"role": role, "content": "Be kind."}, user("hi"))))
    assert prompt == {"role": role, "content": f"Be kind.\n\n{INSTRUCTION}"}
    assert asked == user("hi")


def test_the_instruction_is_a_part_where_the_prompt_has_parts() -> None:
    """Parts before it keep fields that nobody here knows."""
    part = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}
    (prompt, _) = said(concise(body({"role": "system", "content": [part], "name": "x"}, user("hi"))))
    assert prompt == {"role": "system", "content": [part, {"type": "text", "text": INSTRUCTION}], "name": "x"}


def test_without_a_system_prompt_the_instruction_is_one() -> None:
    """One that comes later in the conversation is not touched."""
    late = {"role": "system", "content": "late"}
    assert said(concise(body(user("hi"), late, temperature=0))) == [
        {"role": "system", "content": INSTRUCTION},
        user("hi"),
        late,
    ]


def test_the_last_of_several_system_prompts_is_longer() -> None:
    """The instruction comes after all that the sender says there."""
    first, second = {"role": "system", "content": "a"}, {"role": "developer", "content": "b"}
    shaped = said(concise(body(first, second, user("hi"))))
    assert shaped == [first, {"role": "developer", "content": f"b\n\n{INSTRUCTION}"}, user("hi")]


def test_a_shaped_request_says_what_was_changed() -> None:
    """Tokens fall by what was saved; the prompt that classifies stays the original's."""
    original = request(SYSTEM, user(), assistant(), user("now"))
    sent, changed = shape(original, RequestClass("c", input_budget_tokens=60))
    assert said(sent.payload) == [SYSTEM, user("now")]
    assert changed == (("input_budget", original.input_tokens - sent.input_tokens),)
    assert sent.input_tokens == prompt_tokens(read_body(sent.payload))
    assert sent.prompt == original.prompt
    assert original.payload == body(SYSTEM, user(), assistant(), user("now"))


def test_a_request_that_cannot_be_brought_within_the_budget_is_told_of() -> None:
    """It is sent on with its system prompt and last turn."""
    sent, changed = shape(request(SYSTEM, user(), assistant(), user()), RequestClass("c", input_budget_tokens=60))
    assert said(sent.payload) == [SYSTEM, user()]
    assert [what for what, _ in changed] == ["input_budget", "over_input_budget"]


def test_the_instruction_counts_against_the_budget() -> None:
    """Both together: what is sent is within the budget, and the estimate is never below what is sent."""
    original = request(SYSTEM, user(), assistant(), user("now"))
    sent, changed = shape(original, RequestClass("c", style=Style.CONCISE, input_budget_tokens=original.input_tokens))
    assert [what for what, _ in changed] == ["style", "input_budget"]
    assert said(sent.payload)[1:] == [user("now")]
    assert prompt_tokens(read_body(sent.payload)) <= sent.input_tokens <= original.input_tokens


def test_a_short_request_is_not_touched() -> None:
    """The very same object goes on."""
    original = request(user("hi"))
    assert shape(original, RequestClass("c", input_budget_tokens=10_000)) == (original, ())


def test_a_request_without_a_body_is_not_touched() -> None:
    """A workload for the simulator has none."""
    original = replace(request(user()), payload=b"", input_tokens=500)
    assert shape(original, RequestClass("c", style=Style.CONCISE, input_budget_tokens=5)) == (original, ())


def test_both_backends_send_what_was_shaped() -> None:
    """The body of an OpenAI server and the arguments of Converse are made from the shaped payload."""
    terms = RequestClass("c", style=Style.CONCISE, input_budget_tokens=120)
    sent, _ = shape(request(SYSTEM, user("old" + LONG * 3), assistant(), user("now")), terms)
    upstream = json.loads(upstream_body(attempt(sent)))["messages"]
    assert [m["role"] for m in upstream] == ["system", "user"]
    assert upstream[0]["content"].endswith(INSTRUCTION)
    converse = converse_request(read_body(sent.payload), attempt(sent))
    assert converse["system"][0]["text"].endswith(INSTRUCTION)
    assert converse["messages"] == [{"role": "user", "content": [{"text": "now"}]}]
