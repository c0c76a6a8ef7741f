"""Which GPU, and how many: by name, or by the memory that it must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from domain.errors import InvalidInput
from domain.goals.text import NUMBER, number

DEFAULT_GPU: Final = "A100"
MOST_GPUS: Final = 999

GPU_TYPES: Final = (
    "RTX5090", "RTX4090", "RTX4080", "RTX3090", "RTX3080", "RTX6000", "GB300", "GB200", "B300",
    "B200", "H200", "H100", "H800", "H20", "GH200", "A100", "A800", "A6000", "A5000", "A4000",
    "A40", "A10G", "A10", "L40S", "L40", "L4", "V100", "P100", "T4", "MI300X", "MI325X", "MI250X",
)  # fmt: skip

BY_MEMORY: Final = (
    (16, "T4"), (24, "RTX4090"), (32, "V100"), (40, "A100"), (48, "A6000"), (80, "A100"),
    (96, "GH200"), (141, "H200"), (192, "B200"),
)  # fmt: skip
"""Gigabytes → the type that is taken for a GPU with at least so many."""

_I: Final = re.IGNORECASE
_MEMORY: Final = r"[0-9]{1,4}\s?-?(?:gb|gib|gigs?|gigabytes?)"
_NAMES: Final = "|".join(
    rf"RTX[ -]?{name[3:]}" if name.startswith("RTX")
    else re.sub(r"^(MI|GB|[A-Z])(?=[0-9]{3})", r"\1-?", re.sub(r"A(?=[0-9]{4})", "A[ -]?", name))
    for name in sorted(GPU_TYPES, key=len, reverse=True)
)  # fmt: skip
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
    r"(?:nvidia\s+|amd\s+)?$", _I,
)  # fmt: skip
_UNWANTED: Final = re.compile(
    r"\b(?:not|no|never|without|avoid|except|anything but|other than|instead of|rather than|"
    r"(?:don't|do not)\s+\w+)\s+(?:on\s+)?(?:an?\s+|the\s+|any\s+)?(?:nvidia\s+)?$", _I,
)  # fmt: skip
_HOW_MANY: Final = (
    rf"(?P<n>{NUMBER})(?![0-9.])|(?P<two>a\s+pair\s+of|a\s+couple\s+of|dual)|(?P<four>quad)|"
    r"(?P<one>an?|single|one)"
)
_COUNT_BEFORE: Final = re.compile(
    rf"(?<![\w.,$-])(?:{_HOW_MANY})\s*[x×*]?\s*(?:of\s+)?(?:{_MEMORY}\s+)?"
    r"(?:nvidia\s+|amd\s+|tesla\s+|geforce\s+|dedicated\s+)*$", _I,
)  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class Gpus:
    """type and count as said; `by_memory` when the type was taken for its memory."""

    type: str | None
    count: int | None
    by_memory: int | None = None
    refused: frozenset[str] = frozenset()
    """Named only to be left out, where no other is named."""


def read_gpus(text: str) -> Gpus:
    refused = set()
    for found in _GPU.finditer(text):
        if not _UNWANTED.search(text[: found.start()]):
            return Gpus(canonical(found[0]), _count(text, found))
        refused.add(canonical(found[0]))
    for found in _UNKNOWN.finditer(text):
        if not refused and _WANTED.search(text[: found.start()]):
            return Gpus(canonical(found[0].removesuffix(found[1])), _count(text, found))
    memory = _OF_MEMORY.search(text)
    if memory:
        size = int(re.match("[0-9]+", memory[1] or memory[2])[0])  # type: ignore[index]
        kind = next((gpu for room, gpu in BY_MEMORY if room >= size), None)
        return Gpus(kind, _loose_count(text) or 1, size if kind else None)
    return Gpus(None, _loose_count(text), refused=frozenset(refused))


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
    """From "8 GPUs" or "one card", wherever it stands."""
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
