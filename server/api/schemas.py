"""The JSON that the API answers. Names and shapes are the seed's.

Amounts are numbers of dollars, exact to the micro-dollar; times are ISO-8601 in UTC, ending in Z.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from domain.money import Usd

Instant = Annotated[
    datetime,
    PlainSerializer(
        lambda t: t.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        return_type=str,
    ),
]


def _dollars(amount: object) -> object:
    return amount.dollars() if isinstance(amount, Usd) else amount


Dollars = Annotated[float, BeforeValidator(_dollars)]
"""An amount, as a number of dollars."""


class Answered(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True
    )

    @classmethod
    def of(cls, value: object, **more: object) -> Self:
        """What is told of a value: its attributes of the fields' names, and `more`, which counts
        where the value has an attribute of that name too.
        """
        told = {name: getattr(value, name) for name in cls.model_fields if hasattr(value, name)}
        return cls.model_validate(told | more)


class Problem(Answered):
    """What every answer but a 200 looks like."""

    error: str = Field(examples=["There is no run '66a1f2c9d53a3f9ef1f0c123'. Check the runId"])
    code: str = Field(
        default="",
        description="`run_busy`: another tick works on the run; try again in a moment. "
        "`goal_not_all_used`: the goal names what a run leaves out; `notUsed` lists it. "
        "`missing` and the like: what is wrong with `field`.",
    )
    field: str = Field(default="", description="The field that cannot be used, with 400 and 422.")
    not_used: list[str] = Field(default=[], description="With `goal_not_all_used` alone.")


class StartedRun(Answered):
    id: str = Field(serialization_alias="_id", examples=["66a1f2c9d53a3f9ef1f0c123"])
    user_id: str = Field(examples=["u1"])
    goal: str = Field(examples=["Fine-tune a 7B model on an A100"])
    status: str = Field(examples=["running"])
    budget_total: Dollars = Field(examples=[5])
    budget_remaining: Dollars = Field(examples=[5])
    created_at: Instant = Field(examples=["2026-01-10T19:00:10.000Z"])
    not_used: list[str] = Field(
        default=[], description="What the goal says and the run leaves out.", examples=[["spot"]]
    )


class TickAnswer(Answered):
    message: str = Field(examples=["Job started"])


class JobSpecView(Answered):
    job_type: str = Field(examples=["fine-tune"])
    gpu_type: str = Field(examples=["A100"])
    gpu_count: int
    hours: float
    preference: str | None
    excluded_vendors: list[str]
    only_vendors: list[str] = Field(
        default=[], description="The vendors to rent from; empty where any will do."
    )
    gpu_types: list[str] = Field(
        default=[], description="Where more types than gpuType will do: all of them."
    )
    max_hourly: Dollars | None = Field(
        default=None, description="The most that an hour may cost, in dollars, if the goal says so."
    )
    deadline: Instant | None = None
    guessed: list[str] = Field(description="Names of the fields that the goal did not say.")


class ModelView(Answered):
    """Of the model that plans, over the whole run."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: Dollars | None = Field(description="Dollars; null where no price of tokens is set.")


class RunView(StartedRun):
    """budgetTotal = budgetRemaining + spent + reserved, at any moment."""

    spent: Dollars = Field(description="Dollars that have left the wallet.", examples=[1.4])
    reserved: Dollars = Field(description="Dollars held for payments that may still settle.")
    phase: str = Field(description="The step that comes next.", examples=["monitor"])
    job_spec: JobSpecView | None = Field(description="The goal, as understood.")
    current_job_id: str | None
    reason: str = Field(description="Why the run ended, where it did not complete.")
    model: ModelView = Field(description="What the model's calls used so far.")
    updated_at: Instant
    waiting_for: str | None = Field(
        default=None,
        description="What a person has to approve or reject now; null where nothing waits.",
        examples=["60 minutes of A100 at FastGPU for $1.40 now; the whole job up to $4.20"],
    )


class JobView(Answered):
    id: str = Field(serialization_alias="_id")
    run_id: str
    vendor_id: str = Field(examples=["gpu_vendor_1"])
    vendor_job_id: str = Field(examples=["vgpu_ab12cd34"])
    payment_id: str = Field(description="The payment that bought the job.")
    status: str = Field(examples=["running"])
    progress: float = Field(description="0 to 1.")
    gpu_type: str = Field(examples=["A100"])
    minutes: int = Field(description="GPU time that was bought.")
    artifact_url: str | None
    artifact_path: str | None = Field(description="Of the downloaded file, on the server.")
    artifact_sha256: str | None = Field(description="Of the downloaded file.")
    error_message: str | None
    final_metrics: dict[str, Any]
    waiting_for: str | None = Field(
        default=None, description="The time for it that a person has to approve; null for none."
    )
    created_at: Instant
    updated_at: Instant


