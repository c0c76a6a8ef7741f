"""What each amount of money in a text is: a limit, a rate, something past, or unclear.

An amount counts as the budget only where the words around it say so ("under $5", "$5 max", "I have
5 dollars", or "$5" standing by itself). A number without a currency counts only right after a word
for money ("budget of 5"). Everything else is asked about, never guessed: a wrong budget is worse
than a question. Libraries that find prices in a text give numbers and currencies; none tells a
limit from a rate, or from what was paid before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from domain.goals.currency import sums, usd_of
from domain.goals.text import DIGITS, NUMBER, any_word, number, one_of, plain
from domain.money import Usd


class Role(Enum):
    LIMIT = "limit"
    RATE = "rate"
    """Money per hour, per GPU, each."""
    RATE_CAP = "rate_cap"
    """The most per hour that may be paid."""
    PAST = "past"
    """Spent or charged once, or what a thing costs: no budget."""
    FLOOR = "floor"
    """The lower end of a range, whose upper end is the limit."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Amount:
    """One amount in a text. usd: None where the text can mean several values; a RATE_CAP's is for
    one hour. end: includes "per hour" and such.
    """

    start: int
    end: int
    written: str
    usd: Usd | None
    role: Role
    per_gpu: bool = False
    """For a RATE_CAP: whether it was said of each GPU, not of all together."""


@dataclass(frozen=True, slots=True)
class SaidBudget:
    """The budget in a text; amount is None where it has none, or `doubts` leave it open."""

    amount: Usd | None
    doubts: tuple[str, ...] = ()


_I: Final = re.IGNORECASE
_FAR: Final = 160
"""Characters: words further away say nothing about an amount."""

_PERIOD: Final = (
    r"(?:h|hrs?|hours?|min(?:ute)?s?|s|sec(?:ond)?s?|days?|nights?|weeks?|months?|years?)"
)
_PER: Final = re.compile(
    rf"[\s-]*(?:(?:/|per|an?|each|every|p/)[\s-]*(?:(?:gpu|card|node)[\s/-]*)?"
    rf"(?:{_PERIOD}|gpus?|cards?|nodes?|epochs?|tokens?|images?|instances?)\b|"
    r"hourly\b|daily\b|monthly\b|each\b|apiece\b|p\.?h\b)",
    _I,
)
_PER_ANYTHING: Final = re.compile(r"\s*(?:/\s?\w|per\b)", _I)
_RATE_BEFORE: Final = re.compile(
    r"(?:\b(?:hourly|daily|weekly|monthly|yearly|annual)|"
    r"(?<!learning )\brates?|"
    r"\bper[\s-]+(?:gpu|hour|minute|day|card)|"
    r"/\s?h(?:r|our)?)\b[^,;]{0,40}$",
    _I,
)
_PAST: Final = one_of(
    any_word(
        "spent paid charged billed was were been yesterday previous(?:ly)? worth saved? "
        "saving refund(?:ed)? owed? owes lost earned? made retails? bought sold sells? "
        "normally usually typically raised costs"
    ),
    "used to",
    "last (?:time|week|month|year|run|job)",
)
_PAST_BEFORE: Final = re.compile(rf"\b{_PAST}\b[^,;]*$|\bcost (?:me|us)\b[^,;]*$", _I)
_PAST_AFTER: Final = re.compile(
    r"\s*(?:last (?:time|week|month|year|run)|so far|already|yesterday|ago|before|"
    r"in (?:my|the|our) (?:wallet|account|bank)|off\b|worth of|of (?:credit|debt))\b",
    _I,
)

