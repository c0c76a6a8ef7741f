"""What is to be decided, the ranking's decision about it, and the check of a model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import AIMessage

from domain.jobs import Preference
from domain.money import Usd
from domain.quotes import Offer
from domain.ranking import Abort, Decision, Rent, Wait, choose, rank
from domain.tokens import UNMETERED, Meter
from graph.planner.answers import LONGEST_REASON, NAMES, Unusable
from graph.planner.prompts import handle
from tools.wire.untrusted import clean_text

MOST_LOOK_UPS: Final = 6
"""The most look-ups for one decision."""
MOST_WAITS: Final = 3
"""How many decisions to wait, in a row, a model is granted while the ranking would rent."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be decided."""

    goal: str
    offers: tuple[Offer, ...]
    left: Usd
    patience: bool
    """Whether waiting for better offers is still allowed."""
    minutes_left: float | None = None
    """Minutes until the deadline, where there is one."""
    preference: Preference | None = None
    waits: int = 0
    """How often in a row it was decided to wait."""
    model_tokens: int = 0
    """What the run's model calls have used so far."""
    meter: Meter = UNMETERED
    """Counts the model's calls against the user's limit."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Vendors whose offer the spending policy would not pay, and why."""


def by_ranking(situation: Situation) -> Decision:
    """The ranking's decision among the offers that may be paid; among all, where none may."""
    offers = [o for o in situation.offers if o.quote.vendor_id not in situation.refused]
    return choose(
        offers or situation.offers,
        left=situation.left,
        patience=situation.patience,
        minutes_left=situation.minutes_left,
        preference=situation.preference,
    )


def decision_of(
    answer: AIMessage, situation: Situation, tools: set[str], before: Sequence[AIMessage]
) -> Decision | None:
    """The answer's decision, if it stands up to the offers and the budget; None for look-ups.

    tools: the look-ups' names. before: the earlier answers. Raises Unusable.
    """
    chosen = [call for call in answer.tool_calls if call["name"] in NAMES]
    if len(chosen) > 1:
        raise Unusable("several decisions at once")
    if any(call["name"] not in tools | NAMES for call in answer.tool_calls):
        raise Unusable("the model called an unknown tool")
    if not chosen:
        _check_look_ups(answer, before)
        return None
    args = chosen[0]["args"]
    reason = clean_text(str(args.get("reason") or "no reason given"), LONGEST_REASON)
    match chosen[0]["name"]:
        case "rent":
            return Rent(_chosen(args, situation).quote, reason)
        case "wait":
            if not situation.patience:
                raise Unusable("it wants to wait any longer")
            if situation.waits >= MOST_WAITS and isinstance(by_ranking(situation), Rent):
                raise Unusable(f"it has waited {situation.waits} times already")
            return Wait(reason)
        case _:
            if isinstance(by_ranking(situation), Rent):
                raise Unusable("it gave up with offers in reach")
            return Abort(reason)


def _check_look_ups(answer: AIMessage, before: Sequence[AIMessage]) -> None:
    """Raise Unusable for a model that goes round in circles."""
    made = [(call["name"], call["args"]) for earlier in before for call in earlier.tool_calls]
    asked = [(call["name"], call["args"]) for call in answer.tool_calls]
    if all(call in made for call in asked):
        raise Unusable("it looks up the same again")
    if len(made) + len(asked) > MOST_LOOK_UPS:
        raise Unusable(f"no decision after {MOST_LOOK_UPS} look-ups")


def best_first(situation: Situation) -> list[Offer]:
    """The offers that budget and deadline hold, the best first."""
    able = rank(
        situation.offers,
        left=situation.left,
        minutes_left=situation.minutes_left,
        preference=situation.preference,
    )
    return [ranked.offer for ranked in able]


def _chosen(args: Mapping[str, Any], situation: Situation) -> Offer:
    wanted = (args.get("vendor_id"), args.get("quote_id"))
    for offer in situation.offers:
        if wanted == (handle(offer.quote.vendor_id), handle(offer.quote.template_id)):
            if offer.projected > situation.left:
                raise Unusable("its choice is over the budget")
            if offer not in best_first(situation):
                raise Unusable("its choice is too late for the deadline")
            if why := situation.refused.get(offer.quote.vendor_id):
                raise Unusable(f"its choice is against the spending policy ({why})")
            return offer
    vendors = {handle(offer.quote.vendor_id) for offer in situation.offers}
    raise Unusable(f"it chose an unknown {'quote' if wanted[0] in vendors else 'vendor'}")