class PaymentView(Answered):
    id: str = Field(serialization_alias="_id")
    run_id: str
    slot: int = Field(description="The how-manieth purchase of the run, from 0.")
    kind: str = Field(examples=["launch"])
    vendor_id: str = Field(examples=["gpu_vendor_1"])
    amount: Dollars = Field(description="Dollars.", examples=[1.4])
    currency: str = Field(examples=["USD"])
    status: str = Field(description="pending, completed or failed.", examples=["completed"])
    state: str = Field(description="The status in detail.", examples=["settled"])
    rail: str = Field(description="x402, or none: billed outside x402, settled on no chain.")
    x402_tx_id: str | None = Field(
        serialization_alias="x402TxId",
        description="The transaction that moved the money, or a local id where none did.",
    )
    network: str = Field(description="CAIP-2 id; empty before signing.", examples=["eip155:84532"])
    explorer_url: str | None = Field(description="The transaction's page, where there is one.")
    pay_to: str
    payer: str
    nonce: str
    refunded: Dollars = Field(description="Dollars that came back.")
    reason: str = Field(description="Why it failed, where it did.")
    created_at: Instant


class ObservationView(Answered):
    seq: int = Field(description="Its place in the run's journal, from 1.")
    type: str = Field(examples=["job_log"])
    content: str = Field(examples=["Epoch 1/3 loss=1.50"])
    data: dict[str, Any]
    created_at: Instant


class OfferView(Answered):
    vendor_id: str = Field(examples=["gpu_vendor_1"])
    vendor_job_template_id: str
    gpu_type: str = Field(examples=["A100"])
    minutes: int
    price: Dollars = Field(description="Dollars for these minutes: paid first.", examples=[1.4])
    whole_job: Dollars | None = Field(
        description="Dollars for the whole job at that rate; null where its length is not known.",
        examples=[1.4],
    )
    eta_minutes: float
    expires_at: Instant | None
    verdict: str = Field(description="Taken, or why not.", examples=["taken"])


class NoQuoteView(Answered):
    vendor_id: str = Field(examples=["gpu_vendor_3"])
    why: str = Field(examples=["no quote within 3 s"])


class ApprovalView(Answered):
    id: str = Field(serialization_alias="_id")
    vendor_id: str = Field(examples=["gpu_vendor_1"])
    pay_to: str
    amount: Dollars = Field(
        description="Dollars: the most that the job may cost at that vendor.", examples=[4.2]
    )
    state: str = Field(description="pending, approved, rejected, expired or used.")
    created_at: Instant
    expires_at: Instant
    price: Dollars = Field(description="Dollars: what is paid first.", examples=[1.4])
    minutes: int = Field(description="GPU time that is bought first.", examples=[60])
    gpu_type: str = Field(examples=["A100"])
    paid: Dollars = Field(description="Dollars that the job had cost when it was asked.")
    covered: Dollars = Field(description="Dollars that were counted against the amount so far.")
    what: str = Field(
        description="What a yes allows, in words.",
        examples=["60 minutes of A100 at FastGPU for $1.40 now; the whole job up to $4.20"],
    )


class StatusAnswer(Answered):
    run: RunView
    jobs: list[JobView] = Field(description="In the order of their launch.")
    payments: list[PaymentView] = Field(description="In the order of their slots.")
    observations: list[ObservationView] = Field(description="The newest ones, oldest first.")
    offers: list[OfferView] = Field(description="What was on offer at the last choice.")
    no_quotes: list[NoQuoteView] = Field(description="Who made no offer then, and why.")
    approvals: list[ApprovalView] = Field(description="Payments that waited for a person.")
    vendor_names: dict[str, str] = Field(
        default={}, description="What people call the registered vendors, by their ids."
    )


class RunsAnswer(Answered):
    runs: list[RunView] = Field(description="Newest first.")


class Health(Answered):
    status: str = Field(examples=["ok"])


class Dependency(Answered):
    ok: bool
    error: str | None = None


class Readiness(Answered):
    ready: bool
    dependencies: dict[str, Dependency]


class NotReady(Readiness):
    error: str