_NOT: Final = r"(?:not|[a-z]+n't|never|no|without|nothing)"
_CUE: Final = one_of(
    any_word(
        "under below beneath max(?:imum)? within budget(?:ed)? spend(?:ing)? pay(?:ing)? "
        "cap(?:ped)? limit(?:ed)? ceiling afford for with have got use total [<≤]"
    ),
    "(?:less|fewer|lower|cheaper|smaller) than",
    "at (?:the )?most",
    "up ?to",
    "have only",
    "stop at",
    rf"{_NOT}\s+(?:\w+\s+){{0,2}}?(?:more|higher|greater) than",
    rf"{_NOT}\s+(?:\w+\s+){{0,2}}?(?:over|above|beyond|past|exceed(?:ing)?)",
)
_FILL: Final = one_of(
    any_word(
        r"of is at to be an? the my our your just only about around roughly approximately "
        r"approx\.? maybe it in for total overall altogether exactly us set spend(?:ing)? cost "
        r"price budget cap limit max say bill should would will must all this than <="
    ),
    r"[=:~<≤(\"-]",
)
_LIMIT_BEFORE: Final = re.compile(rf"(?:\b|(?=[<≤])){_CUE}(?:\s*{_FILL})*\s*$", _I)
_NEGATED: Final = re.compile(
    rf"(?:\b(?:not|no|without|instead of|rather than|minus|between|from|at least|minimum)|n't)"
    rf"(?:\s+(?:\w+\s+)?(?:under|below|less than))?(?:\s*{_FILL})*\s*$",
    _I,
)
_LIMIT_AFTER: Final = re.compile(
    r"[\s-]*(?:max(?:imum)?|tops|budget|limit|cap|ceiling|total|in total|all[\s-]in|"
    r"at (?:the )?most|or (?:less|under|below|cheaper)|altogether|overall|only|to spend|to burn|"
    r"is (?:my|the|our) (?:max|budget|limit|cap|ceiling|most)|"
    r"is all|will do|should (?:do|be enough))\b",
    _I,
)
_FOR_IT: Final = re.compile(
    r"\s*for (?:it|this|that|everything|the (?:whole|job|run|lot|thing))\b", _I
)
_ALONE_BEFORE: Final = re.compile(
    r"(?:^|[,;:.!?(–—-]|\b(?:and|but|please|then))"
    r"(?:\s*(?:for|an?|the|that's|just|only|about|around|roughly|~|total|in total|and|but|please))*"
    r"\s*$",
    _I,
)
_ALONE_AFTER: Final = re.compile(
    r"\s*(?:$|[,;:.!?()–—-]|(?:and|but|please|for|on|by|or so|thanks)\b)", _I
)
_GPU_OR_TIME: Final = (
    r"(?:(?:[0-9]{1,3}\s?[x×]\s?)?(?:nvidia\s+)?"
    r"(?:(?:[abhlvt]|mi|g[bh])[0-9]{1,4}[a-z]{0,2}|(?:rtx[\s-]?)?[345]0[89]0|rtx[\s-]?6000)|"
    rf"{DIGITS}[\s-]?{_PERIOD})"
)
"""A GPU or a length of time beside an amount, as in "$5 A100 2h"."""
_LISTED_BEFORE: Final = re.compile(
    rf"(?:^|[,;:.!?(–—]|\b(?:and|but|please|then))\s*$|(?:^|[\s,;:]){_GPU_OR_TIME}\s+$", _I
)
_LISTED_AFTER: Final = re.compile(rf"\s*(?:$|[,;:.!?()]|\s{_GPU_OR_TIME}(?![\w]))", _I)
_AND_MORE: Final = re.compile(rf"\s*(?:and|to|&|-|–|—)\s*(?:us\s?)?\$?\s?{DIGITS}(?![\w%.])", _I)
_NO_BETWEEN: Final = re.compile(
    rf"(?:\b(?:not|never|{_PAST}|cost|prices?|priced|rates?|range)\b|n't\b)[^,;]*$", _I
)
_BETWEEN: Final = re.compile(
    rf"\bbetween\s+(?:us\s?)?(?:\$\s?)?(?:(?P<low>{DIGITS})(?:\s?(?:usdc?|dollars?|bucks?|\$))?"
    r"\s*(?:and|to|&|-|–|—)\s*)?$",
    _I,
)
_HOUR: Final = re.compile(
    r"[\s-]*(?:(?:/|per|an?|each|every|p/)[\s-]*(?P<gpu>(?:gpu|card)[\s/-]*(?:per[\s-]+|an?\s+)?)?"
    r"(?:h|hrs?|hours?)|hourly|p\.?h)\b",
    _I,
)
_HOUR_BEFORE: Final = re.compile(
    r"(?:\bhourly|\bper[\s-]+(?P<gpu>gpu[\s-]+)?hour|/\s?h(?:r|our)?)\b[^,;]{0,40}$", _I
)
_IS_FINE: Final = re.compile(r"\s*(?:is|would be|'s)\s+(?:fine|ok(?:ay)?|good|acceptable)\b", _I)
_RANGE_AFTER: Final = re.compile(
    rf"\s*(?:-|–|—|to|or|and)\s*(?:maybe\s+)?(?:\$\s?)?{DIGITS}"
    r"(?!\s*[x×]|[\s-]*(?:h\b|hrs?|hours?|min|days?|gpus?|cards?)|\w)",
    _I,
)
_RANGE_BEFORE: Final = re.compile(rf"{NUMBER}\s*(?:-|–|—|to|or)\s*\$?\s*$", _I)
_SHARE_BEFORE: Final = re.compile(
    r"(?:%|\b(?:per ?cent|half|third|quarter|fifth|tenth|part|rest|(?<!at )(?<!at the )most))"
    r"\s+(?:of\s+)?(?:my|the|our|your|that|this|an?)?\s*$",
    _I,
)

