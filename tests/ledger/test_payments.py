"""Payment documents: what is stored, and who wins a race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from domain.errors import IllegalTransition, NotFound
from domain.ids import slot_nonce
from domain.money import Usd
from domain.payments import PaymentState, PurchaseKind
from domain.quotes import Rail
from ledger.ledger import Ledger
from ledger.payments import Payment
from tests.support.builders import NOON, PAYEE, a_payment, open_ledger
from tests.support.stack import FreshDatabase

S = PaymentState


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def authorize(ledger: Ledger, payment: Payment) -> Payment:
    return await ledger.payments.close(
        payment, PaymentState.AUTHORIZED, header_name="PAYMENT-SIGNATURE", header="e30="
    )


async def test_what_is_stored_of_a_payment_comes_back_the_same(ledger: Ledger) -> None:
    payment = a_payment(
        kind=PurchaseKind.EXTEND,
        rail=Rail.NONE,
        state=S.AUTHORIZED,
        pay_to=PAYEE,
        nonce=slot_nonce("run_1", 0),
        valid_before_s=1_700_000_300,
        header_name="PAYMENT-SIGNATURE",
        header="e30=",
        refunded=Usd(5),
    )
    await ledger.payments.open(payment)
    assert await ledger.payments.get(payment.id) == payment
    assert await ledger.payments.of_run("run_1") == [payment]
    assert await ledger.payments.of_slot("run_1", 0) == [payment]
    assert await ledger.payments.of_slot("run_1", 1) == []


async def test_opening_a_payment_again_gives_the_stored_one(ledger: Ledger) -> None:
    first = await ledger.payments.open(a_payment())
    signed = await authorize(ledger, first)
    again = await ledger.payments.open(a_payment(amount=Usd.parse(99)))
    assert again == signed


async def test_a_payment_that_is_not_there_is_not_found(ledger: Ledger) -> None:
    assert await ledger.payments.find("pay_0") is None
    with pytest.raises(NotFound):
        await ledger.payments.get("pay_0")


async def test_closing_twice_in_the_same_way_changes_nothing(ledger: Ledger) -> None:
    payment = await ledger.payments.open(a_payment(state=S.AUTHORIZED))
    settled = await ledger.payments.close(payment, S.SETTLED, now=NOON, tx_id="0xabc")
    again = await ledger.payments.close(payment, S.SETTLED, now=NOON, tx_id="0xother")
    assert again == settled
    assert (await ledger.payments.get(payment.id)).tx_id == "0xabc"


async def test_a_move_that_the_design_does_not_have_is_refused(ledger: Ledger) -> None:
    payment = await ledger.payments.open(a_payment(state=S.SETTLED))
    with pytest.raises(IllegalTransition):
        await ledger.payments.close(payment, S.RELEASED)
    assert (await ledger.payments.get(payment.id)).state is S.SETTLED


async def test_the_apis_word_follows_the_state(ledger: Ledger, database: FreshDatabase) -> None:
    payment = await ledger.payments.open(a_payment())
    payment = await authorize(ledger, payment)
    await ledger.payments.close(payment, S.EXPIRED, now=NOON, reason="unused")
    document = await database.db["payments"].find_one({"_id": payment.id})
    assert document is not None
    assert (document["state"], document["status"]) == ("expired", "failed")


@pytest.mark.parametrize("state", [S.EXPIRED, S.REFUSED, S.REFUNDED])
async def test_what_nobody_can_send_any_more_is_forgotten_as_it_is_closed(
    ledger: Ledger, state: S
) -> None:
    before = S.SETTLED if state is S.REFUNDED else S.AUTHORIZED
    payment = await ledger.payments.open(a_payment(state=before, header="e30="))
    closed = await ledger.payments.close(payment, state, now=NOON)
    assert closed == await ledger.payments.get(payment.id)
    assert (closed.header, closed.header_sha256) == ("", sha256(b"e30=").hexdigest())


async def test_a_settled_payment_can_be_shown_again_until_its_run_is_over(ledger: Ledger) -> None:
    payment = await ledger.payments.open(a_payment(state=S.AUTHORIZED, header="e30="))
    still = await ledger.payments.open(a_payment(slot=1, state=S.AUTHORIZED, header="e31="))
    settled = await ledger.payments.close(payment, S.SETTLED, now=NOON)
    assert settled.header == "e30="
    await ledger.payments.drop_headers("run_1")
    headers = [p.header for p in await ledger.payments.of_run("run_1")]
    assert headers == ["", still.header]


async def test_headers_that_an_older_version_kept_are_dropped(
    ledger: Ledger, database: FreshDatabase
) -> None:
    for slot, state in enumerate(S):
        await ledger.payments.open(a_payment(slot=slot, state=state, header="e30="))
    await database.db["payments"].update_many({}, {"$unset": {"headerSha256": ""}})
    assert await ledger.payments.drop_old_headers(limit=2) == 2
    assert await ledger.payments.drop_old_headers(limit=100) == 2
    kept = {p.state for p in await ledger.payments.of_run("run_1") if p.header}
    assert kept == {S.RESERVED, S.AUTHORIZED, S.SETTLED}


async def race(ledger: Ledger, *moves: tuple[Payment, S]) -> list[Any]:
    return await asyncio.gather(
        *(ledger.payments.close(payment, state) for payment, state in moves),
        return_exceptions=True,
    )


async def test_signing_and_releasing_race_and_one_wins(ledger: Ledger) -> None:
    for slot in range(8):
        payment = await ledger.payments.open(a_payment(slot=slot))
        answers = await race(ledger, *[(payment, S.AUTHORIZED)] * 4, *[(payment, S.RELEASED)] * 4)
        state = (await ledger.payments.get(payment.id)).state
        won = [a.state for a in answers if isinstance(a, Payment)]
        lost = [a for a in answers if isinstance(a, IllegalTransition)]
        assert won == [state] * 4
        assert len(lost) == 4


async def test_settling_and_expiring_race_and_one_wins(ledger: Ledger) -> None:
    payment = await ledger.payments.open(a_payment(state=S.AUTHORIZED))
    answers = await race(ledger, *[(payment, S.SETTLED), (payment, S.EXPIRED)] * 8)
    state = (await ledger.payments.get(payment.id)).state
    assert {a.state for a in answers if isinstance(a, Payment)} == {state}


async def test_an_authorization_that_came_too_late_is_not_stored(ledger: Ledger) -> None:
    payment = await ledger.payments.open(a_payment())
    await ledger.payments.close(payment, S.RELEASED)
    with pytest.raises(IllegalTransition):
        await authorize(ledger, payment)
    assert (await ledger.payments.get(payment.id)).header == ""


async def test_payments_are_listed_by_slot(ledger: Ledger) -> None:
    for slot in (2, 0, 1):
        await ledger.payments.open(a_payment(slot=slot))
    assert [payment.slot for payment in await ledger.payments.of_run("run_1")] == [0, 1, 2]
