"""Named misbehaviours, switched on per vendor and per call.

Each says where it strikes; a log line repeats its name when it does. On paid calls (submit-job,
extend-job) the faults about settling strike the request that carries the payment; on other calls
"before settling" means before, and "after" means after the call had its effect.
"""

import logging
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

logger = logging.getLogger(__name__)

CallName = Literal[
    "quote", "submit-job", "job-status", "extend-job", "cancel-job", "artifacts", "*"
]

FaultName = Literal[
    "refuse",
    "never_boot",
    "hang",
    "error_before_settling",
    "error_after_settling",
    "drop_response_after_settling",
    "price_above_quote",
    "wrong_pay_to",
    "wrong_asset",
    "wrong_network",
    "redirect",
    "malformed_402",
    "oversized_body",
    "slow_drip",
    "ghost_job",
    "ghost_job_404",
    "fake_progress",
    "failing_refund",
    "claimed_refund",
    "silent_after_settling",
    "silent_before_settling",
]

JOB_FAULTS: Final[tuple[FaultName, ...]] = (
    "never_boot",
    "ghost_job",
    "ghost_job_404",
    "fake_progress",
)
"""Faults of a whole job: they strike submit-job and stay with the job."""

CHALLENGE_FAULTS: Final[tuple[FaultName, ...]] = (
    "price_above_quote",
    "wrong_pay_to",
    "wrong_asset",
    "wrong_network",
)
"""Faults of the terms in the 402 challenge."""


class Fault(BaseModel):
    """One misbehaviour.

    `vendorId` and `call` may be "*". `times` says how often it strikes; None is always. `when`
    narrows paid calls down to the request without ("challenge") or with the payment ("payment").
    """

    model_config = ConfigDict(populate_by_name=True)

    name: FaultName
    vendor_id: str = Field(default="*", alias="vendorId")
    call: CallName = "*"
    times: int | None = None
    when: Literal["any", "challenge", "payment"] = "any"
    struck: int = 0

    def matches(self, name: FaultName, vendor_id: str, call: str, *, paying: bool) -> bool:
        """Tell whether this fault strikes here, now."""
        return (
            self.name == name
            and self.vendor_id in ("*", vendor_id)
            and self.call in ("*", call)
            and self.when in ("any", "payment" if paying else "challenge")
            and (self.times is None or self.struck < self.times)
        )


class FaultBoard:
    """The faults switched on. Asking for one uses up one of its times."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = [f.model_copy() for f in faults]

    def replace(self, faults: list[Fault]) -> None:
        """Switch on exactly these."""
        self._faults = [f.model_copy() for f in faults]

    def listed(self) -> list[Fault]:
        """Return the faults with how often each has struck."""
        return [f.model_copy() for f in self._faults]

    def strikes(self, name: FaultName, vendor_id: str, call: str, *, paying: bool = False) -> bool:
        """Tell whether a fault strikes, and count it."""
        for fault in self._faults:
            if fault.matches(name, vendor_id, call, paying=paying):
                fault.struck += 1
                logger.warning("fault %s strikes %s of %s", name, call, vendor_id)
                return True
        return False

    def first(
        self, names: tuple[FaultName, ...], vendor_id: str, call: str, *, paying: bool = False
    ) -> FaultName | None:
        """Return the first of these faults that strikes, and count it."""
        for name in names:
            if self.strikes(name, vendor_id, call, paying=paying):
                return name
        return None
