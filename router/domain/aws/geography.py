"""Inference profiles of AWS itself: the id of a model behind the geography over which its calls are spread."""

from __future__ import annotations

import re

_GEOGRAPHY = re.compile(r"^(?:us-gov|us|eu|apac|ap|au|ca|jp|sa|global)\.(?=[a-z0-9-]+\.)")


def is_spread(model_id: str) -> bool:
    """Whether it names such a profile, as us.anthropic.claude-3-haiku-20240307-v1:0 does."""
    return _GEOGRAPHY.match(model_id) is not None


def without_geography(model_id: str) -> str:
    """The id of the model itself."""
    return _GEOGRAPHY.sub("", model_id)