_ANOTHER: Final = re.compile(r"\b(?:and|plus)\s+(?:another\s+)?$", _I)
_LEADS: Final = one_of(
    any_word("take use about max(?:imum)? ok(?:ay)? say just yes well"),
    "make it",
    "up to",
    "at most",
    "let's say",
    "i'd say",
    "my budget is",
    "the budget is",
)
_LEAD: Final = rf"(?:{_LEADS}[,:]?\s+)*"
_ANSWER: Final = re.compile(rf"{_LEAD}({NUMBER})\s*(?:max|tops|at most|please|in total)?[.!]*", _I)
_LONE: Final = re.compile(rf"{_LEAD}(?=\$|us\$|{NUMBER}|an?\s)", _I)
_BARE_FILL: Final = any_word(
    "of is at to be an? the my just only about around roughly max(?:imum)? most up under "
    "below no not more less over than should would will must exceed limit cap total can "
    "cannot [a-z]+n't [=:~(]"
)
_BARE: Final = re.compile(
    r"(?<!time )(?<!token )(?<!step )(?<!epoch )(?<!memory )(?<!compute )"
    rf"\b(budget|spend(?:ing)?|pay(?:ing)?|cost)((?:\s*{_BARE_FILL})*)"
    rf"\s*(?<![\w.,$-])({NUMBER})"
    r"(?=\s*(?:$|[;!?)]|[.,](?![0-9]))|"
    r"\s+(?:on|for|please|in total|total|max|tops|all in|at most|or less|but|"
    r"and(?!\s+a\s+half))\b)",
    _I,
)


def budget_of(found: Sequence[Amount]) -> SaidBudget:
    """The budget that these amounts of one text state, if they state exactly one."""
    limits = {a.usd for a in found if a.role is Role.LIMIT}
    doubts = [a for a in found if a.role is Role.UNCLEAR]
    [only, *more] = limits or {None}
    if only and not more and not doubts:
        return SaidBudget(only)
    heard = [a.written for a in found if a.role in (Role.LIMIT, Role.UNCLEAR)]
    return SaidBudget(None, tuple(dict.fromkeys(heard)))


def read_answer(text: str) -> SaidBudget:
    """The budget in an answer to "How much may I spend?", where a bare number is an amount."""
    said = plain(text)
    if bare := _ANSWER.fullmatch(said):
        amount = usd_of(number(bare[1]))
        return SaidBudget(amount) if amount else SaidBudget(None, (said[:40],))
    found = amounts(said)
    lone = _LONE.match(said, 0) and len(found) == 1 and found[0].usd
    if (
        lone
        and found[0].role in (Role.LIMIT, Role.UNCLEAR)
        and found[0].end == len(said.rstrip(" .!"))
    ):
        return SaidBudget(found[0].usd)
    return budget_of(found)


def amounts(text: str) -> list[Amount]:
    """All amounts of money in a plain text, in order."""
    found: list[Amount] = []
    behind = 0
    for start, end, usd in sorted(sums(text), key=lambda w: (w[0], -w[1])):
        if start < behind:
            continue
        written = text[start:end]
        role = _role(text, start, end, behind) if usd else Role.UNCLEAR
        hourly = _HOUR.match(text, end)
        again = role is Role.LIMIT and found and found[-1].role is Role.LIMIT
        if again and _ANOTHER.search(text[behind:start]):
            role = Role.UNCLEAR  # "$5 for this and $5 for that": which?
        per = hourly or (_HOUR_BEFORE.search(text[:start]) if role is Role.RATE_CAP else None)
        rate = _PER.match(text, end)
        behind = max(rate.end() if rate else end, hourly.end() if hourly else end)
        found.append(Amount(start, behind, written, usd, role, bool(per and per["gpu"])))
    return found + _bare(text, found)


