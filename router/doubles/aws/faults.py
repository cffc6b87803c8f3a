"""What is to go wrong: in which operation, for which model, how, and how often."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from router.doubles.aws.call import AwsError, Call, Json


class How(StrEnum):
    """How a call fails. Only `refuse` comes before a stream has begun."""

    REFUSE = "refuse"
    EXCEPTION = "exception"
    CUT = "cut"
    GARBAGE = "garbage"
    SILENT_END = "silent_end"
    HANG = "hang"


class Fault(Struct, forbid_unknown_fields=True):
    """One order. `operation` and `model` (as the caller names it) of `None` mean any; `times` of `None` means always.

    A stream fails after so many pieces of its answer (`after`). A call without a stream has no pieces: it hangs, or
    its connection is cut, where its answer should be; `exception` there is a refusal.
    """

    how: How = How.REFUSE
    code: str = "ThrottlingException"
    message: str = "refused by the double"
    operation: str | None = None
    model: str | None = None
    after: int = 0
    times: int | None = None
    retry_after_s: float | None = None
    fields: Json = field(default_factory=dict)
    """Further members of the error's shape, such as `OriginalStatusCode`."""

    def fits(self, call: Call) -> bool:
        """Whether it is for this call."""
        asked = call.params.get("modelId", call.params.get("EndpointName"))
        return self.times != 0 and self.operation in {None, call.operation} and self.model in {None, asked}

    def error(self) -> AwsError:
        """The error it answers with."""
        return AwsError(self.code, self.message, retry_after_s=self.retry_after_s, fields=self.fields)


def take(faults: list[Fault], call: Call) -> Fault | None:
    """The first fault for this call, used up by one."""
    for fault in faults:
        if fault.fits(call):
            if fault.times is not None:
                fault.times -= 1
            return fault
    return None
