"""The JSON of what the operator's commands ask: vendors, wallet, plan, audit, reconcile, doctor.

The commands print these, whether a server has answered or the store was opened at hand.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from server.api.schemas import Answered, Dollars


class VendorView(Answered):
    """A vendor in the seed document's shape, with what its jobs came to."""

    vendor_id: str = Field(examples=["gpu_vendor_1"])
    name: str = Field(examples=["FastGPU"])
    endpoint: str
    base_price_per_hour: Dollars = Field(description="Dollars.", examples=[1.4])
    reliability_score: float = Field(description="0 to 1, as registered.")
    supported_gpu_types: list[str]
    pay_to: str | None = Field(description="The only address it is paid at; null: outside x402.")
    secret_env: str | None = Field(description="The variable that holds its secret; null: none.")
    completed: int
    failed: int
    history: list[str] = Field(description="What its jobs came to, by GPU type, and its block.")


class VendorsAnswer(Answered):
    vendors: list[VendorView]


class WalletAnswer(Answered):
    kind: str = Field(examples=["local"])
    network: str = Field(examples=["eip155:31337"])
    network_name: str = Field(examples=["local chain"])
    stakes: str = Field(description="SIMULATION, TEST NETWORK or LIVE.")
    usdc: str = Field(description="The token's contract.")
    address: str = Field(description="The account that pays.")
    balance: str | None = Field(description="Exact, in words; `unknown` where the chain is silent.")
    balance_micros: int | None = Field(description="Micro-dollars.")
    policies: list[dict[str, Any]] = Field(description="In force at Coinbase, with a CDP wallet.")
    problem: str = Field(description="Why the balance is not known.")


class AuditEntry(Answered):
    seq: int
    at: str
    who: str = Field(description="For whom, and with whom.", examples=["u1 → gpu_vendor_1"])
    type: str = Field(examples=["payment_settled"])
    what: str
    data: dict[str, Any]
    prev_hash: str
    hash: str


class AuditHead(Answered):
    seq: int
    hash: str


class AuditAnswer(Answered):
    run_id: str
    user_id: str
    goal: str
    status: str
    budget_total_micros: int
    spent_micros: int
    whole: bool = Field(description="Whether no entry was changed, removed, moved or put in.")
    broken_seq: int | None = Field(description="The first entry that does not hold.")
    problem: str
    head: AuditHead
    entries: list[AuditEntry]
    pruned_at: str | None = Field(
        default=None, description="When the run was removed: its journal was whole then."
    )
    payments: list[dict[str, Any]] = Field(
        default=[], description="What a removed run paid; of others, the entries tell."
    )


class TransferView(Answered):
    tx_hash: str
    block: int
    sender: str = Field(serialization_alias="from")
    recipient: str = Field(serialization_alias="to")
    amount_micros: int


class UnclearView(Answered):
    """A slot whose nonce is used on the chain, while no payment in the ledger explains it."""

    run_id: str
    slot: int
    payment_id: str | None
    nonce: str
    tx_hash: str | None
    problem: str
    remedy: str


class ReconcileAnswer(Answered):
    """Ids are of runs, but where it says otherwise. Amounts in dollars and micro-dollars."""

    network_name: str
    ok: bool = Field(description="Whether ledger and chain agree to the micro-dollar.")
    runs: int = Field(description="Runs that held money or awaited a refund.")
    busy: list[str] = Field(description="Left to the ticks at work on them.")
    still_open: list[str] = Field(description="Their payments' outcome is unknown still.")
    ledger_total: Dollars
    ledger_total_micros: int
    chain_total: Dollars
    chain_total_micros: int
    acknowledged_micros: int = Field(description="Left the wallet, and said to be known.")
    unclear: list[UnclearView] = Field(description="Payments that a person has to explain.")
    unknown_transfers: list[TransferView] = Field(description="On the chain, not in the ledger.")
    unclaimed: list[TransferView] = Field(
        description="Came back, and more than one run or none may expect it."
    )
    missing: list[str] = Field(description="Settled in the ledger, not on the chain.")
    unbalanced: list[str] = Field(description="Their budget is not the sum of its parts.")
    problems: list[str] = Field(description="What could not be closed, and why.")


class CheckView(Answered):
    name: str = Field(examples=["MongoDB"])
    state: Literal["ok", "skipped", "wrong"]
    finding: str
    remedy: str


class DoctorAnswer(Answered):
    healthy: bool
    checks: list[CheckView]


class PlanAnswer(Answered):
    """What would be done for a goal. Nothing is rented or paid."""

    model_config = ConfigDict(extra="allow")

    job_spec: dict[str, Any] = Field(description="The goal as understood; null: not said.")
    guessed: dict[str, Any] = Field(description="What was assumed instead.")
    question: str | None = Field(description="What the agent would ask first.")
    offers: list[dict[str, Any]] = Field(description="Each with what would become of it.")
    no_offer: list[dict[str, Any]] = Field(description="Who made none, and why.")
    decision: dict[str, Any] | None = Field(description="Null where it would ask first.")
    reader: str = Field(description="Who read the goal.")
    paid: int = Field(description="Always 0.")
    note: str | None
    text: str = Field(description="The same in words, for a terminal.")
