"""The families of models whose bodies InvokeModel takes, in their own spellings."""

from __future__ import annotations

from typing import Any

from tests.integration.aws_far_side import turn
from tests.integration.double_runtime import SONNET

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": (
        SONNET,
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 3, "messages": [{"role": "user", "content": "a b"}]},
    ),
    "llama": ("meta.llama3-1-8b-instruct-v1:0", {"prompt": "a b", "max_gen_len": 3}),
    "mistral": ("mistral.mistral-7b-instruct-v0:2", {"prompt": "a b", "max_tokens": 3}),
    "titan": ("amazon.titan-text-lite-v1", {"inputText": "a b", "textGenerationConfig": {"maxTokenCount": 3}}),
    "nova": ("amazon.nova-lite-v1:0", {"messages": turn("a b"), "inferenceConfig": {"maxTokens": 3}}),
    "openai": ("openai.gpt-oss-20b-1:0", {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 3}),
}


def said(family: str, body: dict[str, Any]) -> tuple[str, str]:
    """The text of a whole answer and why it ended."""
    if family == "anthropic":
        return body["content"][0]["text"], body["stop_reason"]
    if family == "llama":
        return body["generation"], body["stop_reason"]
    if family == "mistral":
        return body["outputs"][0]["text"], body["outputs"][0]["stop_reason"]
    if family == "titan":
        return body["results"][0]["outputText"], body["results"][0]["completionReason"]
    if family == "nova":
        return body["output"]["message"]["content"][0]["text"], body["stopReason"]
    return body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]


def piece(family: str, chunk: dict[str, Any]) -> str:
    """The text of a chunk, if it has any."""
    if family == "anthropic":
        return str(chunk.get("delta", {}).get("text", ""))
    if family == "nova":
        return str(chunk.get("contentBlockDelta", {}).get("delta", {}).get("text", ""))
    if family == "mistral":
        return str(chunk["outputs"][0]["text"])
    if family == "openai":
        return str(chunk["choices"][0]["delta"].get("content", ""))
    return str(chunk["generation" if family == "llama" else "outputText"])