def _role(text: str, start: int, end: int, behind: int) -> Role:
    near = max(behind, start - _FAR)
    before, after = re.split(r"[.;!?]\s", text[near:start])[-1], text[end : end + _FAR]
    ranged = _BETWEEN.search(text[:start])
    if _PER.match(after):
        upper = bool(ranged and ranged["low"])
        return Role.RATE_CAP if _caps_an_hour(before, after, upper=upper) else Role.RATE
    if ranged:
        return _end_of_range(text, ranged, end)
    if _PER_ANYTHING.match(after) or _SHARE_BEFORE.search(before):
        return Role.UNCLEAR
    if _RATE_BEFORE.search(before):
        return Role.RATE_CAP if _caps_an_hour(before, "") else Role.RATE
    limit = bool(_LIMIT_BEFORE.search(before)) and not _NEGATED.search(before)
    limit = limit or bool(_LIMIT_AFTER.match(after))
    if _PAST_BEFORE.search(before) or _PAST_AFTER.match(after):
        return Role.UNCLEAR if limit else Role.PAST
    limit = limit or (bool(_FOR_IT.match(after)) and not _NEGATED.search(before))
    if _LISTED_BEFORE.search(before) and _LISTED_AFTER.match(after):
        limit = True
    if _RANGE_AFTER.match(after) or _RANGE_BEFORE.search(text[max(0, start - _FAR) : start]):
        return Role.UNCLEAR
    alone = _ALONE_BEFORE.search(before or ",") and _ALONE_AFTER.match(after)
    if limit or (alone and not _NEGATED.search(before)):
        return Role.LIMIT
    return Role.UNCLEAR


def _caps_an_hour(before: str, after: str, *, upper: bool = False) -> bool:
    """Whether a rate is the most that an hour may cost.

    after: from "an hour" on, if it follows. upper: it is the upper end of a range.
    """
    hour = _HOUR.match(after)
    if not (hour or _HOUR_BEFORE.search(before)):
        return False
    if _PAST_BEFORE.search(before) or _NEGATED.search(before):
        return False
    rest = after[hour.end() :] if hour else ""
    if _PAST_AFTER.match(rest):
        return False
    said_after = _LIMIT_AFTER.match(rest) or _IS_FINE.match(rest)
    return bool(upper or said_after or _LIMIT_BEFORE.search(before))


def _end_of_range(text: str, ranged: re.Match[str], end: int) -> Role:
    """What an amount right after "between", or after "between $3 and", is. end: of the amount."""
    if _NO_BETWEEN.search(text[max(0, ranged.start() - _FAR) : ranged.start()]):
        return Role.UNCLEAR
    if ranged["low"] is None:
        return Role.FLOOR if _AND_MORE.match(text, end) else Role.UNCLEAR
    low = number(ranged["low"])
    high = re.search(DIGITS, text[ranged.end() : end])
    above = high and low is not None and low < (number(high[0]) or 0)
    tail = text[end : end + _FAR]
    if not above or _RANGE_AFTER.match(tail) or _PAST_AFTER.match(tail):
        return Role.UNCLEAR
    return Role.LIMIT


def _bare(text: str, marked: list[Amount]) -> list[Amount]:
    """Numbers without a currency, right after a word for money."""
    found = []
    for match in _BARE.finditer(text):
        if any(a.start < match.end(3) and match.start(3) < a.end for a in marked):
            continue
        in_digits = match[3][0] in ".0123456789"
        if not in_digits and match[1].lower() != "budget":
            continue
        before = text[max(0, match.start() - 60) : match.start(3)]
        past = _PAST_BEFORE.search(before) or _RATE_BEFORE.search(before)
        more = re.search(r"(?:more|higher) than|\b(?:over|exceed)\b", match[2], _I)
        if more:
            lead = text[max(0, match.start() - 60) : match.start(2) + more.start()]
            more = None if re.search(rf"\b{_NOT}\s+(?:\w+\s+){{0,5}}$", lead, _I) else more
        usd = usd_of(number(match[3]))
        role = Role.PAST if past else Role.LIMIT if usd and not more else Role.UNCLEAR
        found.append(Amount(match.start(3), match.end(3), match[3], usd, role))
    return found
