"""Which GPU, and how many: by name, or by the memory that it must have."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from domain.errors import InvalidInput
from domain.goals.text import NUMBER, number
from domain.jobs import ANY_GPU

DEFAULT_GPU: Final = "A100"
MOST_GPUS: Final = 999

_STRENGTH: Final = {
    "RTX3080": (10, 119),
    "P100": (16, 21),
    "T4": (16, 65),
    "A4000": (16, 77),
    "RTX4080": (16, 195),
    "A10G": (24, 70),
    "A5000": (24, 111),
    "L4": (24, 121),
    "A10": (24, 125),
    "RTX3090": (24, 142),
    "RTX4090": (24, 330),
    "V100": (32, 125),
    "RTX5090": (32, 419),
    "A40": (48, 150),
    "A6000": (48, 155),
    "L40": (48, 181),
    "L40S": (48, 362),
    "RTX6000": (48, 364),
    "A100": (80, 312),
    "A800": (80, 312),
    "H100": (80, 989),
    "H800": (80, 989),
    "H20": (96, 148),
    "GH200": (96, 989),
    "MI250X": (128, 383),
    "H200": (141, 989),
    "MI300X": (192, 1307),
    "B200": (192, 2250),
    "GB200": (192, 2500),
    "MI325X": (256, 1307),
    "B300": (288, 2250),
    "GB300": (288, 2500),
}
"""Memory in GB and dense FP16 tensor throughput in TFLOPS, as the makers state them; of a type that
comes with more than one size of memory, the largest.
"""
GPU_TYPES: Final = tuple(_STRENGTH)
BY_MEMORY: Final = (
    (16, "T4"),
    (24, "RTX4090"),
    (32, "V100"),
    (40, "A100"),
    (48, "A6000"),
    (80, "A100"),
    (96, "GH200"),
    (141, "H200"),
    (192, "B200"),
)
"""Gigabytes → the type that is named first for a GPU with at least so many."""

_I: Final = re.IGNORECASE
_MEMORY: Final = r"[0-9]{1,4}\s?-?(?:gb|gib|gigs?|gigabytes?)"
_NAMES: Final = "|".join(
    rf"RTX[ -]?{name[3:]}"
    if name.startswith("RTX")
    else re.sub(r"^(MI|GB|[A-Z])(?=[0-9]{3})", r"\1-?", re.sub(r"A(?=[0-9]{4})", "A[ -]?", name))
    for name in sorted(GPU_TYPES, key=len, reverse=True)
)
_GPU: Final = re.compile(
    rf"(?:(?<![a-z0-9$.])|(?<=[0-9][x×]))(?:{_NAMES}|(?:5090|4090|4080|3090|3080))(s?)(?![a-wyz0-9]|x(?![0-9]))(?!\.[0-9])",
    _I,
)
_UNKNOWN: Final = re.compile(
    r"(?<![\w.$-])"
    r"(?:(?:rtx|gtx|rx)[ -]?[0-9]{3,4}(?:[ -]?ti)?|(?:[abhlv]|mi|gh|gb)-?[0-9]{3,4}[a-rt-z]?)"
    r"(s?)\b(?!\s*(?:data|images?|samples?|tokens?|steps?|epochs?|examples?|files?|doc))",
    _I,
)
"""Written like a GPU's name."""
_WANTED: Final = re.compile(
    rf"\b(?:on|rent(?:ing)?|using|need|want)\s+(?:an?\s+|the\s+|one\s+|(?:{NUMBER})\s*[x×]?\s*)?"
    r"(?:nvidia\s+|amd\s+)?$",
    _I,
)
_UNWANTED: Final = re.compile(
    r"\b(?:not|no|never|without|avoid|except|anything but|other than|instead of|rather than|"
    r"(?:don't|do not)\s+\w+)\s+(?:on\s+)?(?:an?\s+|the\s+|any\s+)?(?:nvidia\s+)?$",
    _I,
)
_FAR: Final = 80
"""Characters: words further away refuse no GPU."""
_HOW_MANY: Final = (
    rf"(?P<n>{NUMBER})(?![0-9.])|(?P<two>a\s+pair\s+of|a\s+couple\s+of|dual)|(?P<four>quad)|"
    r"(?P<one>an?|single|one)"
)
_COUNT_BEFORE: Final = re.compile(
    rf"(?<![\w.,$-])(?:{_HOW_MANY})\s*[x×*]?\s*(?:of\s+)?(?:{_MEMORY}\s+)?"
    r"(?:nvidia\s+|amd\s+|tesla\s+|geforce\s+|dedicated\s+)*$",
    _I,
)
_COUNT_AFTER: Final = re.compile(r"\s?[x×*]\s?([0-9]{1,3})(?![\w.])", _I)
_LESS_THAN_NONE: Final = re.compile(
    r"(?:^|[\s(,;:])(?P<n>-[0-9]{1,4})\s*[x×*]?\s*(?:nvidia\s+|amd\s+)?$", _I
)
_HOURS: Final = r"[\s-]*h(?:(?:ou)?rs?)?\b"
_HOURS_AFTER: Final = re.compile(_HOURS, _I)
_COUNTED: Final = re.compile(
    rf"(?<![\w.,$-])(?:{_HOW_MANY})\s*[x×-]?\s*(?:{_MEMORY}\s+)?"
    r"(?:(?:nvidia|amd|consumer|gaming|cloud|big|small|identical|same|fast|good|cheap|modern)\s+)*"
    rf"(?:gpu|card|accelerator)(s?)\b(?!{_HOURS})",
    _I,
)
_OF_MEMORY: Final = re.compile(
    rf"({_MEMORY})\s*(?:of\s+)?(?:\w+\s+)?(?:gpus?|cards?|v-?ram|accelerators?)\b|"
    rf"\b(?:gpus?|cards?|accelerators?|v-?ram)\b(?:\s+(?:with|of|has|having|at|least|a|minimum|min))*"
    rf"\s+({_MEMORY})(?!\s*(?:of\s+)?(?:ram|disk|storage|data))",
    _I,
)


