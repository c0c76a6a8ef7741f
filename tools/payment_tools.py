"""LangChain tools over money: to look at, never to move it."""

from __future__ import annotations

from langchain_core.tools import BaseTool, tool

from domain.money import ZERO
from ledger.runs import Run
from tools.fence import fence
from tools.payments.chain import Chain
from tools.payments.wallets import Wallet


def payment_tools(run: Run, chain: Chain, wallet: Wallet) -> list[BaseTool]:
    @tool
    async def budget() -> str:
        """This run's budget in dollars: total, spent, reserved and left."""
        reserved = sum((held.amount for held in run.reservations), ZERO)
        return fence(
            {
                "totalUsd": run.budget_total.dollars(),
                "spentUsd": run.spent.dollars(),
                "reservedUsd": reserved.dollars(),
                "leftUsd": run.budget_remaining.dollars(),
            }
        )

    @tool
    async def wallet_balance() -> str:
        """The USDC balance of the paying wallet, in dollars."""
        return fence({"balanceUsd": (await chain.balance(wallet.address)).dollars()})

    return [budget, wallet_balance]
