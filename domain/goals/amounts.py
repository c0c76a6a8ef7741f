"""Amounts of money in a text, and what each is: a limit, a rate, something past, or unclear.

An amount counts as the budget only where the words around it say so ("under $5", "$5 max", "I have
5 dollars", or "$5" standing by itself). A number without a currency counts only right after a word
for money ("budget of 5"). Everything else is asked about, never guessed: a wrong budget is worse
than a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

from domain.goals.text import DIGITS, IN_WORDS, NUMBER, number, plain
from domain.money import DECIMALS, LARGEST, Usd


class Role(Enum):
    LIMIT = "limit"
    RATE = "rate"
    """Money per hour, per GPU, each."""
    PAST = "past"
    """Spent or charged once, or what a thing costs: no budget."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Amount:
    """usd: None where the writing has no one value in dollars. end: behind "per hour" and such."""

    start: int
    end: int
    written: str
    usd: Usd | None
    role: Role


@dataclass(frozen=True, slots=True)
class Budget:
    """amount is None when none is said, or when `doubts` names amounts that leave it open."""

    amount: Usd | None
    doubts: tuple[str, ...] = ()


_I: Final = re.IGNORECASE
_FAR: Final = 160
"""Characters: words further away say nothing about an amount."""
_SCALE: Final = r"(?:\s?k\b|\s+(?:thousand|grand|million)\b)?"
_UNIT: Final = r"(?:usdc?|(?:us[\s-])?dollars?|dollar|bucks?|\$)"
_BEFORE: Final = re.compile(
    rf"(?<![\w$€£¥₹])(?:(?:us\s?)?\$\s?|usdc?\s*[:=]?\s*)({DIGITS})({_SCALE})"
    rf"(?![\w$%])(?:\s?(?:usdc?|dollars?)\b)?", _I,
)  # fmt: skip
_AFTER: Final = re.compile(
    rf"(?<![\w.,$€£¥₹/-])({NUMBER})({_SCALE})[\s-]?({_UNIT}|cents?|¢)(?![\w])(?!\s?[0-9])", _I
)
_ONE: Final = re.compile(r"\b(half\s+)?(?:an?|one)\s+(?:single\s+)?(?:dollar|buck)\b", _I)
_FOREIGN: Final = re.compile(
    rf"[€£¥₹]\s?{DIGITS}|(?<![\w.,$])(?:{NUMBER})\s?(?:[€£¥₹]|(?:euros?|eur|pounds?|gbp|quid|yen|"
    rf"yuan|"
    r"rupees?|francs?|chf|cad|aud|usdt|dai|eth|btc|bitcoins?|sats?)\b)|\b(?:eur|gbp|"
    r"chf)\s?[0-9.,]+|"
    rf"(?<=\w)\$\s?{DIGITS}", _I,
)  # fmt: skip
_VAGUE: Final = re.compile(r"\b(?:a few|a couple(?: of)?|some|several)\s+(?:bucks|dollars)\b", _I)
_CENTS: Final = re.compile(rf"\s*(?:,|and|&)?\s*({NUMBER})\s?(?:cents?|¢)(?!\w)", _I)

_PERIOD: Final = (
    r"(?:h|hrs?|hours?|min(?:ute)?s?|s|sec(?:ond)?s?|days?|nights?|weeks?|months?|years?)"
)
_PER: Final = re.compile(
    rf"[\s-]*(?:(?:/|per|an?|each|every|p/)[\s-]*(?:(?:gpu|card|node)[\s/-]*)?"
    rf"(?:{_PERIOD}|gpus?|cards?|nodes?|epochs?|tokens?|images?|instances?)\b|hourly\b|daily\b|"
    r"monthly\b|each\b|apiece\b|p\.?h\b)", _I,
)  # fmt: skip
_PER_ANYTHING: Final = re.compile(r"\s*(?:/\s?\w|per\b)", _I)
_RATE_BEFORE: Final = re.compile(
    r"(?:\b(?:hourly|daily|weekly|monthly|yearly|annual)|(?<!learning )\brates?|"
    r"\bper[\s-]+(?:gpu|hour|minute|day|card)|/\s?h(?:r|"
    r"our)?)\b[^,;]{0,40}$",
    _I,
)
_PAST_BEFORE: Final = re.compile(
    r"\b(?:spent|paid|charged|billed|was|were|been|used to|last (?:time|week|month|year|run|job)|"
    r"yesterday|previous(?:ly)?|worth|saved?|saving|refund(?:ed)?|owed?|owes|lost|earned?|made|"
    r"retails?|bought|sold|sells?|normally|usually|typically|raised|costs)\b[^,;]*$|\bcost (?:me|"
    r"us)\b[^,;]*$",
    _I,
)  # fmt: skip
_PAST_AFTER: Final = re.compile(
    r"\s*(?:last (?:time|week|month|year|run)|so far|already|yesterday|ago|before|in (?:my|the|"
    r"our) "
    r"(?:wallet|account|bank)|off\b|worth of|of (?:credit|debt))\b", _I,
)  # fmt: skip

