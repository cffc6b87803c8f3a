"""Families that take one text in the model's own chat template: Llama, Mistral, Titan.

Templates and fields are those of AWS's pages of inference parameters and of the models' cards: Llama 3's headers,
Mistral's `[INST]`, Titan's `User:` and `Bot:`. A blank takes the place of marks of a template in what a sender
writes, who could else write turns of the system or the assistant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from router.domain.errors import Refused

Json = dict[str, Any]

_MAX_TOKENS = 2048
"""Asked for where nobody bounds the answer: left to themselves these models stop at 512."""
_LENGTH = {"length": "max_tokens", "LENGTH": "max_tokens", "CONTENT_FILTERED": "content_filtered"}


class Prompted:
    """One call of a model that takes and gives text; a family says how."""

    marks: ClassVar[re.Pattern[str]]

    def __init__(self) -> None:
        self._given: Json = {}

    def body(self, asked: Json) -> Json:
        """The body of a call with these arguments of Converse; `Refused` for what is not text."""
        if "toolConfig" in asked:
            raise _unsupported("tools", "tools")
        system = "\n".join(self._said(asked.get("system", ())))
        turns = [(turn["role"], "\n".join(self._said(turn["content"]))) for turn in asked["messages"]]
        return self.spelled(system, turns, {"maxTokens": _MAX_TOKENS, **asked.get("inferenceConfig", {})})

    def spelled(self, system: str, turns: Sequence[tuple[str, str]], config: Json) -> Json:
        """The body of a conversation."""
        raise NotImplementedError

    def piece(self, answer: Json) -> tuple[str, str | None, Json]:
        """Text, stop reason, and tokens by Converse's names, as far as an answer or a chunk has them."""
        raise NotImplementedError

    def whole(self, answer: Json) -> Json:
        """A complete answer as one of Converse."""
        text, reason, usage = self.piece(answer)
        if reason is None:
            raise KeyError("stop reason")
        return {
            "output": {"message": {"content": [{"text": text}] if text else []}},
            "stopReason": _LENGTH.get(reason, "end_turn"),
            "usage": usage,
        }

    def events(self, chunk: Json) -> Iterator[Json]:
        """A chunk of a stream as events of ConverseStream."""
        text, reason, usage = self.piece(chunk)
        self._given |= usage
        if text:
            yield {"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": 0}}
        if reason:
            yield {"messageStop": {"stopReason": _LENGTH.get(reason, "end_turn")}}
            if len(self._given) > 1:
                yield {"metadata": {"usage": self._given}}

    def _said(self, blocks: Sequence[Json]) -> list[str]:
        if any("text" not in block and "cachePoint" not in block for block in blocks):
            raise _unsupported("content other than text", "messages")
        return [self.marks.sub(" ", block["text"]).strip() for block in blocks if "text" in block]


class Llama(Prompted):
    """Llama 3 and later."""

    marks = re.compile(r"<\|[a-z_]+\|>")

    def spelled(self, system: str, turns: Sequence[tuple[str, str]], config: Json) -> Json:
        """Llama has no stop sequences on Bedrock."""
        if "stopSequences" in config:
            raise _unsupported("stop sequences", "stop")
        said = [("system", system), *turns] if system else turns
        prompt = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in said)
        prompt = f"<|begin_of_text|>{prompt}<|start_header_id|>assistant<|end_header_id|>\n\n"
        return {"prompt": prompt, "max_gen_len": config["maxTokens"], **_sampling(config, "temperature", "top_p")}

    def piece(self, answer: Json) -> tuple[str, str | None, Json]:
        """The prompt's tokens come with the first chunk alone, the answer's count up."""
        names = {"inputTokens": "prompt_token_count", "outputTokens": "generation_token_count"}
        usage = {name: answer[key] for name, key in names.items() if answer.get(key) is not None}
        return answer.get("generation") or "", answer.get("stop_reason"), usage


class Mistral(Prompted):
    """Mistral and Mixtral, which have no system prompt: it goes before the first turn. Tokens are in headers alone."""

    marks = re.compile(r"</?s>|\[/?INST\]")

    def spelled(self, system: str, turns: Sequence[tuple[str, str]], config: Json) -> Json:
        """Instructions in brackets, answers closed."""
        parts = [f"[INST] {text} [/INST]" if role == "user" else f" {text}</s>" for role, text in turns]
        if system and turns and turns[0][0] == "user":
            parts[0] = f"[INST] {system}\n\n{turns[0][1]} [/INST]"
        stop = {"stop": config["stopSequences"]} if "stopSequences" in config else {}
        body = {"prompt": f"<s>{''.join(parts)}", "max_tokens": config["maxTokens"]}
        return {**body, **stop, **_sampling(config, "temperature", "top_p")}

    def piece(self, answer: Json) -> tuple[str, str | None, Json]:
        """One output, whole or in pieces."""
        outputs = answer.get("outputs") or [{}]
        return outputs[0].get("text") or "", outputs[0].get("stop_reason"), {}


class Titan(Prompted):
    """Titan Text."""

    marks = re.compile(r"(?m)^(?:\s*(?:User|Bot):)+")

    def spelled(self, system: str, turns: Sequence[tuple[str, str]], config: Json) -> Json:
        """Turns by name."""
        said = [f"{'User' if role == 'user' else 'Bot'}: {text}" for role, text in turns]
        text = "\n".join([*([system] if system else []), *said, "Bot:"])
        names = {"maxTokens": "maxTokenCount", "stopSequences": "stopSequences"}
        settings = {key: config[name] for name, key in names.items() if name in config}
        return {"inputText": text, "textGenerationConfig": settings | _sampling(config, "temperature", "topP")}

    def piece(self, answer: Json) -> tuple[str, str | None, Json]:
        """A whole answer has its text among `results`, a chunk has it beside its counts."""
        result = answer["results"][0] if "results" in answer else answer
        counts = {
            "inputTokens": answer.get("inputTextTokenCount"),
            "outputTokens": result.get("tokenCount", result.get("totalOutputTextTokenCount")),
        }
        usage = {name: count for name, count in counts.items() if count is not None}
        return result.get("outputText") or "", result.get("completionReason"), usage


def _sampling(config: Json, temperature: str, top_p: str) -> Json:
    names = {"temperature": temperature, "topP": top_p}
    return {key: config[name] for name, key in names.items() if name in config}


def _unsupported(what: str, param: str) -> Refused:
    return Refused(f"a model that takes one text does not offer {what}", code="unsupported", param=param)
