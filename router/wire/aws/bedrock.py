"""OpenAI chat completions as Bedrock's Converse spells them: a parsed body in, the arguments of a call out.

What Converse has no word for is either without effect on meaning and left out (`seed`, penalties,
`logit_bias`, `user`), or refused with code `unsupported` and the parameter's name (several choices, log
probabilities, JSON output, pictures by address, custom tools). Converse wants the system prompt apart and the
roles in turn, so system messages are lifted out and neighbours of one role become one message.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import Refused
from router.domain.outcome import Attempt
from router.wire.aws.stops import sent_stops
from router.wire.aws.top_k import sent_top_k
from router.wire.openai.request import ChatBody, Message, Part, Tool, ToolCall

Json = dict[str, Any]
"""A Converse structure, as the SDK takes and gives it."""

_ROLES = {"user": "user", "assistant": "assistant", "tool": "user"}
_DATA_URL = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,(.*)", re.DOTALL)
_NOT_IN_TOOL_ID = re.compile(r"[^a-zA-Z0-9_-]")
_TOOL_ID_CHARS = 64
_MAX_TEMPERATURE = 1.0
"""Converse refuses more; OpenAI goes to 2, where the models behind Converse have no counterpart."""
_FAMILY = re.compile(r"anthropic|claude|cohere|command|\bnova\b")
_SHORT_S = 300.0
"""Time to live of a cache point that names none."""
_NO_PARAMETERS: Json = {"type": "object", "properties": {}}


class _Named(Struct, frozen=True):
    name: str


class _ChosenTool(Struct, frozen=True):
    function: _Named


class _ImageUrl(Struct, frozen=True):
    url: str


_choice_decoder = msgspec.json.Decoder(str | _ChosenTool | None)
_image_decoder = msgspec.json.Decoder(_ImageUrl)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def converse_request(body: ChatBody, attempt: Attempt) -> Json:
    """The arguments of Converse and ConverseStream; `Refused` for what they cannot say."""
    _check_supported(body)
    system = [text for m in body.messages if m.role in {"system", "developer"} for text in _said(m.texts())]
    turns = _turns(body.messages, attempt)
    if not turns:
        turns, system = [{"role": "user", "content": [{"text": text} for text in system]}], []
    optional = {
        "system": [{"text": text} for text in system] + _system_point(system, attempt),
        "inferenceConfig": _inference_config(body, attempt),
        "additionalModelRequestFields": _further_fields(body, attempt),
        "toolConfig": _tool_config(body, turns),
    }
    given = {name: value for name, value in optional.items() if value}
    return {"modelId": attempt.deployment.address.target, "messages": turns, **given}


def _check_supported(body: ChatBody) -> None:
    if (body.n or 1) > 1:
        raise _unsupported("several choices", "n")
    if body.logprobs:
        raise _unsupported("log probabilities", "logprobs")
    if body.response_format is not None and body.response_format.type != "text":
        raise _unsupported(f"response_format {body.response_format.type}", "response_format")


def _unsupported(what: str, param: str) -> Refused:
    return Refused(f"Bedrock Converse does not offer {what}", code="unsupported", param=param)


def _said(texts: Iterable[str]) -> list[str]:
    """Converse refuses blank text, which says nothing anyway."""
    return [text for text in texts if text.strip()]


def _point(attempt: Attempt) -> Json:
    terms = attempt.deployment.address.aws
    kept: Json = {"ttl": "1h"} if terms is not None and terms.cache is not None and terms.cache.ttl_s > _SHORT_S else {}
    return {"cachePoint": {"type": "default", **kept}}


def _system_point(system: Sequence[str], attempt: Attempt) -> list[Json]:
    return [_point(attempt)] if system and 0 in attempt.cache_after else []


def _turns(messages: Sequence[Message], attempt: Attempt) -> list[Json]:
    """The conversation without system messages, one message a turn; blank messages fall out. A cache point follows
    each message that the attempt wants the prompt cut after."""
    turns: list[Json] = []
    number = 0
    for index, message in enumerate(messages):
        if message.role in {"system", "developer"}:
            continue
        role = _ROLES.get(message.role)
        if role is None:
            raise _unsupported(f"messages of role {message.role}", f"messages[{index}].role")
        number += 1
        blocks = _blocks(message, f"messages[{index}]")
        if blocks and number in attempt.cache_after:
            blocks.append(_point(attempt))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, path: str) -> list[Json]:
    blocks = _content(message, path)
    if message.role == "tool":
        result = {"toolUseId": _tool_id(message.tool_call_id or ""), "content": blocks}
        return [{"toolResult": result}]
    for index, call in enumerate(message.tool_calls or ()):
        blocks.append({"toolUse": _tool_use(call, f"{path}.tool_calls[{index}]")})
    return blocks


def _content(message: Message, path: str) -> list[Json]:
    if message.content is None or isinstance(message.content, str):
        return [{"text": text} for text in _said((message.content or message.refusal or "",))]
    parts = (_part(part, f"{path}.content[{index}]") for index, part in enumerate(message.content))
    return [block for block in parts if block is not None]


def _part(part: Part, path: str) -> Json | None:
    if part.type == "text":
        return {"text": part.text} if part.text and part.text.strip() else None
    if part.type != "image_url":
        raise _unsupported(f"content parts of type {part.type}", f"{path}.type")
    try:
        url = _image_decoder.decode(part.image_url).url
        match = _DATA_URL.fullmatch(url)
        if match is None:
            raise _unsupported("pictures other than data: URLs of png, jpeg, gif or webp", f"{path}.image_url")
        picture = b64decode(match[2], validate=True)
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused(f"the picture cannot be read: {error}", param=f"{path}.image_url") from None
    kind = "jpeg" if match[1] == "jpg" else match[1]
    return {"image": {"format": kind, "source": {"bytes": picture}}}


def _tool_id(openai_id: str) -> str:
    """Other servers' ids may hold characters, or a length, that Converse refuses."""
    return _NOT_IN_TOOL_ID.sub("_", openai_id)[:_TOOL_ID_CHARS]


