"""What is left of reserved tokens a minute?

Two token buckets per provisioned deployment: input is taken when a call starts, output is reserved at its expected
length and settled at its end. Buckets are full at the start and hold one minute.
"""

from __future__ import annotations

from router.domain.deployment import TokenQuota


class Bucket:
    """Tokens that refill at a constant rate up to one minute's worth."""

    __slots__ = ("capacity", "level", "updated")

    def __init__(self, tokens_per_min: float) -> None:
        self.capacity = tokens_per_min
        self.level = tokens_per_min
        self.updated: float | None = None

    def refill(self, now: float) -> float:
        """The level as of `now`."""
        if self.updated is not None and now > self.updated:
            self.level = min(self.capacity, self.level + (now - self.updated) * self.capacity / 60.0)
        self.updated = now
        return self.level


class Quota:
    """Both buckets of one deployment."""

    def __init__(self, quota: TokenQuota) -> None:
        self.input = Bucket(quota.input_tokens_per_min)
        self.output = Bucket(quota.output_tokens_per_min)

    def has_room(self, input_tokens: float, output_tokens: float, *, now: float) -> bool:
        """Whether a call of this size can start without being throttled, as far as we know."""
        return self.input.refill(now) >= input_tokens and self.output.refill(now) >= output_tokens

    def reserve(self, input_tokens: float, output_tokens: float, *, now: float) -> None:
        """Take what a call will use."""
        self.input.refill(now)
        self.output.refill(now)
        self.input.level -= input_tokens
        self.output.level -= output_tokens

    def settle(self, reserved_output: float, used_output: float) -> None:
        """Give back (or take) the difference once the length is known."""
        self.output.level = min(self.output.capacity, self.output.level + reserved_output - used_output)

    def fits(self, input_tokens: float, output_tokens: float) -> bool:
        """Whether full buckets would ever hold a call of this size."""
        return input_tokens <= self.input.capacity and output_tokens <= self.output.capacity

    def on_throttled(self, *, now: float) -> None:
        """The backend says it is empty: believe it."""
        self.input.refill(now)
        self.output.refill(now)
        self.input.level = min(self.input.level, 0.0)
        self.output.level = min(self.output.level, 0.0)

    def saturation_ratio(self, *, now: float) -> float:
        """Used share of the tighter bucket; 1 is empty."""
        left = min(self.input.refill(now) / self.input.capacity, self.output.refill(now) / self.output.capacity)
        return 1.0 - max(left, 0.0)
