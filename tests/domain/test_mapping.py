"""A value and its document: one mapping, by the fields' names."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import Field

from domain.jobs import JobStatus
from domain.mapping import Id, Mapped, Object, Unfit
from domain.money import ZERO, Usd

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Part(Mapped):
    pay_to: str


@dataclass(frozen=True, slots=True)
class Whole(Mapped):
    id: Id
    created_at: datetime
    price: Usd
    status: JobStatus
    parts: tuple[Part, ...] = ()
    tx_id: Annotated[str | None, Field(alias="x402TxId")] = None
    order: Object = field(default_factory=dict)
    refunded: Usd = ZERO


WHOLE = Whole("w", NOON, Usd(1_400_000), JobStatus.RUNNING, (Part("0xa"),), "0xt", {"a_b": [1]})
DOCUMENT = {
    "_id": "w",
    "createdAt": NOON,
    "price": 1_400_000,
    "status": "running",
    "parts": ({"payTo": "0xa"},),
    "x402TxId": "0xt",
    "order": {"a_b": [1]},
    "refunded": 0,
}


def test_a_value_is_stored_under_its_fields_names_in_camel_case_and_comes_back() -> None:
    assert WHOLE.document() == DOCUMENT
    assert Whole.of(DOCUMENT) == WHOLE
    assert Whole.of({**DOCUMENT, "parts": [{"payTo": "0xa"}]}) == WHOLE


def test_some_fields_of_a_value_are_named_as_the_code_names_them() -> None:
    assert WHOLE.document("tx_id", "created_at") == {"x402TxId": "0xt", "createdAt": NOON}


def test_what_is_not_named_is_left_out_and_what_is_missing_has_its_default() -> None:
    older = {name: DOCUMENT[name] for name in ("_id", "createdAt", "price", "status")}
    assert Whole.of({**older, "more": 1, "tx_id": "0xno"}) == Whole(
        "w", NOON, Usd(1_400_000), JobStatus.RUNNING, order={}
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"price": 1.4}, "price"),
        ({"price": True}, "price"),
        ({"price": "1"}, "price"),
        ({"refunded": None}, "refunded"),
        ({"status": "sk-secret"}, "status"),
        ({"parts": [{"payTo": ["sk-secret"]}]}, "parts.0.payTo"),
        ({"createdAt": "sk-secret"}, "createdAt"),
    ],
)
def test_what_does_not_fit_is_named_by_its_field_and_not_repeated(
    changes: dict[str, object], name: str
) -> None:
    with pytest.raises(Unfit) as unfit:
        Whole.of({**DOCUMENT, **changes})

    assert unfit.value.field == name
    assert "Whole" in str(unfit.value)
    assert "sk-secret" not in str(unfit.value)


def test_a_missing_field_is_called_missing() -> None:
    with pytest.raises(Unfit, match="price: it is missing"):
        Whole.of({name: value for name, value in DOCUMENT.items() if name != "price"})
