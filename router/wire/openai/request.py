"""A chat-completions request: bytes in, `Request` out; and the body that goes to an upstream.

The parse is partial: fields that nothing here reads stay `Raw` or are skipped, and the payload travels on
as it came, so a parameter this file has never heard of reaches the upstream untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from router.domain.deployment import Deployment, Lane, Sampling
from router.domain.errors import RequestError
from router.domain.outcome import Attempt
from router.domain.request import Capability, Prompt, Request, RequestId
from router.wire.openai.fanout.asked import asks_parts
from router.wire.openai.verify import asked_checks, without_checks

CHARS_PER_TOKEN = 3.6
"""UTF-8 bytes of text for one token. The rule of thumb for English prose is 4; code, markup and other scripts
come out denser (a CJK character is three bytes and about one token), so the mix is put at 3.6."""
MESSAGE_TOKENS = 4
"""Chat template tokens around one message: role, separators and end of turn."""
IMAGE_TOKENS = 765
"""A 1024 x 1024 picture at high detail: 85 + 4 tiles of 170, as OpenAI's vision guide counts."""
_METADATA_PAIRS = 16
"""OpenAI's bound on `metadata`."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Role = Literal["developer", "system", "user", "assistant", "tool", "function"]


class Part(Struct, frozen=True):
    """One part of a message. `image_url` is the JSON of `{"url": ...}`."""

    type: str
    text: str | None = None
    image_url: Raw = Raw()


class FunctionCall(Struct, frozen=True):
    """A call the model made: `arguments` is JSON in a string."""

    name: str = ""
    arguments: str = ""


class ToolCall(Struct, frozen=True):
    """One tool call of an assistant message."""

    id: str = ""
    type: str = "function"
    function: FunctionCall | None = None


class Message(Struct, frozen=True):
    """One message of the conversation."""

    role: Role
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    audio: Raw = Raw()

    def texts(self) -> Iterable[str]:
        """The text of every part."""
        if isinstance(self.content, str):
            return (self.content,)
        return (part.text for part in self.content or () if part.text)


class FunctionSpec(Struct, frozen=True):
    """A function offered to the model: `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: Raw = Raw()


class Tool(Struct, frozen=True):
    """A tool offered to the model."""

    type: str
    function: FunctionSpec | None = None


class StreamOptions(Struct, frozen=True):
    """What a stream says beside the text."""

    include_usage: bool | None = None


class ResponseFormat(Struct, frozen=True):
    """`text`, `json_object` or `json_schema`."""

    type: str
    json_schema: Raw = Raw()


class ChatBody(Struct, frozen=True):
    """The parsed body. Fields that are absent here are passed on unread."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Ratio | None = None
    top_k: Raw = Raw()
    """No parameter of OpenAI's, but of many servers that speak its protocol."""
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stop: str | list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Raw = Raw()
    response_format: ResponseFormat | None = None
    metadata: Raw = Raw()

    @property
    def output_limit(self) -> int | None:
        """The sender's own bound on generated tokens."""
        return self.max_completion_tokens or self.max_tokens


class Envelope(Struct, frozen=True):
    """What the transport knows of a request beside its body. `deadline` is monotonic seconds."""

    id: str
    arrived: float
    at: float
    source: str
    tenant: str = "default"
    topic: str = ""
    request_class: str | None = None
    priority: int | None = None
    deadline: float | None = None
    traceparent: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


_body_decoder = msgspec.json.Decoder(ChatBody)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
_SERVICE_TIERS = frozenset({Lane.PRIORITY, Lane.FLEX})


def text_tokens(text: str) -> float:
    """Estimated tokens of a text (see `CHARS_PER_TOKEN`)."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size / CHARS_PER_TOKEN


def read_body(body: bytes) -> ChatBody:
    """Parse and check a body; `RequestError` (invalid_json, invalid_request) says what is wrong and where."""
    try:
        if not body.isascii():
            body.decode()
        parsed = _body_decoder.decode(body)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        raise RequestError(f"{problem} at '{param}'" if param else problem, param=param) from None
    except UnicodeDecodeError as error:
        raise RequestError(f"The body is not valid UTF-8 (byte {error.start}).", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise RequestError(f"The body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise RequestError("The body is nested too deeply.", code="invalid_json") from None
    for index, message in enumerate(parsed.messages):
        _check_message(index, message)
    return parsed


def _check_message(index: int, message: Message) -> None:
    param = f"messages[{index}].content"
    if message.content is None:
        said = message.tool_calls or message.function_call or message.refusal or bytes(message.audio)
        if message.role != "assistant" or not said:
            raise RequestError("content may be null only where an assistant calls tools", param=param)
    elif not isinstance(message.content, str):
        for number, part in enumerate(message.content):
            if part.type == "text" and part.text is None:
                raise RequestError("a text part needs `text`", param=f"{param}[{number}].text")


def read_request(body: bytes, envelope: Envelope) -> Request:
    """Decode a request; raises `RequestError` and nothing else, whatever the bytes."""
    parsed = read_body(body)
    prompt = _prompt(parsed)
    return Request(
        id=RequestId(envelope.id),
        arrived=envelope.arrived,
        at=envelope.at,
        prompt=prompt,
        input_tokens=prompt_tokens(parsed),
        payload=body,
        source=envelope.source,
        tenant=envelope.tenant,
        topic=envelope.topic,
        model=None if parsed.model in (None, "", "auto") else parsed.model,
        request_class=envelope.request_class,
        priority=envelope.priority,
        deadline=envelope.deadline,
        stream=parsed.stream is True,
        include_usage=parsed.stream_options is not None and parsed.stream_options.include_usage is True,
        max_tokens=parsed.output_limit,
        needs=_needs(parsed, prompt),
        traceparent=envelope.traceparent,
        attributes=_attributes(parsed.metadata, envelope.attributes),
        verify=asked_checks(parsed.metadata),
        subqueries=asks_parts(parsed.metadata),
    )


def _prompt(body: ChatBody) -> Prompt:
    last_user: Message | None = None
    system: list[str] = []
    turns = chars = images = 0
    for message in body.messages:
        if message.role == "user":
            last_user = message
            turns += 1
        elif message.role in {"system", "developer"}:
            system.extend(message.texts())
        if isinstance(message.content, str):
            chars += len(message.content)
        elif message.content is not None:
            chars += sum(len(text) for text in message.texts())
            images += sum(part.type == "image_url" for part in message.content)
    wanted = body.response_format
    return Prompt(
        last_user="\n".join(last_user.texts()) if last_user is not None else "",
        system="\n".join(system),
        turns=max(turns, 1),
        chars=chars,
        tools=len(body.tools or ()),
        images=images,
        json_output=wanted is not None and wanted.type in {"json_object", "json_schema"},
    )


def message_tokens(message: Message) -> float:
    """Estimated tokens of one message: text and tool calls by their size, a constant for itself and each image."""
    tokens = float(MESSAGE_TOKENS)
    for text in message.texts():
        tokens += text_tokens(text)
    if isinstance(message.content, list):
        tokens += IMAGE_TOKENS * sum(part.type == "image_url" for part in message.content)
    for call in message.tool_calls or ():
        if call.function is not None:
            tokens += text_tokens(call.function.name + call.function.arguments)
    return tokens


def prompt_tokens(body: ChatBody) -> int:
    """Estimated tokens of a whole request: its messages, and the size of the tools on offer."""
    tokens = sum(message_tokens(message) for message in body.messages)
    for tool in body.tools or ():
        if tool.function is not None:
            described = tool.function.name + (tool.function.description or "")
            tokens += text_tokens(described) + len(bytes(tool.function.parameters)) / CHARS_PER_TOKEN
    return ceil(tokens)


def _needs(body: ChatBody, prompt: Prompt) -> frozenset[Capability]:
    needs = []
    if prompt.tools:
        needs.append(Capability.TOOLS)
    if prompt.images:
        needs.append(Capability.IMAGES)
    if prompt.json_output:
        needs.append(Capability.JSON)
    if body.logprobs:
        needs.append(Capability.LOGPROBS)
    if body.n is not None and body.n > 1:
        needs.append(Capability.CHOICES)
    return frozenset(needs)


def _attributes(metadata: Raw, known: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The transport's attributes, then the text pairs of `metadata` that it did not name."""
    raw = bytes(metadata)
    if not raw.startswith(b"{"):
        return known
    try:
        pairs = msgspec.json.decode(raw).items()
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("metadata is not a JSON object", param="metadata") from None
    names = {name for name, _ in known}
    added = [(name, value) for name, value in pairs if isinstance(value, str) and name not in names]
    return known + tuple(added[:_METADATA_PAIRS])


def upstream_body(attempt: Attempt) -> bytes:
    """The sender's body with model and streaming set for this attempt, and silent parameters filled in.

    The class's token bound goes out as `max_tokens`, which OpenAI-compatible servers read, or as
    `max_completion_tokens` where the deployment says that it takes that.
    """
    fields: dict[str, object] = dict(_object_decoder.decode(attempt.request.payload))
    fields["model"] = attempt.deployment.address.target
    if attempt.request.verify:
        without_checks(fields)
    if attempt.stream:
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
    else:
        fields.pop("stream", None)
        fields.pop("stream_options", None)
    if attempt.request.max_tokens is None and attempt.max_tokens is not None:
        fields.pop("max_completion_tokens", None)
        fields.pop("max_tokens", None)
        fields[_bound_name(attempt.deployment)] = attempt.max_tokens
    given = (("temperature", attempt.temperature), ("top_p", attempt.top_p), ("top_k", attempt.top_k))
    for name, value in given:
        if value is not None and _is_silent(fields.get(name)):
            fields[name] = value
    if attempt.logprobs:
        fields["logprobs"] = True
    if attempt.deployment.lane in _SERVICE_TIERS:
        fields["service_tier"] = attempt.deployment.lane.value
    return _encode(fields)


def _bound_name(deployment: Deployment) -> str:
    reasons = Sampling.MAX_COMPLETION_TOKENS in deployment.takes
    return (Sampling.MAX_COMPLETION_TOKENS if reasons else Sampling.MAX_TOKENS).value


def _is_silent(value: object) -> bool:
    return value is None or (isinstance(value, Raw) and bytes(value) == b"null")
