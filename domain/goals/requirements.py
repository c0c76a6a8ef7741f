"""What kind of job, what matters most, and whom to rent from or leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from domain.goals.gpus import GPU_TYPES, canonical
from domain.goals.text import any_word
from domain.jobs import Preference

JobType = Literal["fine-tune", "training", "inference", "evaluation", "rendering"]

_I: Final = re.IGNORECASE
_JOBS: Final[tuple[tuple[JobType, str], ...]] = (
    (
        "fine-tune",
        r"(?<!my )(?<!our )(?<!a )fine[\s-]?tun(?:e|ing)\b|fine[\s-]?tun(?:e|ing)|"
        r"q?lora\b|sft\b",
    ),
    (
        "inference",
        r"inferenc|\bserv(?:e|ing)\b|\bgenerat(?:e|ing)\b|\btranscri|"
        r"\bembed(?:s|ding)?\b|\bhost(?:ing)?\b",
    ),
    ("evaluation", r"\bevaluat|\beval\b|\bbenchmark"),
    ("rendering", r"\brender"),
    ("training", r"\btrain(?:s|ed|ing)?\b|\bpre-?train"),
)
_PREFERENCES: Final = (
    (
        Preference.CHEAPEST,
        r"\bcheap(?:est|er|ly)?\b|lowest (?:price|cost)|low[\s-]cost|"
        r"save money|\binexpensive|\beconomical|least expensive|best price|"
        r"as little as possible",
    ),
    (
        Preference.RELIABLE,
        r"\breliab(?:le|ly|ility)\b|\bsafest\b|most stable|\bdependable|"
        r"trustworth|(?:must not|can't|cannot|may not) fail|rock[\s-]solid",
    ),
    (
        Preference.FASTEST,
        r"\bfastest\b|as fast as|\basap\b|as (?:soon|quickly) as possible|"
        r"\bquickest\b|\burgent|\bhurry\b|sooner the better|soonest",
    ),
)
_DENIED: Final = re.compile(
    r"(?:\b(?:not|no|never|without|don't care about|doesn't (?:have to|need to) be|than))\s+"
    r"(?:the\s+|a\s+|be\s+|any\s+|necessarily\s+)?$",
    _I,
)

_STRONG: Final = (
    r"avoid(?:ing)?|exclud(?:e|ing)|except(?:\s+for)?|skip(?:ping)?|stay(?:ing)? away from|"
    r"anything but|any(?:one|body) but|other than|don't (?:use|want|rent from|go with|pick|choose)|"
    r"do not (?:use|rent from|go with)|never (?:use|from)|nothing from|leave out|but not|"
    r"not (?:from|with|at|on)|(?:any\w*|every\w*|each|all|vendors?|providers?) but"
)
_NO: Final = re.compile(rf"\b(?P<strong>{_STRONG})\s+|\b(?:no|not|without|never)\s+", _I)
_ONLY: Final = re.compile(
    r"\b(?:(?P<sure>(?:only|just|solely|exclusively)\s+(?:from|at)|(?:from|at)\s+only|"
    r"rent(?:ing)?\s+(?:(?:it|this|that|one|an?\s+[\w-]+|[0-9]+\s+[\w-]+)\s+)?(?:only\s+)?from|"
    r"stick(?:ing)?\s+(?:to|with)|go(?:ing)?\s+with)|"
    r"(?:only\s+)?(?:use|using|with|on|from|at|via|through|choose|pick|take)(?:\s+only)?)\s+",
    _I,
)
_UNLESS: Final = re.compile(
    rf"(?:\b(?:{_STRONG}|not|no|never|nor|without|than|instead of|rather than|unlike)|n't)\s*"
    r"(?:to\s+|want\s+to\s+|rent(?:ing)?\s+|be\s+)?$",
    _I,
)
_FAR: Final = 80
"""Characters: words further away deny nothing."""
_IF_POSSIBLE: Final = re.compile(
    r"\s*,?\s*(?:first|if possible|ideally|preferably|if you can|or (?:another|any|some)\b)|'s\b",
    _I,
)
_PLAIN: Final = re.compile(
    r"gpu_vendor_\w+|(?!(?:multi|single|dual|any|non|[a-z])[_-]?gpu$)[\w.-]+gpu", _I
)
_OR: Final = re.compile(r"\s*(?:,\s*(?:and\s+|or\s+)?|\b(?:and|or)\b)\s*(?!not\b|no\b|never\b)", _I)
_KNOWN_ID: Final = r"gpu_vendor_\w+"
_NUMBERED: Final = r"vendors?\s+#?(?P<number>[0-9]{1,4})\b"
_NAMED: Final = (
    r"""vendors?\s+(?:named\s+|called\s+)?["']?(?P<named>[A-Za-z][\w.-]*\w|[A-Z])["']?"""
)
_PROPER: Final = r"(?P<proper>[A-Za-z][\w.-]*\w)"
_QUOTED: Final = r"""(?:vendor\s+)?(?P<quote>["'])(?P<named>[^"']{1,60})(?P=quote)"""
_BEGINS_MORE: Final = re.compile(
    r"on|for|in|by|with|under|at|and|or|if|use|train|fine-?tune|run", _I
)
"""What begins something else, however it is capitalised."""
_MORE_OF_A_NAME: Final = re.compile(
    r"\s+(?:(?i:vendor|provider|cloud|compute|labs?|gpus?)\b|(?!I\b)[A-Z][\w.-]*\w)"
)
"""A further word of a vendor's name, as in "only from TS vendor"."""
_COUNTED: Final = r"[\s-]*(?:[x×]|h\b|hrs?\b|hours?|min|days?|gpus?|cards?|[a-z]+[0-9])|[.,][0-9]"
_MORE: Final = re.compile(r"\s*(?:,\s*(?:and\s+|or\s+)?|\b(?:and|or|nor)\b)\s*(?:not\s+)?", _I)
_NO_NAME: Final = re.compile(
    any_word(
        "lock lock-in lockin in with that who which can is has above over preference preferences "
        "at on from for"
    ),
    _I,
)