def _tool_use(call: ToolCall, path: str) -> Json:
    if call.function is None:
        raise _unsupported(f"tool calls of type {call.type}", f"{path}.type")
    try:
        arguments = _object_decoder.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise Refused("arguments are not a JSON object", param=f"{path}.function.arguments") from None
    return {"toolUseId": _tool_id(call.id), "name": call.function.name, "input": arguments}


def _family(attempt: Attempt) -> str | None:
    """Whose model it is, by its id or ARN, else by its name in the policy: an ARN of provisioned throughput tells
    nothing."""
    deployment = attempt.deployment
    found = _FAMILY.search(deployment.address.target.lower()) or _FAMILY.search(deployment.model.lower())
    return None if found is None else found[0]


def _further_fields(body: ChatBody, attempt: Attempt) -> Json | None:
    """What Converse has no word for but the model does: `top_k`, under each family's own name for it (AWS's pages of
    inference parameters: Anthropic messages `top_k`, Cohere Command `k`, Amazon Nova `inferenceConfig.topK`)."""
    asked = sent_top_k(body.top_k)
    top_k = attempt.top_k if asked is None else asked
    family = _family(attempt)
    if top_k is None or top_k < 1 or family is None:
        return None
    if family == "nova":
        return {"inferenceConfig": {"topK": top_k}}
    return {"k" if family in {"cohere", "command"} else "top_k": top_k}


def _spread(body: ChatBody, attempt: Attempt) -> tuple[float | None, float | None]:
    """Temperature and top_p, of the sender or else of the class. Anthropic's models from Claude 4.1 on refuse the two
    together: there the class adds neither to the other, and its own temperature goes before its top_p."""
    temperature, top_p = body.temperature, body.top_p
    alone = _family(attempt) in {"anthropic", "claude"}
    if temperature is None and not (alone and top_p is not None):
        temperature = attempt.temperature
    if top_p is None and not (alone and temperature is not None):
        top_p = attempt.top_p
    return temperature, top_p


def _inference_config(body: ChatBody, attempt: Attempt) -> Json:
    """The sender's parameters, then the class's. Without `maxTokens` Bedrock reserves the model's most."""
    temperature, top_p = _spread(body, attempt)
    config: Json = {
        "maxTokens": body.output_limit or attempt.max_tokens,
        "temperature": None if temperature is None else min(temperature, _MAX_TEMPERATURE),
        "topP": top_p,
        "stopSequences": _stops(body, attempt) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _stops(body: ChatBody, attempt: Attempt) -> list[str]:
    """Anthropic's models refuse a stop of white space alone ("each stop sequence must contain non-whitespace")."""
    stops = sent_stops(body)
    if not all(stop.strip() for stop in stops) and _family(attempt) in {"anthropic", "claude"}:
        raise _unsupported("a stop of white space alone with Claude", "stop")
    return stops


def _tool_config(body: ChatBody, turns: Sequence[Json]) -> Json | None:
    """The tools on offer. A conversation that holds tool calls must name tools even if none is wanted."""
    specs = [_tool_spec(tool, f"tools[{index}]") for index, tool in enumerate(body.tools or ())]
    wanted = _tool_choice(body.tool_choice)
    if not specs or wanted == "none":
        used = {block["toolUse"]["name"]: None for turn in turns for block in turn["content"] if "toolUse" in block}
        if not used:
            return None
        specs = specs or [{"name": name, "inputSchema": {"json": _NO_PARAMETERS}} for name in used]
    config: Json = {"tools": [{"toolSpec": spec} for spec in specs]}
    if isinstance(wanted, _ChosenTool):
        config["toolChoice"] = {"tool": {"name": wanted.function.name}}
    elif wanted == "required":
        config["toolChoice"] = {"any": {}}
    return config


def _tool_choice(choice: Raw) -> str | _ChosenTool | None:
    try:
        wanted: str | _ChosenTool | None = _choice_decoder.decode(bytes(choice) or b"null")
    except msgspec.DecodeError:
        raise _unsupported("this tool_choice", "tool_choice") from None
    return wanted


def _tool_spec(tool: Tool, path: str) -> Json:
    if tool.function is None:
        raise _unsupported(f"tools of type {tool.type}", f"{path}.type")
    raw = bytes(tool.function.parameters) or b"null"
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any] | None)
    except msgspec.DecodeError:
        raise Refused("parameters are not a JSON schema", param=f"{path}.function.parameters") from None
    spec: Json = {"name": tool.function.name, "inputSchema": {"json": schema or _NO_PARAMETERS}}
    if tool.function.description:
        spec["description"] = tool.function.description
    return spec