_NOT: Final = r"(?:not|[a-z]+n't|never|no|without|nothing)"
_CUE: Final = (
    r"(?:under|below|beneath|(?:less|fewer|lower|cheaper|smaller) than|max(?:imum)?|"
    r"at (?:the )?most|"
    r"up ?to|within|budget(?:ed)?|spend(?:ing)?|pay(?:ing)?|cap(?:ped)?|limit(?:ed)?|ceiling|"
    r"afford|"
    r"for|with|have|got|have only|use|total|stop at|"
    rf"{_NOT}\s+(?:\w+\s+){{0,2}}?(?:more|higher|greater) than|"
    rf"{_NOT}\s+(?:\w+\s+){{0,2}}?(?:over|above|beyond|past|exceed(?:ing)?)|[<≤])"
)  # fmt: skip
_FILL: Final = (
    r"(?:of|is|at|to|be|an?|the|my|our|your|just|only|about|around|roughly|approximately|approx\.?|"
    r"maybe|it|in|for|total|overall|altogether|exactly|us|set|spend(?:ing)?|cost|price|budget|cap|"
    r"limit|max|say|bill|should|would|will|must|all|this|than|[=:~<≤(\"-]|<=)"
)  # fmt: skip
_LIMIT_BEFORE: Final = re.compile(rf"(?:\b|(?=[<≤])){_CUE}(?:\s*{_FILL})*\s*$", _I)
_NEGATED: Final = re.compile(
    rf"(?:\b(?:not|no|without|instead of|rather than|minus|between|from|at least|minimum)|n't)"
    rf"(?:\s+(?:\w+\s+)?(?:under|below|less than))?(?:\s*{_FILL})*\s*$", _I,
)  # fmt: skip
_LIMIT_AFTER: Final = re.compile(
    r"[\s-]*(?:max(?:imum)?|tops|budget|limit|cap|ceiling|total|in total|all[\s-]in|"
    r"at (?:the )?most|"
    r"or (?:less|under|below|cheaper)|altogether|overall|only|to spend|to burn|is (?:my|the|"
    r"our) (?:max|budget|limit|cap|ceiling|"
    r"most)|is all|will do|should (?:do|be enough))\b", _I,
)  # fmt: skip
_FOR_IT: Final = re.compile(
    r"\s*for (?:it|this|that|everything|the (?:whole|job|run|lot|thing))\b", _I
)
_ALONE_BEFORE: Final = re.compile(
    r"(?:^|[,;:.!?(–—-]|\b(?:and|but|please|then))(?:\s*(?:for|an?|the|that's|just|only|about|"
    r"around|"
    r"roughly|~|total|in total|and|but|please))*\s*$", _I,
)  # fmt: skip
_ALONE_AFTER: Final = re.compile(
    r"\s*(?:$|[,;:.!?()–—-]|(?:and|but|please|for|on|by|or so|thanks)\b)", _I
)
_RANGE_AFTER: Final = re.compile(rf"\s*(?:-|–|—|to|or|and)\s*(?:maybe\s+)?(?:\$\s?)?{DIGITS}"
                                 r"(?!\s*[x×]|[\s-]*(?:h\b|hrs?|hours?|min|days?|gpus?|cards?)|\w)",
                                 _I)  # fmt: skip
