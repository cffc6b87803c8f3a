"""What the AWS services of the double have in common as far sides of the conformance suite."""

from __future__ import annotations

from router.doubles.aws.faults import Fault, How
from router.doubles.aws.world import World
from tests.conformance.backend_far_sides import Far


class AwsFar(Far):
    """An AWS service of the double. What it is ordered to do wrong are faults of its world; `lead` is how many chunks
    of a stream come before the first piece, `busy` and `refused` what the service calls being so and a
    request that it does not take."""

    lead = 0
    busy: str
    refused: str
    world: World

    def throttles(self) -> float:
        self.world.faults.append(Fault(code="ThrottlingException", retry_after_s=7.0))
        return 7.0

    def is_busy(self) -> None:
        self.world.faults.append(Fault(code=self.busy))

    def refuses(self) -> None:
        self.world.faults.append(Fault(code=self.refused))

    def breaks(self, after: int) -> None:
        self.world.faults.append(Fault(How.CUT, after=after and self.lead + after))

    def garbles(self, after: int) -> None:
        self.world.faults.append(Fault(How.GARBAGE, after=after and self.lead + after))

    def hangs(self, after: int) -> None:
        self.world.faults.append(Fault(How.HANG, after=after and self.lead + after))

    def recovers(self) -> None:
        self.world.faults.clear()

    def calls(self) -> int:
        return len(self.world.calls)

    def serving(self) -> int:
        return self.world.serving
