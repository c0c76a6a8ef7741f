"""Payments: one document for each signed authorization, or each charge outside x402.

The document decides between signing and releasing: `close(AUTHORIZED)` and `close(RELEASED)`
both start from `reserved`, so one of them wins and the other sees that it lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field
from pymongo import ASCENDING, IndexModel

from domain.errors import IllegalTransition, NotFound
from domain.mapping import Id, Mapped, Object
from domain.money import ZERO, Usd
from domain.payments import PaymentState, PurchaseKind, check_transition
from domain.quotes import Rail
from ledger.store import Document, DuplicateKey, Store

COLLECTION: Final = "payments"


@dataclass(frozen=True, slots=True)
class Payment(Mapped):
    """A payment as stored. `header` is the signed authorization: the exact bytes of every send."""

    id: Id
    run_id: str
    slot: int
    kind: PurchaseKind
    vendor_id: str
    amount: Usd
    state: PaymentState
    rail: Rail
    created_at: datetime
    order: Object
    """What is bought: the body of the paid request, without the payment."""
    minutes: int = 0
    gpu_type: str = ""
    network: str = ""
    asset: str = ""
    pay_to: str = ""
    payer: str = ""
    nonce: str = ""
    valid_before_s: Annotated[int, Field(alias="validBefore")] = 0
    from_block: int = 0
    """The chain's head when it was signed: it cannot have settled before."""
    header_name: str = ""
    header: str = ""
    """Empty once nobody needs to send it any more (PaymentState.sent_again)."""
    header_sha256: str = ""
    """The hash of a header that was dropped: it tells which bytes they were."""
    tx_id: Annotated[str | None, Field(alias="x402TxId")] = None
    """The settling transaction, as the chain shows it, or the local id of a charge off-chain."""
    reason: str = ""
    reason_data: Object = field(default_factory=dict)
    """The code of the reason and its fields, where it is one of ours."""
    settled_block: int | None = None
    """The block that it settled in; None before that, off-chain, and in older documents."""
    refund_tx: str | None = None
    """The transaction that the vendor says pays back; believed once the chain shows it."""
    refund_claim: Usd = ZERO
    """What the vendor says it paid back, which only tells two refunds of one transaction apart."""
    refund_log: int | None = None
    """The index of the Transfer event in `refund_tx` that pays this one back, once it is found."""
    refunded: Usd = ZERO
    """What the chain shows as paid back."""
    unfunded: bool = False
    """Whether the wallet was seen to hold too little for it while it was to settle: no fault of the
    vendor's.
    """
    resolved: str = ""
    """Why a person closed it, where the chain alone could not say what it was."""

    @property
    def on_chain(self) -> bool:
        return self.rail is Rail.X402

    @property
    def refund(self) -> str:
        """The id of its refund in the run's budget: the transaction and the event in it."""
        return f"{self.refund_tx}:{self.refund_log}"

    @property
    def old_refunds(self) -> frozenset[str]:
        """The ids that earlier versions used, when a transaction was one refund of one payee."""
        return frozenset({f"{self.refund_tx}:{self.pay_to.lower()}", str(self.refund_tx)})


_ONE_REFUND: Final = "one_refund_an_event"
_OPEN: Final = {"$in": [state.value for state in PaymentState if state.open]}
_PAID: Final = {"$in": [state.value for state in PaymentState if state.paid]}


