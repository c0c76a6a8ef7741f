"""The JSON that the API takes, checked. Names and shapes are the seed's.

An amount is a number of dollars, or text, exact to the micro-dollar.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.errors import InvalidInput
from domain.goals import LONGEST_GOAL, check_goal
from domain.ids import PLAIN_ID, SHORTEST
from domain.money import Usd

LONGEST_USER_ID: Final = 128
LONGEST_REASON: Final = 200
LONGEST_AMOUNT: Final = 28
"""Characters: enough for "$1,000,000,000.000000 dollars" less its plural, and exact as Decimal."""
LARGEST_EXPONENT: Final = 12
MOST_OBSERVATIONS: Final = 1_000
MOST_RUNS: Final = 200

HELP: Final = {
    "body": 'Send a JSON object, like {"runId": "66a1f2c9d53a3f9ef1f0c123"}',
    "userId": f"Give text of 1 to {LONGEST_USER_ID} characters that says who asks",
    "goal": f"Say what to do, in 1 to {LONGEST_GOAL:,} characters",
    "budgetTotal": 'Give dollars above 0 as a number or text, like 5 or "$5.00"',
    "runId": "Give the _id that agent-start answered",
    "idPrefix": "Give the beginning of a run's _id, 4 to 64 characters",
    "approvalId": "Give the _id of one of the run's approvals, as agent-status shows it",
    "approve": "Give true or false",
    "acceptNotUsed": "Give true to start although the goal names what a run leaves out, like a "
    "program; or leave it out",
    "reason": f"Say why, in at most {LONGEST_REASON} characters, or leave it out",
    "observations": f"Give a number from 0 to {MOST_OBSERVATIONS}",
    "columns": "Give how wide the text for a person may be, 40 to 400 characters",
    "limit": f"Give a number from 1 to {MOST_RUNS}",
}
"""What to put into each field: for the documentation, and for who left it out."""


def _user_id(value: str) -> str:
    if not value.strip():
        raise InvalidInput("userId", "it is empty", HELP["userId"])
    if len(value) > LONGEST_USER_ID:
        raise InvalidInput("userId", "it is too long", HELP["userId"])
    if not value.isprintable():
        raise InvalidInput("userId", "it holds control characters", HELP["userId"])
    return value.strip()


def _plain_id(field: str, problem: str, shortest: int = 1) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) < shortest or not PLAIN_ID.fullmatch(value):
            raise InvalidInput(field, problem, HELP[field])
        return value

    return AfterValidator(check)


def _budget(value: object) -> Usd:
    field, remedy = "budgetTotal", HELP["budgetTotal"]
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise PydanticCustomError("amount_type", "it is not an amount")
    if isinstance(value, Decimal) and value.adjusted() > LARGEST_EXPONENT:
        raise InvalidInput(field, "it is above a billion dollars", remedy)
    if len(str(value)) > LONGEST_AMOUNT:
        raise InvalidInput(field, "it is too long for an amount of dollars", remedy)
    return Usd.parse(value, field, above_zero=True)


_AMOUNT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]
}


def _reason(value: str) -> str:
    if not value.strip() or len(value) > LONGEST_REASON or not value.isprintable():
        raise InvalidInput("reason", "it is empty, too long or not text", HELP["reason"])
    return value.strip()


OWNERS: Final = f"{HELP['userId']}. An API key with an owner says it already"
"""What the documentation says of a userId in a body."""

ApprovalId = Annotated[StrictStr, _plain_id("approvalId", "it is not an approval's id")]
Reason = Annotated[StrictStr, AfterValidator(_reason)]
UserId = Annotated[StrictStr, AfterValidator(_user_id)]
Goal = Annotated[StrictStr, AfterValidator(check_goal)]
IdPrefix = Annotated[StrictStr, _plain_id("idPrefix", "it does not begin a run's id", SHORTEST)]
RunId = Annotated[StrictStr, _plain_id("runId", "it is not a run's id")]


Budget = Annotated[Usd, BeforeValidator(_budget), WithJsonSchema(_AMOUNT_SCHEMA)]


class Taken(BaseModel):
    """A request's body. A field that it does not know is an error: it may be a budget misspelt."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


def example(**fields: Any) -> ConfigDict:
    """The body that the documentation shows."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class StartRequest(Taken):
    model_config = example(userId="u1", goal="Fine-tune a 7B model on an A100", budgetTotal=5)

    user_id: UserId = Field(default_factory=str, description=OWNERS)
    goal: Goal = Field(description=HELP["goal"])
    budget_total: Budget = Field(description=HELP["budgetTotal"])
    accept_not_used: StrictBool = Field(False, description=HELP["acceptNotUsed"])


class PlanRequest(Taken):
    model_config = example(goal="Fine-tune a 7B model on an A100, under $5")

    goal: Goal = Field(description=HELP["goal"])
    budget_total: Budget | None = Field(
        None, description=f"{HELP['budgetTotal']}, if the goal does not say it"
    )
    columns: int = Field(80, ge=40, le=400, description=HELP["columns"])


class NothingMore(Taken):
    """An empty object. It is asked for all the same: no page of elsewhere can send one."""

    model_config = example()


class ReconcileRequest(Taken):
    """It is asked for, empty or not: no page of elsewhere can send one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"full": True}]})

    full: Annotated[bool, Field(description="Compare everything, not only what is new.")] = False


class TickRequest(Taken):
    model_config = example(runId="66a1f2c9d53a3f9ef1f0c123")

    run_id: RunId = Field(description=HELP["runId"])


class CancelRequest(Taken):
    model_config = example(runId="66a1f2c9d53a3f9ef1f0c123")

    run_id: RunId = Field(description=HELP["runId"])
    reason: Reason = Field("cancelled by the user", description=HELP["reason"])


class ApproveRequest(Taken):
    model_config = example(
        runId="66a1f2c9d53a3f9ef1f0c123",
        approvalId="apr_0f5c3b1f0a7d4e0e9f7c1b2a3d4e5f60",
        approve=True,
    )

    run_id: RunId = Field(description=HELP["runId"])
    approval_id: ApprovalId = Field(description=HELP["approvalId"])
    approve: StrictBool = Field(description=HELP["approve"])