def read_job_type(text: str) -> JobType | None:
    """The kind of job that is named first."""
    found = [
        (match.start(), order, kind)
        for order, (kind, words) in enumerate(_JOBS)
        if (match := re.search(words, text, _I))
    ]
    return min(found)[2] if found else None


def read_preference(text: str) -> Preference | None:
    """What matters most: the wish that is named first, unless it is denied."""
    found = [
        (match.start(), preference)
        for preference, words in _PREFERENCES
        for match in re.finditer(words, text, _I)
        if not _DENIED.search(text[: match.start()])
    ]
    return min(found)[1] if found else None


@dataclass(frozen=True, slots=True)
class NamedVendors:
    """Vendors as written, and where; "vendor 1" is gpu_vendor_1."""

    names: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()


def read_excluded(text: str) -> NamedVendors:
    """Vendors to leave out."""
    out: list[str] = []
    spans = []
    for refusal in _NO.finditer(text):
        strong = refusal["strong"] is not None
        listed = list(_listed(text, refusal.end(), _MORE, only_known=not strong, whole=strong))
        out += [name for name, _ in listed]
        spans += [(refusal.start(), listed[-1][1])] if listed else []
    return NamedVendors(tuple(dict.fromkeys(out)), tuple(spans))


def read_only(text: str) -> NamedVendors:
    """The vendors that the goal restricts the rental to.

    A name after "on" or "with" may be data or a library. There it counts as a vendor only if it is
    an id, or ends in GPU.
    """
    for wish in _ONLY.finditer(text):
        if _UNLESS.search(text[max(0, wish.start() - _FAR) : wish.start()]):
            continue
        found: list[str] = []
        unsure = wish["sure"] is None
        behind = wish.end()
        for name, end in _listed(text, wish.end(), _OR, only_known=unsure, whole=not unsure):
            if _IF_POSSIBLE.match(text, end) or (unsure and not _PLAIN.fullmatch(name)):
                break
            found.append(name)
            behind = end
        if found:
            return NamedVendors(tuple(dict.fromkeys(found)), ((wish.start(), behind),))
    return NamedVendors()


def _listed(
    text: str, place: int, more: re.Pattern[str], *, only_known: bool, whole: bool
) -> Iterator[tuple[str, int]]:
    """The vendors that are named from `place` on, each with where it ends; `more` joins them.

    whole: names may be of several words.
    """
    numbered = False
    while name := _vendor(text, place, only_known=only_known, numbered=numbered, whole=whole):
        yield name[0], name[1]
        joined = more.match(text, name[1])
        if not joined:
            return
        place, numbered = joined.end(), name[2]


def _vendor(
    text: str, place: int, *, only_known: bool, numbered: bool, whole: bool
) -> tuple[str, int, bool] | None:
    """(vendor, where it ends, whether a bare number may follow), if one is named at `place`."""
    the = re.compile(r"(?:the\s+|vendor\s+(?=gpu_vendor_))?", _I).match(text, place)
    place = the.end() if the else place
    if found := re.compile(_KNOWN_ID, _I).match(text, place):
        return found[0].lower(), found.end(), False
    if found := re.compile(_NUMBERED, _I).match(text, place):
        return f"gpu_vendor_{found['number']}", found.end(), True
    if numbered and (
        found := re.compile(rf"#?([0-9]{{1,4}})\b(?!{_COUNTED})", _I).match(text, place)
    ):
        return f"gpu_vendor_{found[1]}", found.end(), True
    if whole and (found := re.compile(_QUOTED, _I).match(text, place)):
        return found["named"].strip(), found.end(), False
    if found := re.compile(_NAMED, _I).match(text, place):
        name = found["named"]
        if _NO_NAME.fullmatch(name) or (only_known and name.islower() and "_" not in name):
            return None
        return name, found.end(), False
    if found := re.compile(_PROPER).match(text, place):
        name = found["proper"]
        gpu = canonical(name) in GPU_TYPES or name.lower() in ("gpu", "gpus")
        looks_named = name != name.lower() or "_" in name or name.lower().endswith("gpu")
        known = re.search(r"(?:gpu|cloud|compute)$", name, _I) or "_" in name
        if not gpu and looks_named and (known or not only_known):
            end = _end_of_name(text, found.end()) if whole else found.end()
            return text[found.start() : end], end, False
    return None


def _end_of_name(text: str, end: int) -> int:
    """The end of a name of several words, one of which ends at `end`."""
    while further := _MORE_OF_A_NAME.match(text, end):
        word = further[0].strip()
        if canonical(word) in GPU_TYPES or _BEGINS_MORE.fullmatch(word):
            break
        end = further.end()
    return end


def requirement_spans(
    text: str, kind: JobType | None, wish: Preference | None
) -> Iterator[tuple[int, int]]:
    """Where the text says the kind of job and what matters most, as they were read."""
    for name, words in _JOBS:
        if name == kind:
            yield from (match.span() for match in re.finditer(rf"(?:{words})\w*", text, _I))
    for preference, words in _PREFERENCES:
        if preference is wish:
            yield from (match.span() for match in re.finditer(words, text, _I))
