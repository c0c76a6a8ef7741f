"""What the operator's commands ask of a ledger and a chain, as the JSON that they print.

A server's routes and the commands that open the store at hand give the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain.money import Usd
from domain.networks import Network
from domain.quotes import Vendor
from domain.reliability import TYPICAL_HOURS, block_at, chances, weight
from ledger.compared import Stray
from server.api.report_schemas import (
    ReconcileAnswer,
    TransferView,
    VendorView,
    WalletAnswer,
)
from server.config.settings import Settings
from tools.payments.reconcile import Report


def vendor_view(vendor: Vendor, now: datetime) -> VendorView:
    return VendorView.of(
        vendor,
        base_price_per_hour=vendor.price_per_hour,
        reliability_score=vendor.reliability,
        supported_gpu_types=vendor.gpu_types,
        history=_history(vendor, now),
    )


def _history(vendor: Vendor, now: datetime) -> list[str]:
    """What its jobs came to, faded to today's weight, and what it is blocked for."""

    def faded(jobs: float) -> str:
        return f"{jobs / weight(now):.1f}".removesuffix(".0")

    lines = []
    for record in vendor.records:
        ahead = chances(
            vendor.reliability, vendor.records, record.gpu_type, TYPICAL_HOURS, now
        ).completes
        completed = faded(record.completed)
        lines.append(
            f"{record.gpu_type}: {completed} job{'' if completed == '1' else 's'} completed, "
            f"{faded(record.never_booted)} never booted, {faded(record.lost)} lost; "
            f"{ahead:.0%} expected to complete"
        )
    block = block_at(vendor.blocks, now)
    return [*lines, str(block)] if block else lines


async def cdp_policies(settings: Settings) -> list[dict[str, Any]]:
    """The policies in force on the account that pays, for a person to read."""
    from server.wiring import open_cdp  # takes long to load, and most commands need none of it
    from tools.payments.cdp_policy import description_of, find_account, policies_of
    from tools.wire.clients import open_client

    async with open_client() as http:
        api = await open_cdp(settings, http)
        account = await find_account(api, settings.x402_wallet_id)
        found = await policies_of(api, account) if account else []
    return [
        {
            "id": one.id,
            "scope": one.scope,
            "description": one.description,
            "ours": one.description == description_of(settings.x402_wallet_id),
            "rules": one.summary(),
        }
        for one in found
    ]


def wallet_answer(
    settings: Settings,
    address: str,
    balance: Usd | None,
    policies: list[dict[str, Any]],
    problem: str = "",
) -> WalletAnswer:
    """The account that pays. problem: why its balance is not known. policies: at Coinbase."""
    network = settings.network
    return WalletAnswer.of(
        network,
        kind=settings.wallet_mode,
        network=network.caip2,
        network_name=network.name,
        address=address,
        balance="unknown" if balance is None else balance.exact(),
        balance_micros=None if balance is None else balance.micros,
        policies=policies,
        problem=problem,
    )


def reconcile_answer(report: Report, network: Network, payer: str) -> ReconcileAnswer:
    """payer: the wallet's address."""
    return ReconcileAnswer.of(
        report,
        network_name=network.name,
        ledger_total_micros=report.ledger_total.micros,
        chain_total_micros=report.chain_total.micros,
        acknowledged_micros=report.acknowledged.micros,
        unknown_transfers=[_transfer(t, payer) for t in report.unknown_transfers],
        unclaimed=[_transfer(t, payer) for t in report.unclaimed],
    )


def _transfer(stray: Stray, payer: str) -> TransferView:
    sender, recipient = (payer, stray.other) if stray.outgoing else (stray.other, payer)
    return TransferView.of(
        stray, sender=sender, recipient=recipient, amount_micros=stray.amount.micros
    )