class Payments:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("runId", ASCENDING), ("slot", ASCENDING)]),
                IndexModel([("state", ASCENDING), ("refundTx", ASCENDING)]),
                # One Transfer event pays back one payment. A transaction may hold many.
                IndexModel(
                    [("refundTx", ASCENDING), ("refundLog", ASCENDING)],
                    name=_ONE_REFUND,
                    unique=True,
                    partialFilterExpression={"refundLog": {"$type": "int"}},
                ),
                IndexModel(
                    [("x402TxId", ASCENDING)],
                    partialFilterExpression={"x402TxId": {"$type": "string"}},
                ),
                IndexModel(
                    [("settledBlock", ASCENDING)],
                    partialFilterExpression={"settledBlock": {"$type": "int"}},
                ),
            ]
        )
        for earlier in ("refundTx_1", "refundTx_1_payTo_1", "state_1"):
            await self.documents.drop_index(earlier)

    async def find(self, payment_id: str) -> Payment | None:
        document = await self.documents.get(payment_id)
        return Payment.of(document) if document else None

    async def get(self, payment_id: str) -> Payment:
        """Raises NotFound."""
        payment = await self.find(payment_id)
        if payment is None:
            raise NotFound(f"There is no payment {payment_id[:64]!r}")
        return payment

    async def of_run(self, run_id: str) -> list[Payment]:
        """In the order of their slots."""
        found = await self.documents.find({"runId": run_id}, sort=[("slot", 1), ("createdAt", 1)])
        return [Payment.of(document) for document in found]

    async def of_runs(self, run_ids: Iterable[str]) -> list[Payment]:
        """The payments of these runs, each run's in the order of their slots."""
        ids = list(run_ids)
        query, order = {"runId": {"$in": ids}}, [("runId", 1), ("slot", 1)]
        return [Payment.of(d) for d in await self.documents.find(query, sort=order)] if ids else []

    async def of_slot(self, run_id: str, slot: int) -> list[Payment]:
        found = await self.documents.find({"runId": run_id, "slot": slot}, sort=[("createdAt", 1)])
        return [Payment.of(document) for document in found]

    async def paid_of_runs(self, run_ids: Sequence[str]) -> list[Payment]:
        """All payments of these runs that are spent, on every rail and network."""
        query = {"runId": {"$in": list(run_ids)}, "state": _PAID}
        return [Payment.of(d) for d in await self.documents.find(query)]

    async def paid_to(self, pay_to: str, payer: str, network: str) -> list[Payment]:
        """The payments from one account to another that settled."""
        query = {"state": _PAID, "payTo": pay_to, "payer": payer, "network": network}
        return [Payment.of(document) for document in await self.documents.find(query)]

    async def unplaced(self, payer: str, network: str) -> list[Payment]:
        """Payments that settled, by an older version which did not note the block."""
        query = {"state": _PAID, "payer": payer, "network": network, "settledBlock": None}
        return [Payment.of(document) for document in await self.documents.find(query)]

    async def place(self, payment: Payment, block: int) -> None:
        """Note the block that an older version's payment settled in."""
        await self.documents.change(
            payment.id, {"settledBlock": None}, {"$set": {"settledBlock": block}}
        )

    async def first_block(self, payer: str, network: str) -> int | None:
        """The chain's head when the account first signed; None if it never did."""
        query = {"payer": payer, "network": network}
        found = await self.documents.find(
            query, sort=[("fromBlock", 1)], limit=1, fields={"fromBlock": 1}
        )
        return int(found[0]["fromBlock"]) if found else None

    async def open_ones(self) -> list[Payment]:
        """All payments that are reserved or authorized, of all runs."""
        return [Payment.of(d) for d in await self.documents.find({"state": _OPEN})]

    async def awaiting_refund(self, run_id: str | None = None) -> list[Payment]:
        """Settled payments whose vendor claims a refund that the chain has not shown yet."""
        query: dict[str, Any] = {"state": "settled", "refundTx": {"$gt": ""}}
        found = await self.documents.find(query | ({"runId": run_id} if run_id else {}))
        return [Payment.of(document) for document in found]

    async def drop_headers(self, run_id: str) -> None:
        """Forget the signed bytes of a run's closed payments.

        Only where the run is over, with all that it paid for delivered or given up: until then a
        settled payment is shown to its vendor again. A header that is not stored cannot leak.
        """
        for payment in await self.of_run(run_id):
            await self._drop_header(payment)

    async def drop_old_headers(self, limit: int) -> int:
        """Drop what an older version kept of payments that are never sent again; how many."""
        states = [state.value for state in PaymentState if not state.sent_again]
        query = {"state": {"$in": states}, "header": {"$gt": ""}}
        found = [Payment.of(d) for d in await self.documents.find(query, limit=limit)]
        return sum([await self._drop_header(payment) for payment in found])

    async def _drop_header(self, payment: Payment) -> bool:
        if payment.state.open or not payment.header:
            return False
        dropped = _without_header(payment)
        changed = replace(payment, **dropped).document(*dropped)
        guard = {"state": payment.state.value, "header": payment.header}
        return await self.documents.change(payment.id, guard, {"$set": changed})

    async def refunded_in(self, tx_hash: str) -> list[Payment]:
        """The payments for which this transaction is the refund, shown or only claimed."""
        found: list[Document] = []
        for state in ("settled", "refunded"):
            found += await self.documents.find({"state": state, "refundTx": tx_hash})
        return [Payment.of(document) for document in found]

    async def settled_in(self, tx_hashes: Sequence[str]) -> list[Payment]:
        """The payments that were settled in these transactions."""
        query = {"x402TxId": {"$in": list(tx_hashes)}}
        return [Payment.of(document) for document in await self.documents.find(query)]

    async def settled_between(self, first: int, last: int) -> list[Payment]:
        """The payments that settled in blocks `first` to `last`, of every wallet and network."""
        query = {"settledBlock": {"$gte": first, "$lte": last}}
        return [Payment.of(document) for document in await self.documents.find(query)]

    async def claim_refund(self, payment: Payment, tx_hash: str, amount: Usd) -> bool:
        """Note a claimed refund; False when one is found already."""
        return await self.documents.change(
            payment.id,
            {"state": {"$in": ["authorized", "settled"]}, "refundLog": None},
            {"$set": {"refundTx": tx_hash, "refundClaim": amount.micros}},
        )

    async def take_refund(self, payment: Payment, log_index: int) -> bool:
        """Note the event that pays a settled payment back; False when another has it."""
        try:
            return await self.documents.change(
                payment.id,
                {"state": "settled", "refundTx": payment.refund_tx, "refundLog": None},
                {"$set": {"refundLog": log_index}},
            )
        except DuplicateKey:
            return False

    async def unclaim_refund(self, payment: Payment) -> None:
        """Remove a noted refund that turned out not to be this payment's."""
        await self.documents.change(
            payment.id,
            {"refundTx": payment.refund_tx, "refundLog": None},
            {"$set": {"refundTx": None, "refundClaim": 0}},
        )

    async def set_unfunded(self, payment: Payment) -> None:
        """Note that the wallet could not cover it."""
        await self.documents.change(payment.id, {}, {"$set": {"unfunded": True}})

    async def open(self, payment: Payment) -> Payment:
        """Store a reserved payment; where its id is stored already, give that one instead."""
        if await self.documents.insert(document_of(payment)):
            return payment
        return await self.get(payment.id)

    async def close(
        self, payment: Payment, state: PaymentState, *, now: datetime | None = None, **fields: Any
    ) -> Payment:
        """Move a payment to `state` and set `fields` (names of Payment). Where nothing can send it
        any more, its header goes with the same write.

        Already there: no change. Raises IllegalTransition for a move that PAYMENTS does not have,
        and when another writer has moved it elsewhere first.
        """
        if payment.state is state:
            return payment
        check_transition(payment.state, state)
        if not state.sent_again and payment.header:
            fields |= _without_header(payment)
        moved = replace(payment, state=state, **fields)
        changed = moved.document("state", *fields) | {"status": state.status}
        if now is not None:
            changed["updatedAt"] = now
        if await self.documents.change(
            payment.id, {"state": payment.state.value}, {"$set": changed}
        ):
            return moved
        current = await self.get(payment.id)
        if current.state is state:
            return current
        raise IllegalTransition(
            f"Payment {payment.id} is {current.state}, so it cannot become {state}"
        )


def _without_header(payment: Payment) -> dict[str, Any]:
    """The fields of a payment whose signed bytes are forgotten."""
    return {"header": "", "header_sha256": hashlib.sha256(payment.header.encode()).hexdigest()}


def document_of(payment: Payment) -> Document:
    """As it is stored."""
    return payment.document() | {"currency": "USD", "status": payment.state.status}