_RANGE_BEFORE: Final = re.compile(rf"{NUMBER}\s*(?:-|–|—|to|or)\s*\$?\s*$", _I)
_MORE_DIGITS: Final = re.compile(
    r"(?:[.,']?[0-9]|\s[0-9]+(?!\s*[x×]|[\s-]*(?:h\b|hrs?|hours?|min|days?|gpus?|[a-z]+[0-9])|"
    r"[0-9.]))",
    _I,
)
_COUNTS: Final = re.compile(
    r"[\s-]*(?:x\b|h\b|hrs?\b|hours?|min|days?|weeks?|gpus?|cards?|epochs?|gb\b)", _I
)
_OTHER_DOLLARS: Final = re.compile(
    r"\s?(?:cad|aud|nzd|sgd|hkd|twd|mxn|clp|cop|ars|eur|gbp|pesos?|(?:canadian|australian|"
    r"singapore|hong kong|new zealand|taiwan)\b)\b", _I,
)  # fmt: skip
_SHARE_BEFORE: Final = re.compile(
    r"(?:%|\b(?:per ?cent|half|third|quarter|fifth|tenth|part|rest|(?<!at )(?<!at the )most))"
    r"\s+(?:of\s+)?"
    r"(?:my|the|our|your|that|this|an?)?\s*$", _I,
)  # fmt: skip
_A_NUMBER_MORE: Final = re.compile(rf"\s+(?:and\s+)?{IN_WORDS}(?!\s*\w)", _I)

_ANOTHER: Final = re.compile(r"\b(?:and|plus)\s+(?:another\s+)?$", _I)
_LEAD: Final = (
    r"(?:(?:make it|take|use|about|up to|max(?:imum)?|at most|ok(?:ay)?|say|let's say|i'd say|just|"
    r"yes|well|my budget is|the budget is)[,:]?\s+)*"
)
_ANSWER: Final = re.compile(rf"{_LEAD}({NUMBER})\s*(?:max|tops|at most|please|in total)?[.!]*", _I)
_LONE: Final = re.compile(rf"{_LEAD}(?=\$|us\$|{NUMBER}|an?\s)", _I)
_BARE: Final = re.compile(
    r"(?<!time )(?<!token )(?<!step )(?<!epoch )(?<!memory )(?<!compute )"
    r"\b(budget|spend(?:ing)?|pay(?:ing)?|cost)"
    r"((?:\s*(?:of|is|at|to|be|an?|the|my|just|only|about|around|roughly|max(?:imum)?|most|up|"
    r"under|"
    r"below|no|not|more|less|over|than|should|would|will|must|exceed|limit|cap|total|can|cannot|"
    r"[a-z]+n't|[=:~(]))*)"
    rf"\s*(?<![\w.,$-])({NUMBER})"
    r"(?=\s*(?:$|[;!?)]|[.,](?![0-9]))|\s+(?:on|for|please|in total|total|max|tops|all in|at most|"
    r"or less|but|and(?!\s+a\s+half))\b)", _I,
)  # fmt: skip


def read_budget(text: str) -> Budget:
    """The most that may be spent, when the text says it, and says one amount."""
    return budget_of(amounts(text))


def budget_of(found: Sequence[Amount]) -> Budget:
    """What these amounts of one text come to."""
    limits = {a.usd for a in found if a.role is Role.LIMIT}
    doubts = [a for a in found if a.role is Role.UNCLEAR]
    [only, *more] = limits or {None}
    if only and not more and not doubts:
        return Budget(only)
    heard = [a.written for a in found if a.role in (Role.LIMIT, Role.UNCLEAR)]
    return Budget(None, tuple(dict.fromkeys(heard)))


def read_answer(text: str) -> Budget:
    """The same for the answer to "How much may I spend?", where a bare number is an amount."""
    said = plain(text)
    if bare := _ANSWER.fullmatch(said):
        amount = _usd(number(bare[1]))
        return Budget(amount) if amount else Budget(None, (said[:40],))
    found = amounts(said)
    lone = _LONE.match(said, 0) and len(found) == 1 and found[0].usd
    if (
        lone
        and found[0].role in (Role.LIMIT, Role.UNCLEAR)
        and found[0].end == len(said.rstrip(" .!"))
    ):
        return Budget(found[0].usd)
    return budget_of(found)