_OR_BETTER: Final = re.compile(
    r"\s*(?:,\s*)?(?:or|and)\s+(?:anything\s+|something\s+)?"
    r"(?:better|above|faster|up(?:wards)?|higher|more powerful|stronger|bigger|newer)\b|"
    r"\+(?!\w)",
    _I,
)
_AT_LEAST: Final = re.compile(
    r"\b(?:at least|no(?:thing)? (?:less|worse|slower) than|minimum)\s+(?:an?\s+|the\s+|one\s+)?"
    r"(?:nvidia\s+|amd\s+)?$",
    _I,
)
_OR_ANOTHER: Final = re.compile(
    r"\s*(?:,\s*(?:or\s+)?|/\s*|\bor\s+)(?:maybe\s+|even\s+)?"
    r"(?:an?\s+|the\s+|one\s+|(?P<n>[0-9]{1,3})\s?[x×]?\s?)?"
    r"(?:nvidia\s+|amd\s+|tesla\s+|geforce\s+)?",
    _I,
)
_ANY: Final = re.compile(
    r"\b(?:any(?:\s+(?:kind|type|sort)\s+of)?|whatever|whichever|"
    r"(?:the\s+)?(?:cheapest|least expensive|lowest[\s-]priced?))"
    r"\s+(?:(?:available|possible|type\s+of|kind\s+of)\s+)?(?:gpu|card|accelerator)s?\b"
    r"(?![\s-]+(?:vendor|provider|cloud|host|service|offer|price|hour)s?\b)"
    r"(?:\s+(?:(?:that\s+)?(?:you|there)\s+(?:have|has|can\s+(?:find|get)|is|find|know)|"
    r"available|on offer|will do))?",
    _I,
)


@dataclass(frozen=True, slots=True)
class Gpus:
    """type and count as said; `by_memory` when the type was taken for its memory."""

    type: str | None
    count: int | None
    by_memory: int | None = None
    refused: frozenset[str] = frozenset()
    """Types that the text excludes, where it names no other."""
    types: tuple[str, ...] = ()
    """All types, in the order named, where the text accepts more than one."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where the text says it."""


def read_gpus(text: str) -> Gpus:
    refused, unwanted = set(), []
    named = list(_GPU.finditer(text))
    for found in named:
        near = max(0, found.start() - _FAR)
        if lead := _UNWANTED.search(text[near : found.start()]):
            unwanted.append((near + lead.start(), found.end()))
    for place, found in enumerate(named):
        if not _UNWANTED.search(text[: found.start()]):
            gpus = _named(text, found, named[place + 1 :])
            return replace(gpus, spans=(*gpus.spans, *unwanted))
        refused.add(canonical(found[0]))
    for found in _UNKNOWN.finditer(text):
        if not refused and _WANTED.search(text[: found.start()]):
            kind = canonical(found[0].removesuffix(found[1]))
            return Gpus(kind, _count(text, found), spans=(_span(text, found),))
    memory = _OF_MEMORY.search(text)
    if memory:
        size = int(re.match("[0-9]+", memory[1] or memory[2])[0])  # type: ignore[index]
        kinds = with_memory(size, without=refused)
        if not kinds:
            return Gpus(None, _loose_count(text) or 1)
        return Gpus(
            kinds[0], _loose_count(text) or 1, size, types=kinds, spans=(_span(text, memory),)
        )
    if not refused and (found_any := _ANY.search(text)):
        return Gpus(ANY_GPU, _loose_count(text), spans=(found_any.span(),))
    spans = [*(found.span() for found in _COUNTED.finditer(text)), *unwanted]
    return Gpus(None, _loose_count(text), refused=frozenset(refused), spans=tuple(spans))


