"""LangChain tools over money: to look at, never to move it."""

from __future__ import annotations

from langchain_core.tools import BaseTool, tool

from domain.money import ZERO, Usd
from domain.policy import SpendingPolicy
from domain.slices import SliceRule
from ledger.ledger import Ledger
from ledger.run import Run
from tools.fence import fence
from tools.payments.chain import Chain
from tools.payments.wallets import Wallet


def payment_tools(
    run: Run,
    ledger: Ledger,
    chain: Chain,
    wallet: Wallet,
    policy: SpendingPolicy,
    slices: SliceRule,
) -> list[BaseTool]:
    @tool
    async def budget() -> str:
        """This run's budget in dollars: total, spent, reserved and left."""
        return fence(
            {
                "totalUsd": run.budget_total.dollars(),
                "spentUsd": run.spent.dollars(),
                "reservedUsd": run.reserved.dollars(),
                "leftUsd": run.budget_remaining.dollars(),
            }
        )

    @tool
    async def exposure() -> str:
        """What is at risk now, in dollars, and the owner's limits on it."""
        jobs = await ledger.jobs.of_run(run)
        running = {job.payment_id: job for job in jobs if not job.status.ended}
        at_risk = sum(
            (
                payment.amount.scaled(round(1000 * (1 - running[payment.id].progress)), 1000)
                for payment in await ledger.payments.of_run(run.id)
                if payment.id in running
            ),
            ZERO,
        )
        caps = policy.caps
        return fence(
            {
                "prepaidToRunningJobsUsd": at_risk.dollars(),
                "reservedBySlot": [
                    {
                        "slot": held.slot,
                        "amountUsd": held.amount.dollars(),
                        "maySettle": bool(held.armed),
                    }
                    for held in run.reservations
                ],
                "mostPrepaidToAVendorUsd": slices.exposure.dollars(),
                "firstSliceMinutes": slices.first_minutes,
                "mostPerPaymentUsd": policy.max_per_payment.dollars(),
                "mostPerRunUsd": _dollars(policy.max_per_run),
                "mostPerDayUsd": _dollars(caps.user_day),
                "mostPerHourUsd": _dollars(caps.user_hour),
                "mostPerVendorAndDayUsd": _dollars(caps.vendor_day),
            }
        )

    @tool
    async def wallet_balance() -> str:
        """The USDC balance of the paying wallet, in dollars."""
        return fence({"balanceUsd": (await chain.balance(wallet.address)).dollars()})

    return [budget, exposure, wallet_balance]


def _dollars(amount: Usd | None) -> float | None:
    return None if amount is None else amount.dollars()