def amounts(text: str) -> list[Amount]:
    """All amounts of money in the text, in order."""
    text = plain(text)
    found: list[Amount] = []
    behind = 0
    for start, end, usd in sorted(_written(text), key=lambda w: (w[0], -w[1])):
        if start < behind:
            continue
        written = text[start:end]
        role = _role(text, start, end, behind) if usd else Role.UNCLEAR
        again = role is Role.LIMIT and found and found[-1].role is Role.LIMIT
        if again and _ANOTHER.search(text[behind:start]):
            role = Role.UNCLEAR  # "$5 for this and $5 for that": which?
        rate = _PER.match(text, end)
        behind = rate.end() if rate else end
        found.append(Amount(start, behind, written, usd, role))
    return found + _bare(text, found)


def _written(text: str) -> Iterator[tuple[int, int, Usd | None]]:
    for found in _BEFORE.finditer(text):
        if found[0][:4].lower() in ("usdc", "usd ", "usd:") and _COUNTS.match(text, found.end()):
            continue  # "in USDC 5 hours": the number belongs to what follows
        yield _valued(text, found, _scaled(found[1], found[2]))
    for found in _AFTER.finditer(text):
        value = _scaled(found[1], found[2])
        cents = found[3].lower().startswith(("cent", "¢"))
        yield _valued(text, found, value / 100 if value is not None and cents else value)
    for found in _ONE.finditer(text):
        yield _valued(text, found, Decimal("0.5") if found[1] else Decimal(1))
    for pattern in (_FOREIGN, _VAGUE):
        for found in pattern.finditer(text):
            yield found.start(), found.end(), None


def _valued(text: str, found: re.Match[str], value: Decimal | None) -> tuple[int, int, Usd | None]:
    end = found.end()
    if value is not None and (cents := _CENTS.match(text, end)):
        more = number(cents[1])
        value = value + more / 100 if more is not None and more < 100 else None
        end = cents.end()
    elif _A_NUMBER_MORE.match(text, end):  # "a dollar fifty"
        value = None
    if _MORE_DIGITS.match(text, end) or _OTHER_DOLLARS.match(text, end):
        value = None
    if text[: found.start()].endswith("-") and not text[: found.start() - 1].strip(" ,"):
        value = None
    return found.start(), end, _usd(value)


def _scaled(written: str, scale: str) -> Decimal | None:
    value, scale = number(written), scale.strip().lower()
    if value is None:
        return None
    return value * (1_000_000 if scale == "million" else 1_000 if scale else 1)


def _usd(value: Decimal | None) -> Usd | None:
    """None for what is no amount above 0 of whole micro-dollars."""
    if value is None:
        return None
    micros = value.scaleb(DECIMALS)
    whole = micros == micros.to_integral_value() and 0 < micros <= LARGEST
    return Usd(int(micros)) if whole else None


def _role(text: str, start: int, end: int, behind: int) -> Role:
    near = max(behind, start - _FAR)
    before, after = re.split(r"[.;!?]\s", text[near:start])[-1], text[end : end + _FAR]
    if _PER.match(after):
        return Role.RATE
    if _PER_ANYTHING.match(after) or _SHARE_BEFORE.search(before):
        return Role.UNCLEAR
    if _RATE_BEFORE.search(before):
        return Role.RATE
    limit = bool(_LIMIT_BEFORE.search(before)) and not _NEGATED.search(before)
    limit = limit or bool(_LIMIT_AFTER.match(after))
    if _PAST_BEFORE.search(before) or _PAST_AFTER.match(after):
        return Role.UNCLEAR if limit else Role.PAST
    limit = limit or (bool(_FOR_IT.match(after)) and not _NEGATED.search(before))
    if _RANGE_AFTER.match(after) or _RANGE_BEFORE.search(text[max(0, start - _FAR) : start]):
        return Role.UNCLEAR
    if re.search(r"\bbetween\b", before, _I):
        return Role.UNCLEAR
    alone = _ALONE_BEFORE.search(before or ",") and _ALONE_AFTER.match(after)
    if limit or (alone and not _NEGATED.search(before)):
        return Role.LIMIT
    return Role.UNCLEAR


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
        usd = _usd(number(match[3]))
        role = Role.PAST if past else Role.LIMIT if usd and not more else Role.UNCLEAR
        found.append(Amount(match.start(3), match.end(3), match[3], usd, role))
    return found