def _named(text: str, found: re.Match[str], later: Sequence[re.Match[str]]) -> Gpus:
    """The types named from the first GPU on: others that would do as well, "or better"."""
    types, end, count = [canonical(found[0])], found.end(), _count(text, found)
    listed, behind = [], end
    for other in later:
        joint = _OR_ANOTHER.fullmatch(text, behind, other.start())
        if not joint or (joint["n"] and int(joint["n"]) != count):
            break
        listed.append(canonical(other[0]))
        behind = other.end()
        if re.search(r"or|/", joint[0], _I):  # a comma joins only what an "or" ends
            types, end, listed = [*types, *listed], behind, []
    spans = [_span(text, found), *((m.start(), m.end()) for m in later if m.end() <= end)]
    better = _OR_BETTER.match(text, end)
    if better or _AT_LEAST.search(text[: found.start()]):
        types += at_least(types[-1])
        spans.append((end, better.end()) if better else (end, end))
    several = tuple(dict.fromkeys(types))
    spans += [m.span() for m in _COUNTED.finditer(text)]
    many = several if len(several) > 1 else ()
    return Gpus(types[0], count, types=many, spans=tuple(spans))


def with_memory(gigabytes: int, without: Collection[str] = ()) -> tuple[str, ...]:
    """The types that have so much memory at least, the usual one first and then the smallest."""
    first = next((gpu for room, gpu in BY_MEMORY if room >= gigabytes), None)
    able = [gpu for gpu, (room, _) in _STRENGTH.items() if room >= gigabytes]
    if first:
        able.insert(0, first)
    return tuple(gpu for gpu in dict.fromkeys(able) if gpu not in without)


def at_least(gpu: str) -> tuple[str, ...]:
    """The types that have neither less memory nor less throughput than one, itself among them."""
    least = _STRENGTH.get(gpu)
    if least is None:
        return (gpu,)
    return tuple(
        kind for kind, (room, speed) in _STRENGTH.items() if room >= least[0] and speed >= least[1]
    )


def _span(text: str, gpu: re.Match[str]) -> tuple[int, int]:
    """Where a GPU and its count stand."""
    before = _COUNT_BEFORE.search(text[: gpu.start()])
    after = _COUNT_AFTER.match(text, gpu.end())
    return before.start() if before else gpu.start(), after.end() if after else gpu.end()


def canonical(written: str) -> str:
    """The name in GPU_TYPES for one that is written like it; else what is written, bare."""
    bare = re.sub(r"[\s-]", "", written).upper()
    for name in (bare, f"RTX{bare}", bare.removesuffix("S"), f"RTX{bare.removesuffix('S')}"):
        if name in GPU_TYPES:
            return name
    return bare


def _count(text: str, gpu: re.Match[str]) -> int | None:
    if _HOURS_AFTER.match(text, gpu.end()):  # "20 A100-hours" are no 20 GPUs
        return _loose_count(text)
    if after := _COUNT_AFTER.match(text, gpu.end()):
        return _bounded(int(after[1]))
    if less := _LESS_THAN_NONE.search(text[: gpu.start()]):
        return _bounded(int(less["n"]))
    if before := _COUNT_BEFORE.search(text[: gpu.start()]):
        many = _many(before)
        if many is not None and not (before["one"] and gpu[1] and _plural(gpu[0])):
            return many
    return _loose_count(text) or (None if _plural(gpu[0]) else 1)


def _plural(written: str) -> bool:
    bare = re.sub(r"[\s-]", "", written).upper()
    return bare.endswith("S") and bare not in GPU_TYPES


def _loose_count(text: str) -> int | None:
    """The count in "8 GPUs" or "one card", wherever that stands."""
    for found in _COUNTED.finditer(text):
        if (many := _many(found)) is not None and (many > 1 or not found[found.re.groups]):
            return many
    return None


def _many(found: re.Match[str]) -> int | None:
    if found["n"]:
        value = number(found["n"])
        whole = value is not None and value == int(value)
        return _bounded(int(value)) if value is not None and whole else None
    return 2 if found["two"] else 4 if found["four"] else 1


def _bounded(count: int) -> int | None:
    if count < 1:
        raise InvalidInput("goal", f"{count} GPUs can run nothing", "Name one or more")
    return count if count <= MOST_GPUS else None
