"""What a load test may spend: each call is held at its worst before it is made, and settled at what it cost."""

from __future__ import annotations

from router.core.spending.billing import most_usd
from router.domain.deployment import Deployment

_TEMPLATE_TOKENS = 64
"""A chat template, around one prompt."""
_SLACK = 1.5
"""How much denser than the densest prompt seen the next one may be."""


class Purse:
    """Dollars spent, and held for calls under way. A prompt has at most as many tokens as bytes; once a backend has
    counted some, at most half more a byte than the densest of them."""

    def __init__(self, deployment: Deployment, most: float | None) -> None:
        self._deployment = deployment
        self._densest: float | None = None
        self.most_usd = most
        self.spent_usd = 0.0
        self.held_usd = 0.0
        self.cut_off_usd = 0.0
        """What calls can have cost at most that were cut off."""

    def worst_usd(self, payload_bytes: int, max_tokens: int) -> float:
        """What a call can cost at most."""
        dense = 1.0 if self._densest is None else min(1.0, self._densest * _SLACK)
        return most_usd(self._deployment, payload_bytes * dense + _TEMPLATE_TOKENS, max_tokens)

    def hold(self, usd: float) -> bool:
        """Set aside for a call; False, and nothing, where that could be too much."""
        if self.most_usd is not None and self.spent_usd + self.held_usd + usd > self.most_usd:
            return False
        self.held_usd += usd
        return True

    def settle(self, held_usd: float, paid_usd: float) -> None:
        """The call is over."""
        self.held_usd -= held_usd
        self.spent_usd += paid_usd

    def cut_off(self, held_usd: float) -> None:
        """The call was broken off by us, and nobody says what it cost."""
        self.held_usd -= held_usd
        self.cut_off_usd += held_usd

    def counted(self, payload_bytes: int, input_tokens: int) -> None:
        """How many tokens the backend found in a prompt."""
        self._densest = max(self._densest or 0.0, input_tokens / payload_bytes)

    def refusal(self, usd: float) -> str:
        """Why the next call is not made."""
        return (
            f"the next call could cost USD {usd:.4g}: {self.spent_usd:.4g} of {self.most_usd or 0.0:.4g} were spent "
            f"and {self.held_usd:.4g} held for calls under way"
        )
