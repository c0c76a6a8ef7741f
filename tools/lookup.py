"""Look-ups that the planner's model may make: read-only, bounded, and fenced as data."""

from __future__ import annotations

from typing import Protocol

from langchain_core.tools import BaseTool

from ledger.ledger import Ledger
from ledger.runs import Run
from tools.payment_tools import payment_tools
from tools.payments.chain import Chain
from tools.payments.wallets import Wallet
from tools.vendor_tools import vendor_tools


class Services(Protocol):
    @property
    def ledger(self) -> Ledger: ...
    @property
    def chain(self) -> Chain: ...
    @property
    def wallet(self) -> Wallet: ...


def lookup_tools(services: Services, run: Run) -> list[BaseTool]:
    """The tools for one run. They see this run only."""
    return [
        *vendor_tools(services.ledger, run),
        *payment_tools(run, services.chain, services.wallet),
    ]
