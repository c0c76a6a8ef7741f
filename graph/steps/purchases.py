"""From a decision, which holds ids only, to the purchase that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.payments import PurchaseKind
from domain.slices import most_for, price_of
from graph.context import TickContext
from graph.steps.work import most_ahead, spec_of
from tools.payments.purchase import Purchase
from tools.payments.sellers import extension_order, launch_order

MINUTES_PER_EPOCH: Final = 20
"""A job is asked to report, and may be left, at least so often."""


def is_extension(decision: Mapping[str, Any]) -> bool:
    return decision.get("kind") == PurchaseKind.EXTEND.value


async def purchase_of(context: TickContext, decision: Mapping[str, Any]) -> Purchase | None:
    """What `decision` means, with price and payee from the books; None where it is out of date.

    Raises NotFound when the vendor is registered no more.
    """
    if is_extension(decision):
        return await _extension(context, decision)
    return await _launch(context, decision)


async def _launch(context: TickContext, decision: Mapping[str, Any]) -> Purchase | None:
    """The offer that was decided for, as it is on record."""
    wanted = (decision.get("vendor_id"), decision.get("template_id"))
    quotes = (offer.quote for offer in context.run.offers)
    quote = next((q for q in quotes if (q.vendor_id, q.template_id) == wanted), None)
    if quote is None:
        return None
    vendor = await context.ledger.vendors.get(quote.vendor_id)
    spec = spec_of(context.run)
    params = {
        "jobType": spec.job_type,
        "gpuCount": spec.gpu_count,
        "totalHours": spec.hours,
        "epochs": max(1, round(spec.minutes / MINUTES_PER_EPOCH)),
        "goal": context.run.goal[:200],
    }
    return Purchase(
        slot=decision["slot"],
        kind=PurchaseKind.LAUNCH,
        vendor=vendor,
        quoted=quote.price,
        minutes=quote.minutes,
        gpu_type=quote.gpu_type,
        order=launch_order(quote.template_id, params, context.deps.callback_url),
        expires_at=quote.expires_at,
        quote_id=quote.template_id,
        rest=most_for(spec.minutes - quote.minutes, paid=quote.price, for_minutes=quote.minutes),
        most_ahead=most_ahead(context, vendor),
    )


async def _extension(context: TickContext, decision: Mapping[str, Any]) -> Purchase | None:
    """More time for a running job of this run, at the rate of its launch; None when it does not
    run now.
    """
    job = await context.ledger.jobs.find(decision["job_id"])
    if job is None or job.status.ended or job.run_id != context.run.id:
        return None
    launched = await context.ledger.payments.get(job.payment_id)
    minutes = decision["minutes"]
    missing = job.needed_minutes - job.minutes - minutes
    vendor = await context.ledger.vendors.get(job.vendor_id)
    return Purchase(
        slot=decision["slot"],
        kind=PurchaseKind.EXTEND,
        vendor=vendor,
        quoted=price_of(minutes, paid=launched.amount, for_minutes=launched.minutes),
        minutes=minutes,
        gpu_type=job.gpu_type,
        order=extension_order(job.id, job.vendor_job_id, minutes),
        job_slot=launched.slot,
        quote_id=str(launched.order.get("vendorJobTemplateId", "")),
        rest=most_for(missing, paid=launched.amount, for_minutes=launched.minutes),
        most_ahead=most_ahead(context, vendor),
    )
