"""What this router itself counted, by deployment and minute of wall time, to be held against what AWS counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from router.domain.control.provisioned import Tally
from router.domain.events import AttemptEnded, Event
from router.domain.outcome import Ending

KEPT_MINUTES = 30
_NOTHING = Tally()
_THROTTLED = frozenset({"throttled"})


class OwnCounts:
    """A subscriber of the sink. `at` gives the wall time. A call counts in the minute in which it ended, as it does in
    CloudWatch; one that is cancelled counts nowhere."""

    name = "aws_counts"

    def __init__(self, at: Callable[[], float]) -> None:
        self._at = at
        self._minutes: defaultdict[int, dict[str, Tally]] = defaultdict(dict)

    def handlers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Calls that ended."""
        return {AttemptEnded: self._on_attempt}

    def flush(self) -> None:
        """Nothing is gathered."""

    def over(self, deployments: Iterable[str], *, begin: float, end: float) -> Tally:
        """What these deployments did in the whole minutes from wall time `begin` to `end`."""
        total = _NOTHING
        for minute in range(int(begin // 60), int(end // 60)):
            counted = self._minutes.get(minute, {})
            for name in deployments:
                if name in counted:
                    total += counted[name]
        return total

    def _on_attempt(self, event: AttemptEnded) -> None:
        outcome = event.outcome
        deployment = outcome.attempt.deployment
        if deployment.address.backend != "bedrock":
            return
        if outcome.ending is Ending.COMPLETED:
            first_s = event.first_token_s if outcome.attempt.stream else None
            took_s = outcome.ended - outcome.attempt.started
            one = Tally(1.0, 0.0, outcome.input_tokens, outcome.output_tokens, took_s, first_s)
        elif outcome.error_code in _THROTTLED:
            one = Tally(throttles=1.0)
        else:
            return
        minute = int(self._at() // 60)
        if minute not in self._minutes:
            for old in [m for m in self._minutes if m < minute - KEPT_MINUTES]:
                del self._minutes[old]
        counted = self._minutes[minute]
        counted[deployment.name] = counted.get(deployment.name, _NOTHING) + one
