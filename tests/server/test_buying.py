"""Buying from a URL: at most one payment under one id, whatever breaks in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from domain.approvals import ApprovalState
from domain.errors import (
    BudgetExceeded,
    ChainDown,
    Conflict,
    LeaseHeld,
    PolicyRefused,
    SlotClosed,
    VendorGarbage,
    VendorUnreachable,
    WalletDown,
    WalletEmpty,
)
from domain.ids import purchase_id_of, slot_nonce
from domain.jobs import RunStatus
from domain.money import ZERO, Usd
from domain.networks import BASE, LOCAL
from domain.payments import PaymentState
from domain.policy import SpendingPolicy
from mock_vendor.accounts import dev_address
from server.buying import Outcome
from server.reports.audits import unapproved
from server.terminal.unknown_chain import UnknownChain
from tests.chaos.effects import Crash
from tests.server.till import URL, Till, asked_for, open_till
from tests.support.paid_shop import GOODS, SHOP
from tests.support.stack import FreshDatabase
from tools.payments.chain import Block, ChainReader
from tools.payments.wallets import LocalWallet


@pytest.fixture
async def till(database: FreshDatabase) -> AsyncIterator[Till]:
    async with open_till(database) as till:
        yield till


@pytest.mark.parametrize("version", [1, 2])
async def test_one_id_is_paid_once_however_often_it_is_repeated(till: Till, version: int) -> None:
    till.shop.version = version
    for _ in range(3):
        bought = await till.buy()
        assert bought.outcome is Outcome.PAID
        assert bought.goods is not None
        assert bought.goods.body == GOODS
    assert [t.recipient for t in till.shop.transfers()] == [SHOP]
    assert len(set(till.shop.payments)) == 1
    assert len(till.shop.payments) == 3
    assert bought.payment is not None
    assert bought.payment.nonce == slot_nonce(purchase_id_of("one"), 0)
    assert (await till.ledger.purchases.get(bought.run_id)).status is RunStatus.COMPLETED
    await till.check(250_000)


async def test_two_ids_are_two_purchases(till: Till) -> None:
    await till.buy("one")
    await till.buy("two")
    assert len(till.shop.transfers()) == 2
    assert len(set(till.shop.payments)) == 2


@pytest.mark.parametrize("when", ["before_send", "after_answer"])
async def test_a_crash_around_the_send_is_paid_once(till: Till, when: str) -> None:
    till.wire.crash = when
    with pytest.raises(Crash):
        await till.buy()
    [payment] = await till.ledger.payments.of_run(purchase_id_of("one"))
    assert payment.state is PaymentState.AUTHORIZED
    till.wire.crash = ""
    bought = await till.buy()
    assert bought.outcome is Outcome.PAID
    assert bought.goods is not None
    assert set(till.shop.payments) == {payment.header}
    await till.check(250_000)


async def test_a_process_that_vanished_is_followed_when_its_lease_ends(till: Till) -> None:
    run_id = purchase_id_of("one")
    await till.ledger.purchases.create(run_id, "GET", Usd.parse(1), till.clock.now())
    await till.ledger.purchases.acquire(run_id, till.clock.now, 60)
    with pytest.raises(LeaseHeld):
        await till.buy()
    assert till.shop.asked == []
    till.clock.advance(61)
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(250_000)


async def test_a_lost_answer_after_settlement_is_paid_once_and_fetched_again(till: Till) -> None:
    till.wire.lose = "answer"
    first = await till.buy()
    assert (first.outcome, first.goods, first.had_goods) == (Outcome.PAID, None, False)
    till.wire.lose = ""
    second = await till.buy()
    assert second.goods is not None
    assert len(set(till.shop.payments)) == 1
    await till.check(250_000)


async def test_a_lost_request_stays_unknown_until_it_is_sent_again(till: Till) -> None:
    till.wire.lose = "request"
    bought = await till.buy()
    assert bought.outcome is Outcome.UNKNOWN
    assert "silent" in bought.problem
    await till.check(0)
    till.wire.lose = ""
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(250_000)


async def test_a_payment_that_can_never_settle_is_given_back_and_never_signed_anew(
    till: Till,
) -> None:
    till.shop.faults = {"500_before"}
    assert (await till.buy()).outcome is Outcome.UNKNOWN
    till.clock.advance(301)
    assert (await till.buy()).outcome is Outcome.NOT_PAID
    till.shop.faults = set()
    again = await till.buy()
    assert again.outcome is Outcome.NOT_PAID
    assert len(set(till.shop.payments)) == 1
    run = await till.ledger.purchases.get(purchase_id_of("one"))
    assert (run.status, run.budget_remaining) == (RunStatus.FAILED, run.budget_total)
    await till.check(0)


async def test_a_402_after_the_payment_settled_is_no_proof_of_failure(till: Till) -> None:
    till.shop.replays = False
    await till.buy()
    again = await till.buy()
    assert (again.outcome, again.goods, again.had_goods) == (Outcome.PAID, None, True)
    assert "did not take the payment" in again.problem
    await till.check(250_000)


async def test_a_redirect_of_the_paid_request_is_not_followed(till: Till) -> None:
    till.shop.faults = {"redirect"}
    bought = await till.buy()
    assert bought.outcome is Outcome.UNKNOWN
    assert "not followed" in bought.problem
    assert len(till.shop.asked) == 2
    await till.check(0)


async def test_a_redirect_before_any_payment_signs_nothing(till: Till) -> None:
    with pytest.raises(VendorGarbage, match="not followed"):
        await till.buy(request=asked_for("http://127.0.0.1/moved"))
    assert till.shop.asked == []
    await till.check(0)


@pytest.mark.parametrize(
    ("terms", "rule"),
    [
        ({"amount": "1000001"}, "quote"),
        ({"asset": dev_address("another token")}, "asset"),
        ({"network": "eip155:8453"}, "network"),
        ({"amount": "0"}, "amount"),
        ({"scheme": "upto"}, "scheme"),
        ({"max_timeout_seconds": 5}, "validity"),
        ({"pay_to": "0x" + "00" * 20}, "payee"),
    ],
)
async def test_terms_that_the_policy_refuses_are_not_signed(
    till: Till, terms: dict[str, Any], rule: str
) -> None:
    till.shop.terms = terms
    with pytest.raises(PolicyRefused) as refused:
        await till.buy()
    assert refused.value.rule == rule
    assert till.shop.payments == []
    run = await till.ledger.purchases.get(purchase_id_of("one"))
    assert run.status is RunStatus.FAILED
    await till.check(0)
    till.shop.terms = {}
    assert (await till.buy()).outcome is Outcome.NOT_PAID
    await till.check(0)


async def test_the_owners_cap_goes_before_the_persons_maximum(till: Till) -> None:
    till.policy = SpendingPolicy(LOCAL, Usd(200_000))
    with pytest.raises(PolicyRefused, match="MAX_PAYMENT_USD"):
        await till.buy()
    await till.check(0)


async def test_only_the_payee_that_was_demanded_is_paid(till: Till) -> None:
    with pytest.raises(PolicyRefused, match="payee"):
        await till.buy("one", pay_to=dev_address("somebody else"))
    assert (await till.buy("two", pay_to=SHOP)).outcome is Outcome.PAID


async def test_the_payee_of_the_first_challenge_stays(till: Till) -> None:
    till.wire.lose = "request"
    await till.buy()
    till.wire.lose = ""
    till.shop.terms = {"pay_to": dev_address("thief")}
    bought = await till.buy()
    assert bought.payment is not None
    assert bought.payment.pay_to == SHOP
    with pytest.raises(Conflict, match=SHOP):
        await till.buy(pay_to=dev_address("thief"))


async def test_an_id_is_for_one_request(till: Till) -> None:
    await till.buy()
    for other in (asked_for(URL + "1"), asked_for(data=b"{}"), asked_for(method="POST")):
        with pytest.raises(Conflict, match="another request"):
            await till.buy(request=other)
    assert len(till.shop.payments) == 1


async def test_a_402_without_a_challenge_books_nothing(till: Till) -> None:
    till.shop.faults = {"silent_402"}
    with pytest.raises(VendorGarbage):
        await till.buy()
    await till.check(0)


async def test_what_is_free_costs_nothing_and_can_be_had_again(till: Till) -> None:
    free = asked_for("http://127.0.0.1/free")
    for _ in range(3):
        bought = await till.buy(request=free)
        assert (bought.outcome, bought.payment) == (Outcome.FREE, None)
        older = {"$unset": {"reasonData": ""}}  # by an older version it was stored without
        for payment in await till.ledger.payments.of_run(purchase_id_of("one")):
            await till.ledger.payments.documents.change(payment.id, {}, older)
    assert [goods.body for goods in till.taken] == [GOODS] * 3
    run = await till.ledger.purchases.get(purchase_id_of("one"))
    assert (run.status, run.reservations) == (RunStatus.COMPLETED, ())
    await till.check(0)


async def test_an_empty_wallet_signs_nothing(till: Till) -> None:
    till.role = "poor"
    with pytest.raises(WalletEmpty):
        await till.buy()
    assert till.shop.payments == []
    await till.check(0)


async def test_a_silent_seller_has_nothing_to_lose_and_the_id_is_used_up(till: Till) -> None:
    till.wire.dead = "/thing"
    with pytest.raises(VendorUnreachable):
        await till.buy()
    till.wire.dead = ""
    assert (await till.buy()).outcome is Outcome.NOT_PAID
    await till.check(0)


async def test_a_larger_maximum_later_does_not_stretch_the_first(till: Till) -> None:
    run_id = purchase_id_of("one")
    await till.ledger.purchases.create(run_id, "GET", Usd.parse("0.10"), till.clock.now())
    with pytest.raises(BudgetExceeded):
        await till.buy(dollars=1)
    assert till.shop.asked == []


async def test_a_smaller_maximum_later_is_what_binds(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.shop.price = 900_000
    with monkeypatch.context() as broken:
        broken.setattr(LocalWallet, "sign_typed_data", _away)
        with pytest.raises(WalletDown):
            await till.buy(dollars=1)
    with pytest.raises(PolicyRefused, match=r"\$0\.90"):
        await till.buy(dollars="0.30")
    assert till.shop.payments == []
    await till.check(0)


async def test_what_was_authorized_is_not_sent_for_less(till: Till) -> None:
    till.shop.price = 900_000
    till.wire.crash = "before_send"
    with pytest.raises(Crash):
        await till.buy(dollars=1)
    till.clock.advance(61)
    till.wire.crash = ""
    with pytest.raises(Conflict, match=r"\$0.90 was authorized already.*\$0.30.*--max-usd 0.90"):
        await till.buy(dollars="0.30")
    await till.buy(dollars="0.90")
    await till.check(900_000)
    assert (await till.buy(dollars="0.30")).outcome is Outcome.PAID  # it is paid: the goods again


async def _away(*_: object) -> None:
    raise WalletDown("The wallet is away", "Try again")


async def test_a_slot_closed_by_another_hand_is_never_opened_again(till: Till) -> None:
    run_id = purchase_id_of("one")
    await till.ledger.purchases.create(run_id, "GET", Usd.parse(1), till.clock.now())
    run, lease = await till.ledger.purchases.acquire(run_id, till.clock.now, 60)
    held = await till.ledger.budget.reserve(lease, run, 0, Usd.parse(1))
    await till.ledger.budget.release(run_id, held)
    await till.ledger.purchases.release(lease, till.clock.now())
    with pytest.raises(SlotClosed, match="another --id"):
        await till.buy()


async def test_without_the_chain_nothing_is_signed_and_the_id_goes_on_later(till: Till) -> None:
    till.wire.dead = "/rpc"
    with pytest.raises(ChainDown):
        await till.buy()
    assert till.shop.payments == []
    till.wire.dead = ""
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(250_000)


@pytest.mark.parametrize("ahead_s", [301, -301])
async def test_nothing_is_signed_by_a_clock_that_the_chain_contradicts(
    till: Till, ahead_s: int
) -> None:
    class Elsewhen(ChainReader):
        async def head(self) -> Block:
            head = await super().head()
            return Block(head.number, int(till.clock.seconds()) - ahead_s)

    public = replace(LOCAL, is_local=False)
    till.policy = SpendingPolicy(public, Usd.parse(100))
    with pytest.raises(ChainDown, match="301 s apart"):
        await till.buy(chain=Elsewhen(public, "http://127.0.0.1/rpc/", till.http, retry_wait_s=0))
    assert till.shop.payments == []
    assert (await till.buy()).outcome is Outcome.PAID, "and the id goes on when the clock is right"


async def test_goods_are_handed_over_before_the_chain_is_asked(till: Till) -> None:
    class Mute(UnknownChain):
        async def authorization(self, payer: str, nonce: str, **window: Any) -> Any:
            raise ChainDown(f"nobody answers about {payer} {nonce} {window}")

    bought = await till.buy(chain=Mute(LOCAL, till.clock.now))
    assert (bought.outcome, len(till.taken)) == (Outcome.UNKNOWN, 1)
    assert "nobody answers" in bought.problem
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(250_000)


async def test_without_an_rpc_the_outcome_is_unknown_until_there_is_one(till: Till) -> None:
    nobody = UnknownChain(LOCAL, till.clock.now)
    for _ in range(2):
        assert (await till.buy(chain=nobody)).outcome is Outcome.UNKNOWN
        till.clock.advance(400)
    run = await till.ledger.purchases.get(purchase_id_of("one"))
    assert [held.amount for held in run.reservations] == [Usd.parse(1)]
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(250_000)


async def test_the_unknown_chain_guesses_a_block_to_search_from_and_asserts_nothing(
    till: Till,
) -> None:
    chain = UnknownChain(BASE, till.clock.now)
    head = await chain.head()
    assert 1_686_789_347 + 2 * head.number in range(
        int(till.clock.seconds()) - 2, int(till.clock.seconds()) + 1
    )
    with pytest.raises(ChainDown, match="--rpc-url"):
        await chain.transfers_in("0x", sender="a", recipient="b")
    with pytest.raises(ChainDown, match="--rpc-url"):
        await chain.transfers(sender="a", recipient=None, from_block=0)


async def test_no_header_query_or_body_is_kept_in_the_ledger(
    till: Till, database: FreshDatabase
) -> None:
    secrets = ["Bearer header-secret", "query-secret", "body-secret"]
    request = asked_for(headers=[f"Authorization: {secrets[0]}"], data=b'{"a":"body-secret"}')
    await till.buy(request=request)
    assert till.shop.asked[-1]["authorization"] == secrets[0]
    assert till.shop.bodies[-1] == request.body
    for name in await database.db.list_collection_names():
        stored = str(await database.db[name].find().to_list())
        assert not [secret for secret in secrets if secret in stored], name


async def test_a_purchase_with_hostile_words_leaves_harmless_ones(till: Till) -> None:
    till.shop.terms = {"pay_to": "‮evil\n\x1b[31m"}
    with pytest.raises(PolicyRefused) as refused:
        await till.buy()
    assert str(refused.value).isprintable()


async def test_ledger_and_chain_agree_after_all_of_it(till: Till) -> None:
    await till.buy("one")
    till.wire.lose = "answer"
    await till.buy("two")
    till.wire.lose = "request"
    await till.buy("three")
    runs = await till.ledger.purchases.recent(limit=0)
    assert sum((run.spent for run in runs), ZERO) == Usd(500_000)
    assert sum(t.value for t in till.shop.transfers()) == 500_000


async def test_who_orders_approves_up_to_what_may_be_paid(till: Till) -> None:
    """So a purchase above the threshold is signed on a stored approval, as everything is."""
    till.policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.2"))
    till.wire.dead = "/rpc"
    with pytest.raises(ChainDown):
        await till.buy()
    till.clock.advance(3_600)
    till.wire.dead = ""
    assert (await till.buy()).outcome is Outcome.PAID
    [approval] = await till.ledger.approvals.of_run(purchase_id_of("one"))
    assert (approval.state, approval.amount) == (ApprovalState.USED, Usd.parse(1))
    assert unapproved(await till.ledger.observations.of_run(purchase_id_of("one"))) == (None, "")
    await till.check(250_000)
