"""The errors of this product, one tree.

    RenterError
    ├── InvalidInput            a person or program sent something unusable          400
    ├── NotFound                no such run, vendor, …                               404
    ├── Conflict                it is being done, or was done otherwise              409
    │   ├── NotAllUsed          a goal names what a run leaves out, and nobody said yes
    │   ├── LeaseHeld           another tick works on the run, or did until it was killed
    │   ├── LeaseLost           our lease expired and another tick took over
    │   └── TooManyRuns         as many runs are open as may be
    ├── StateRefused            a run's saved state holds what no state of ours does  409
    ├── ConfigError             a setting is missing or contradicts another
    ├── DependencyDown          MongoDB, the chain, the wallet service: try later    503
    │   ├── StoreDown
    │   ├── ChainDown
    │   ├── WalletDown
    │   └── ClockOff            this machine's clock is not MongoDB's: nothing is ticked
    ├── VendorError             a vendor did not do what the protocol says           502
    │   ├── VendorUnreachable   no answer in time: what it did is unknown
    │   ├── VendorUnauthorized  it refuses our secret
    │   ├── VendorRefused       it answered 4xx: it will not do this
    │   ├── VendorBroken        it answered 5xx: what it did is unknown
    │   └── VendorGarbage       its answer is not what the protocol says
    └── PaymentError
        ├── PolicyRefused       the spending policy does not pass this payment
        ├── BudgetExceeded      the run's budget cannot hold this amount
        ├── SlotClosed          the slot was used up before: the decision for it is stale
        ├── WalletEmpty         the wallet holds less than this payment
        ├── PaymentUnclear      its nonce is used, and the ledger cannot say by what
        └── IllegalTransition   a payment cannot go from that state to this one

Each message says what was being done and to what; `remedy` says what to do about it. None of
them ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

RUN_BUSY: Final = "run_busy"
"""Error code: another tick works on the run; trying again in a moment helps."""
GOAL_NOT_ALL_USED: Final = "goal_not_all_used"
"""Error code: the goal names what a run leaves out, and nobody has accepted that."""
LEAVES_OUT: Final = (
    "A run starts at once, and does the vendor's own job of that kind on the rented GPU"
)

TOO_MANY_RUNS: Final = "too_many_runs"
"""Error code: no run can be started until another one has ended."""


class RenterError(Exception):
    """The root. `str(error)` is one sentence for a person; `remedy` the next step, or empty."""

    code: ClassVar[str] = ""
    """A code for programs that can react to this error; the API's answer has it. Empty for most."""
    outcome: ClassVar[str] = "failed"
    """The outcome that metrics record for a step which this error ended."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class InvalidInput(RenterError):
    """`field` names what was wrong with the input, `problem` says what."""

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{field}: {problem}", remedy)
        self.field = field
        self.problem = problem


class NotFound(RenterError):
    outcome = "not_found"


class Conflict(RenterError):
    outcome = "conflict"


class NotAllUsed(Conflict):
    """`words` is all that the run would leave out. `remedy` says how to start it all the same."""

    code = GOAL_NOT_ALL_USED

    def __init__(self, words: Sequence[str], remedy: str) -> None:
        told = f"Nothing was started, for this would not be used: {', '.join(words)}"
        super().__init__(f"{told}. {LEAVES_OUT}", remedy)
        self.words = tuple(words)


class LeaseHeld(Conflict):
    """`goes_on_in_s`: the holder of the lease is gone, and the run can be ticked again after so
    many seconds; None while the holder works.
    """

    code = RUN_BUSY
    outcome = "lease_held"

    def __init__(self, message: str, remedy: str = "", *, goes_on_in_s: int | None = None) -> None:
        super().__init__(message, remedy)
        self.goes_on_in_s = goes_on_in_s


class LeaseLost(Conflict):
    code = RUN_BUSY
    outcome = "lease_lost"


class StateRefused(RenterError):
    """`run_id` names the run; nothing of its state was built, and no money moved."""

    def __init__(self, run_id: str, found: str) -> None:
        super().__init__(
            f"The saved state of run {run_id} is refused: it holds {found}, which is not ours",
            "Somebody else has written to the collection `checkpoints`: find out who. Then restore "
            f"that run's state from a backup, or end the run from the ledger, which has all of "
            f"its money: gpu-renter cancel {run_id}",
        )
        self.run_id = run_id


class TooManyRuns(Conflict):
    code = TOO_MANY_RUNS


class ConfigError(RenterError):
    """`variable` names the setting to change."""

    def __init__(self, variable: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{variable}: {problem}", remedy)
        self.variable = variable


class DependencyDown(RenterError):
    outcome = "dependency_down"


class StoreDown(DependencyDown):
    pass


class ChainDown(DependencyDown):
    pass


class WalletDown(DependencyDown):
    pass


class ClockOff(DependencyDown):
    pass


class VendorError(RenterError):
    """`vendor_id` and `call` say whose answer to what."""

    outcome = "vendor_error"

    def __init__(self, vendor_id: str, call: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{vendor_id} {call}: {problem}", remedy)
        self.vendor_id = vendor_id
        self.call = call
        self.problem = problem


class VendorUnreachable(VendorError):
    outcome = "unreachable"


class VendorUnauthorized(VendorError):
    outcome = "unauthorized"


class VendorRefused(VendorError):
    """`status_code` is the vendor's 4xx."""

    outcome = "refused"

    def __init__(self, vendor_id: str, call: str, problem: str, status_code: int) -> None:
        super().__init__(vendor_id, call, problem)
        self.status_code = status_code


class VendorBroken(VendorError):
    outcome = "broken"


class VendorGarbage(VendorError):
    outcome = "garbage"


class PaymentError(RenterError):
    outcome = "payment_refused"


class PolicyRefused(PaymentError):
    """`rule` is the name of the spending rule that said no."""

    def __init__(self, rule: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"The spending policy refuses this payment ({rule}): {problem}", remedy)
        self.rule = rule


class ApprovalRequired(PolicyRefused):
    """A person has to approve the payment first: nothing may be signed for it now."""

    def __init__(self, problem: str) -> None:
        super().__init__("approval", problem, "Approve it: gpu-renter approve RUN")


class BudgetExceeded(PaymentError):
    pass


class IllegalTransition(PaymentError):
    pass


class SlotClosed(PaymentError):
    pass


class WalletEmpty(PaymentError):
    pass


class PaymentUnclear(PaymentError):
    """One slot's nonce is used on the chain, and no payment in the ledger explains it.

    It is about this slot of this run alone. Nothing is signed, paid or released for it until the
    chain explains it or a person says what it was.
    """

    def __init__(
        self,
        run_id: str,
        slot: int,
        nonce: str,
        problem: str,
        *,
        payment_id: str | None = None,
        tx_hash: str | None = None,
    ) -> None:
        """payment_id: the payment of the slot, where there is one. tx_hash: what used the nonce,
        where that is known.
        """
        what = f"Payment {payment_id}" if payment_id else "A payment"
        how = f"--paid {tx_hash}" if tx_hash else "--paid TX (or --unpaid)"
        command = f'gpu-renter reconcile --resolve {run_id} {how} --reason "…"'
        super().__init__(
            f"{what} for slot {slot} of run {run_id} cannot be explained: {problem}",
            f"Once you know what it was: {command}",
        )
        self.run_id = run_id
        self.slot = slot
        self.nonce = nonce
        self.problem = problem
        self.payment_id = payment_id
        self.tx_hash = tx_hash
