"""An answer as Converse spells it, whole and in events. Amazon's Nova models take and give the same by InvokeModel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from router.doubles.aws.call import Event, Json
from router.doubles.aws.models import ToolUse
from router.doubles.aws.runtime.serving import Serving, matched


def whole_answer(serving: Serving) -> Json:
    """The members of a Converse response."""
    return {
        "output": {"message": {"role": "assistant", "content": whole_content(serving)}},
        "stopReason": serving.answer.stop_reason,
        **accounts(serving),
    }


def whole_content(serving: Serving) -> list[Json]:
    """The blocks of an answer."""
    answer = serving.answer
    content: list[Json] = []
    if answer.reasoning:
        content.append({"reasoningContent": {"reasoningText": {"text": "".join(answer.reasoning)}}})
    if answer.pieces:
        content.append({"text": "".join(answer.pieces)})
    content.extend({"toolUse": _whole_tool(tool)} for tool in answer.tools)
    return content


async def answer_events(serving: Serving) -> AsyncGenerator[Event, None]:
    """The events of a ConverseStream response. However it ends, the call is settled and billed."""
    try:
        yield "messageStart", {"role": "assistant"}
        blocks = block_events(serving)
        deltas = [piece for piece in blocks if piece[0] == "contentBlockDelta"]
        timed = serving.pieces(deltas)
        for piece in blocks:
            yield piece if piece[0] != "contentBlockDelta" else await anext(timed)
        if not deltas:
            await serving.whole()
        yield "messageStop", {"stopReason": serving.answer.stop_reason}
        yield "metadata", accounts(serving)
    finally:
        serving.close()


def block_events(serving: Serving) -> list[Event]:
    """The events between the message's start and its stop."""
    answer = serving.answer
    events: list[Event] = []
    index = 0
    for kind, texts in (("reasoningContent", answer.reasoning), ("text", answer.pieces)):
        for text in texts:
            delta: Json = {"text": text}
            events.append(_delta(index, delta if kind == "text" else {kind: delta}))
        if texts:
            events.append(("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
    for tool in answer.tools:
        start = {"toolUse": {"toolUseId": tool.id, "name": tool.name}}
        events.append(("contentBlockStart", {"start": start, "contentBlockIndex": index}))
        events.extend(_delta(index, {"toolUse": {"input": text}}) for text in tool.arguments)
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
        index += 1
    return events


def _delta(index: int, delta: Json) -> Event:
    return "contentBlockDelta", {"delta": delta, "contentBlockIndex": index}


def _whole_tool(tool: ToolUse) -> Json:
    """A tool call whose arguments are cut short has none, as a model's can be."""
    try:
        arguments: Any = msgspec.json.decode("".join(tool.arguments) or "{}")
    except msgspec.DecodeError:
        arguments = {}
    return {"toolUseId": tool.id, "name": tool.name, "input": arguments}


def usage(serving: Serving) -> Json:
    """`inputTokens` leaves out what was read from or written to the cache, as Bedrock's does."""
    split = serving.split
    used: Json = {
        "inputTokens": split.fresh,
        "outputTokens": serving.made,
        "totalTokens": split.fresh + split.read + split.written + serving.made,
    }
    if split.read or split.written:
        used |= {"cacheReadInputTokens": split.read, "cacheWriteInputTokens": split.written}
    details = [{"ttl": ttl, "inputTokens": n} for ttl in ("1h", "5m") if (n := split.written_for(ttl))]
    return used | ({"cacheDetails": details} if details else {})


def accounts(serving: Serving) -> Json:
    """What a response says of itself: usage, time, trace, and what was served."""
    said: Json = {"usage": usage(serving), "metrics": {"latencyMs": serving.elapsed_ms()}}
    routed = _invoked_arn(serving) or serving.answer.routed_to
    trace = {"promptRouter": {"invokedModelId": routed}} if routed is not None else {}
    trace |= guardrail_trace(serving)
    if trace:
        said["trace"] = trace
    if serving.call.params.get("performanceConfig"):
        said["performanceConfig"] = {"latency": serving.latency}
    if serving.call.params.get("serviceTier"):
        said["serviceTier"] = {"type": serving.tier}
    return said


def _invoked_arn(serving: Serving) -> str | None:
    """What a prompt router's trace names: the ARN of a model, or of its profile over regions."""
    invoked, call = serving.place.invoked, serving.call
    if invoked is None or invoked.startswith("arn:"):
        return invoked
    if serving.place.kind == "cross-region":
        return f"arn:aws:bedrock:{call.region}:{call.account}:inference-profile/{invoked}"
    return f"arn:aws:bedrock:{call.region}::foundation-model/{invoked}"


def guardrail_trace(serving: Serving) -> Json:
    """What the guardrail found, where the call asks for its trace."""
    config = serving.call.params.get("guardrailConfig", {})
    if serving.blocked is None or config.get("trace") not in {"enabled", "enabled_full"}:
        return {}
    name = config["guardrailIdentifier"]
    guardrail = serving.world.guardrails[name]
    found = matched(guardrail, " ".join(serving.prompt.texts)) if serving.blocked == "input" else list(guardrail.words)
    words = [{"match": word, "action": "BLOCKED"} for word in found]
    assessment: Json = {"wordPolicy": {"customWords": words, "managedWordLists": []}}
    if serving.blocked == "input":
        return {"guardrail": {"inputAssessment": {name: assessment}}}
    return {"guardrail": {"outputAssessments": {name: [assessment]}}}
