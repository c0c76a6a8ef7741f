"""What the nodes work with: services, injected; a test replaces any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from langchain_core.tools import BaseTool

from domain.due import Pace
from domain.money import Usd
from domain.policy import NO_SUCH_LIMIT, OpenRuns
from domain.slices import SliceRule
from domain.tokens import TokenLimits
from graph.goals.reader import GoalReader, RuleReader
from graph.planner.planners import Planner
from ledger.ledger import Ledger
from ledger.run import Run
from tools.payment_tools import payment_tools
from tools.payments.cashier import Cashier
from tools.payments.chain import Chain
from tools.payments.reconcile import Reconciler
from tools.payments.refunds import Refunds
from tools.payments.wallets import Wallet
from tools.vendor_tools import vendor_tools
from tools.vendors.base import VendorClient
from tools.wire.observer import Observer

CALLBACK_PATH: Final = "/api/vendor-callback"
DEFAULT_SLICES: Final = SliceRule(first_minutes=60, exposure=Usd(2_000_000))


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the agent is; each name gives its unit."""

    lease_seconds: float = 60.0
    quote_deadline_s: float = 3.0
    quote_fresh_minutes: float = 60.0
    """The longest that a quote is believed, whatever its vendor says."""
    max_attempts: int = 5
    """Purchases that came to nothing before a run is given up."""
    poll_failure_limit: int = 3
    """Polls in a row without an answer before a job counts as lost."""
    silent_minutes: float = 5.0
    """A job counts as lost only if its paid vendor has also been silent for so long."""
    stall_minutes: float = 30.0
    """A job without progress for so long counts as hung."""
    slices: SliceRule = DEFAULT_SLICES
    """How much time to prepay at a vendor."""
    approval_minutes: float = 60.0
    """How long a payment waits for a person's approval."""
    silent_sends: int = 2
    """Sends of one payment without an answer before another vendor gets the slot."""
    vendors_clock: bool = True
    """Whether to believe a vendor's own clock: only for jobs that run faster than real time, as at
    the local mock vendors.
    """
    open_runs: OpenRuns = NO_SUCH_LIMIT
    """How many runs may be open at once."""
    pace: Pace = field(default_factory=Pace)
    """How long to wait between ticks."""


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything outside that the nodes reach. A test replaces any of them."""

    ledger: Ledger
    vendors: VendorClient
    cashier: Cashier
    refunds: Refunds
    reconciler: Reconciler
    chain: Chain
    wallet: Wallet
    planner: Planner
    now: Callable[[], datetime]
    limits: Limits
    artifacts: Path
    """The folder for downloaded artifacts, one subfolder a run."""
    callback_url: str | None = None
    """The address at which vendors may report that a job has moved."""
    tokens: TokenLimits = field(default_factory=TokenLimits)
    """The token limits of a run and of a user."""
    reader: GoalReader = field(default_factory=RuleReader)
    """Reads goals and questions."""
    observer: Observer = field(default_factory=Observer)
    """Tells its listeners of every tick, node, payment and call."""

    def lookup_tools(self, run: Run) -> list[BaseTool]:
        """What the planner's model may look up for one run: read-only, bounded, fenced as data. It
        sees this run only, and what is known of vendors.
        """
        policy, slices = self.cashier.policy, self.limits.slices
        return [
            *vendor_tools(self.ledger, run, self.now),
            *payment_tools(run, self.ledger, self.chain, self.wallet, policy, slices),
        ]


def callback_url(public_url: str | None) -> str | None:
    """The address for vendors' callbacks, below the one at which they reach the API."""
    return f"{public_url.rstrip('/')}{CALLBACK_PATH}" if public_url else None
