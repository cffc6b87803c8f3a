"""What is behind an endpoint: variants with their weights and speeds, components, the container's way of speaking."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.doubles.aws.call import AwsError, Call
from router.doubles.aws.models import Answer, Says, Speed, said


@dataclass(slots=True)
class Variant:
    """One production variant. A list of n inputs takes `batch_s` + n * `item_s` seconds. `weight` is its share of the
    traffic that names none."""

    name: str = "AllTraffic"
    weight: float = 1.0
    speed: Speed = field(default_factory=Speed)
    batch_s: float = 0.0
    item_s: float = 0.0
    says: Says | None = None
    answer_tokens: int = 8
    served: int = 0

    def answer(self, call: Call) -> Answer:
        """What it says to this call."""
        return said(self.says, self.answer_tokens, call)


@dataclass(slots=True)
class Endpoint:
    """`payload` is how its containers speak: openai, tgi or jumpstart. `components` name the variant each lives on;
    where there are any, a call must name one. `part_bytes` cuts what is streamed into parts of so many bytes, wherever
    that falls; `None`: a part for each event. A `stateful` endpoint opens sessions of `session_s` seconds.
    """

    name: str
    payload: str = "openai"
    variants: list[Variant] = field(default_factory=lambda: [Variant()])
    components: dict[str, str] = field(default_factory=dict)
    part_bytes: int | None = None
    lines: bool = False
    """Streams one JSON text a line in place of server-sent events, as LMI does unless told otherwise."""
    echoes: bool = False
    """Gives the prompt before the answer, as containers do that know no `return_full_text`."""
    stateful: bool = False
    session_s: float = 1200.0
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Open sessions: the variant that holds each, and when it ends."""

    def variant(self, call: Call) -> Variant:
        """Which variant serves a call that names one, a component, a session, or nothing."""
        component, named = call.params.get("InferenceComponentName"), call.params.get("TargetVariant")
        if self.components and component is None:
            raise AwsError("ValidationError", "Inference Component Name header is required for this endpoint.")
        if component is not None:
            if component not in self.components:
                raise AwsError("ValidationError", f"Inference Component {component} not found.")
            named = self.components[component]
        if named is None and (held := self.sessions.get(call.params.get("SessionId", ""))) is not None:
            named = held[0]
        if named is None:
            return self._by_weight()
        found = next((variant for variant in self.variants if variant.name == named), None)
        if found is None:
            raise AwsError("ValidationError", f"Variant {named} not found for endpoint {self.name}.")
        return found

    def _by_weight(self) -> Variant:
        """The one that is furthest behind its share, so that shares hold without chance."""
        total, weights = sum(v.served for v in self.variants) + 1, sum(v.weight for v in self.variants)
        return max(self.variants, key=lambda v: v.weight / weights * total - v.served)
