"""Values that tests are made of: each whole and sound, with what a test cares about changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from domain.ids import payment_id
from domain.money import ZERO, Usd
from domain.networks import LOCAL
from domain.payments import PaymentState, PaymentTerms, PurchaseKind
from domain.quotes import Offer, Quote, Rail, Vendor
from domain.vendor_secrets import GPU_VENDOR_SECRET
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Lease, Run
from ledger.store import Store
from server.api.views import status_answer
from tests.support.stack import FreshDatabase

NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAYEE: Final = "0x" + "Aa" * 20


def at(moment: datetime) -> Callable[[], datetime]:
    """A clock that stands still."""
    return lambda: moment


def a_vendor(vendor_id: str = "gpu_vendor_1", **changes: Any) -> Vendor:
    vendor = Vendor(
        vendor_id=vendor_id,
        name=vendor_id.title(),
        endpoint="http://vendor.test",
        price_per_hour=Usd.parse("1.4"),
        reliability=0.9,
        gpu_types=("A100",),
        pay_to=PAYEE,
        secret_env=GPU_VENDOR_SECRET,
    )
    return replace(vendor, **changes)


def a_quote(vendor_id: str = "gpu_vendor_1", dollars: object = "1.4", **changes: Any) -> Quote:
    quote = Quote(
        vendor_id=vendor_id,
        template_id=f"quote_of_{vendor_id}",
        gpu_type="A100",
        minutes=60,
        price=Usd.parse(dollars),
        eta_minutes=60,
        expires_at=None,
    )
    return replace(quote, **changes)


def an_offer(
    vendor_id: str = "gpu_vendor_1",
    dollars: object = "1.4",
    *,
    reliability: float = 0.9,
    failures: int = 0,
    **changes: Any,
) -> Offer:
    vendor = a_vendor(vendor_id, reliability=reliability)
    return Offer(a_quote(vendor_id, dollars, **changes), vendor, failures)


def terms(**changes: Any) -> PaymentTerms:
    """What an honest vendor asks for: $1.40 in the local network's USDC."""
    honest = PaymentTerms(
        scheme="exact",
        network=LOCAL.caip2,
        asset=LOCAL.usdc,
        pay_to=PAYEE,
        amount=Usd.parse("1.4"),
        max_timeout_s=300,
    )
    return replace(honest, **changes)


def a_payment(
    run_id: str = "run_1", slot: int = 0, vendor_id: str = "gpu_vendor_1", **changes: Any
) -> Payment:
    """A reserved one."""
    payment = Payment(
        id=payment_id(run_id, slot, vendor_id),
        run_id=run_id,
        slot=slot,
        kind=PurchaseKind.LAUNCH,
        vendor_id=vendor_id,
        amount=Usd.parse("1.4"),
        state=PaymentState.RESERVED,
        rail=Rail.X402,
        created_at=NOON,
        order={"vendorJobTemplateId": "quote_1", "jobParams": {"totalHours": 1.0}},
        minutes=60,
        gpu_type="A100",
    )
    return replace(payment, **changes)


@asynccontextmanager
async def open_ledger(database: FreshDatabase, **options: Any) -> AsyncIterator[Ledger]:
    """A ledger over an empty database. options: of the MongoDB client."""
    store = Store.open(database.uri, database.name, **options)
    try:
        ledger = Ledger.over(store)
        await ledger.ensure_indexes()
        yield ledger
    finally:
        await store.close()


async def leased(ledger: Ledger, dollars: object = 5, run_id: str = "run_1") -> tuple[Run, Lease]:
    """A new run, and the lease on it."""
    await ledger.runs.create(run_id, "user_1", "Train on an A100", Usd.parse(dollars), NOON)
    return await ledger.runs.acquire(run_id, at(NOON), 60)


def check_books(run: Run) -> None:
    """What holds at any moment: no money appears or vanishes, and nothing is overdrawn."""
    reserved = sum((held.amount for held in run.reservations), ZERO)
    assert run.budget_remaining + run.spent + reserved == run.budget_total, run
    assert run.budget_remaining >= ZERO, run
    assert run.spent >= ZERO, run
    assert all(held.amount >= ZERO for held in run.reservations), run


def status_view(*stored: Any) -> dict[str, Any]:
    """What agent-status answers about a run and what belongs to it, as JSON values."""
    return status_answer(*stored).model_dump(mode="json", by_alias=True)
