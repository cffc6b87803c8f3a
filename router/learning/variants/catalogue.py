"""Models of SageMaker JumpStart and the optimisations that exist for them; the data lies beside this file.

Facts and their source stand in `catalogue.json`: what AWS lists as supported, for which models SageMaker has a draft
model, and which models it offers optimised or compiled (for Inferentia2 and Trainium) already.
"""

from __future__ import annotations

import pkgutil
import re
from enum import StrEnum
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

_FILE: Final = "catalogue.json"
_PROVIDER: Final = re.compile(r"^(?:huggingface-(?:llm|textgeneration\d?|textembedding)|meta-textgeneration)-")
_CHAT: Final = re.compile(r"-(?:chat|f)$")


class Fact(StrEnum):
    """What may be so of a model."""

    QUANTIZATION = "quantization"
    SPECULATIVE_DECODING = "speculative_decoding"
    DRAFT_MODEL = "draft_model"
    PRE_OPTIMIZED = "pre_optimized"
    PRE_COMPILED = "pre_compiled"


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One model. What is neither in `has` nor in `unknown` it has not."""

    id: str
    family: str
    has: tuple[Fact, ...] = ()
    unknown: tuple[Fact, ...] = ()

    def says(self, fact: Fact) -> bool | None:
        """Whether it is so; `None` where nothing is said."""
        return None if fact in self.unknown else fact in self.has


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    """All of it: `carried_over` is the month in which it was, from `sources`."""

    carried_over: str
    sources: tuple[str, ...]
    models: tuple[Entry, ...]

    def find(self, text: str) -> tuple[Entry, ...]:
        """Those whose id or family holds a text, in order."""
        wanted = text.lower()
        return tuple(e for e in self.models if wanted in e.id.lower() or wanted in e.family.lower())

    def match(self, model: str) -> Entry | None:
        """The one that a model's usual name means, such as llama-3-8b-instruct; `None` where it is none or several."""
        wanted = _plain(model)
        exact = [e for e in self.models if wanted in (_plain(e.id), _PROVIDER.sub("", _plain(e.id)))]
        found = exact or [e for e in self.models if _plain(e.id).endswith(f"-{wanted}")]
        return found[0] if len(found) == 1 else None


@cache
def catalogue() -> Catalogue:
    """The shipped one."""
    data = pkgutil.get_data(__package__ or "", _FILE)
    assert data is not None
    return msgspec.json.decode(data, type=Catalogue)


def _plain(name: str) -> str:
    """JumpStart calls the chat models of Llama 2 `-f`."""
    return _CHAT.sub("-chat", name.lower().replace("_", "-").replace("llama3-", "llama-3-"))
