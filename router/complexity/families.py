"""Which known model is this the same as, under another spelling?

Providers spell one model many ways: `meta-llama/llama-3.1-8b-instruct`, `us.meta.llama3-1-8b-instruct-v1:0`,
`llama-3.1-8b`. Two names are the same model when their words agree after the owner, the punctuation and the words that
say nothing of capability (instruct, chat, it, turbo ...) are gone. A fine-tuned variant, whose name adds words to its
base model's, inherits from the longest base that it contains; never from another size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_NOISE: Final = frozenset(
    [
        "instruct",
        "chat",
        "it",
        "preview",
        "latest",
        "hf",
        "fp8",
        "fp16",
        "awq",
        "gptq",
        "gguf",
        "int4",
        "int8",
        "us",
        "eu",
        "apac",
        "global",
    ]
)
_PIECES: Final = re.compile(r"\d+x\d+b|\d+b|\d+|[a-z]+")
_SIZE: Final = re.compile(r"(\d+x)?\d+b")
_VERSION: Final = re.compile(r"[-@:]v?\d+(\.\d+)*(:\d+)?$")
_OWNERS: Final = frozenset(
    ["meta", "anthropic", "amazon", "mistral", "mistralai", "cohere", "ai21", "google", "openai", "deepseek", "qwen"]
)


def words_of(name: str) -> tuple[str, ...]:
    """The telling words of a model's name, in order: family, generation, size, variant."""
    last = name.lower().rsplit("/", 1)[-1]
    head, dot, rest = last.partition(".")
    while dot and (head in _NOISE or head in _OWNERS):
        last = rest
        head, dot, rest = last.partition(".")
    if len(_VERSION.sub("", last)) > 3 and re.search(r"-v\d+(\.\d+)*(:\d+)?$", last):
        last = _VERSION.sub("", last)
    return tuple(piece for piece in _PIECES.findall(last) if piece not in _NOISE)


def best_match(name: str, known: Iterable[str]) -> str | None:
    """The name among `known` that means the same model, or the base model of this variant; `None` if none does."""
    listed = list(known)
    if name in listed:
        return name
    words = words_of(name)
    found: tuple[int, str] | None = None
    for other in listed:
        base = words_of(other)
        if not base or words[: len(base)] != base or _sizes(words) != _sizes(base):
            continue
        if found is None or len(base) > found[0]:
            found = (len(base), other)
    return found[1] if found else None


def _sizes(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for word in words if _SIZE.fullmatch(word))
