"""Look-ups that the planner's model may make: read-only, bounded, and fenced as data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from langchain_core.tools import BaseTool

from domain.slices import SliceRule
from ledger.ledger import Ledger
from ledger.run import Run
from tools.payment_tools import payment_tools
from tools.payments.cashier import Cashier
from tools.payments.chain import Chain
from tools.payments.wallets import Wallet
from tools.vendor_tools import vendor_tools


class Bounds(Protocol):
    @property
    def slices(self) -> SliceRule: ...


class LookupServices(Protocol):
    @property
    def ledger(self) -> Ledger: ...
    @property
    def chain(self) -> Chain: ...
    @property
    def wallet(self) -> Wallet: ...
    @property
    def cashier(self) -> Cashier: ...
    @property
    def limits(self) -> Bounds: ...
    @property
    def now(self) -> Callable[[], datetime]: ...


def lookup_tools(services: LookupServices, run: Run) -> list[BaseTool]:
    """The tools for one run. They see this run only, and what is known of vendors."""
    return [
        *vendor_tools(services.ledger, run, services.now),
        *payment_tools(
            run,
            services.ledger,
            services.chain,
            services.wallet,
            services.cashier.policy,
            services.limits.slices,
        ),
    ]
