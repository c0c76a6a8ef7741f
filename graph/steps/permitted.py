"""Which offers the owner's limits would not pay, found out before one is chosen."""

from __future__ import annotations

from collections.abc import Iterable

from domain.errors import PolicyRefused
from domain.ids import user_day
from domain.money import ZERO
from domain.quotes import Offer
from graph.context import TickContext
from graph.steps.work import most_ahead
from ledger.allowances import Charge


async def refused_offers(
    context: TickContext, offers: Iterable[Offer], slot: int
) -> dict[str, str]:
    """Vendor id → the rule that its offer breaks, for a purchase in `slot`.

    It saves a choice that could not be paid; what is signed is judged again when it is paid for.
    """
    return {
        offer.quote.vendor_id: rule
        for offer in offers
        if (rule := await _rule(context, offer, slot))
    }


async def _rule(context: TickContext, offer: Offer, slot: int) -> str:
    run, policy, price = context.run, context.deps.cashier.policy, offer.quote.price
    if price > policy.max_per_payment:
        return "max_per_payment"
    held = run.reservation(slot)
    before, now = held.amount if held else ZERO, context.deps.now()
    try:
        policy.check_run(run.spent + run.reserved - before, max(before, price))
        if policy.caps.any:
            day = (held.allowance if held else None) or user_day(run.user_id, now)
            charge = Charge(f"{run.id}:{slot}", offer.quote.vendor_id, price)
            await context.ledger.allowances.check(policy.caps, day, charge, now)
        if offer.vendor.pay_to is not None:
            exposure, bound = context.deps.cashier.exposure, most_ahead(context, offer.vendor)
            await exposure.check(offer.vendor.vendor_id, f"{run.id}:{slot}", price, bound)
    except PolicyRefused as refusal:
        return refusal.rule
    return ""
