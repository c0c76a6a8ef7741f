"""A goal in plain words, read without a model."""

from __future__ import annotations

import re
from typing import Final

from domain.errors import InvalidInput
from domain.jobs import MINUTES_PER_HOUR, JobSpec, Preference

LONGEST_GOAL: Final = 4_000
"""Characters."""
LONGEST_JOB_HOURS: Final = 24 * 30
DEFAULT_MINUTES: Final = 60
DEFAULT_GPU: Final = "A100"

GPU_TYPES: Final = (
    "RTX4090", "RTX3090", "GB200", "B200", "H200", "H100", "GH200", "A100", "A6000", "A40", "A10G",
    "A10", "L40S", "L40", "L4", "V100", "T4", "MI300X",
)  # fmt: skip

_GPU = re.compile(
    r"(?<![a-z0-9])(?:" + "|".join(re.sub(r"(?<=[XA])(?=\d{4})", r"[ -]?", g) for g in GPU_TYPES)
    + r")(?:s)?(?![a-z0-9])",
    re.I,
)  # fmt: skip
_COUNT = re.compile(r"(\d{1,3})\s*[x×]?\s*$", re.I)
_DURATION = re.compile(
    r"((?<!\d)\d+(?:\.\d+)?|half an?|an?|one|two|three|four|five|six|eight|ten|twelve)[\s-]*"
    r"(minutes?|mins?|hours?|hrs?|h|days?)\b",
    re.I,
)
_WORDS: Final = {
    "half a": 0.5, "half an": 0.5, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4,
    "five": 5, "six": 6, "eight": 8, "ten": 10, "twelve": 12,
}  # fmt: skip
_JOB_TYPES: Final = (
    ("fine-tune", r"fine[\s-]?tun|lora\b|finetune"),
    ("inference", r"inferenc|\bserve\b|serving|generate"),
    ("evaluation", r"\bevaluat|benchmark"),
    ("rendering", r"\brender"),
    ("training", r"\btrain|pre-?train"),
)
_PREFERENCES: Final = (
    (Preference.CHEAPEST, r"cheap|lowest (?:price|cost)|save money"),
    (Preference.RELIABLE, r"reliab|safest|most stable|must not fail"),
    (Preference.FASTEST, r"fastest|asap|as soon as possible|quickest"),
)


def check_goal(goal: object) -> str:
    """The goal, stripped of space and control characters. Raises InvalidInput."""
    if not isinstance(goal, str):
        raise InvalidInput("goal", "it is not text", 'Say what to do, like "Fine-tune on an A100"')
    if len(goal) > LONGEST_GOAL:
        raise InvalidInput("goal", f"it is longer than {LONGEST_GOAL:,} characters", "Shorten it")
    clean = "".join(c if c.isprintable() else " " for c in goal).strip()
    if not clean:
        raise InvalidInput("goal", "it is empty", 'Say what to do, like "Fine-tune on an A100"')
    return clean


def read_goal(goal: str) -> JobSpec:
    """What `goal` asks for. What it does not say is guessed and named in `guessed`."""
    guessed = []
    gpu = _GPU.search(goal)
    if not gpu:
        guessed.append("gpuType")
    count = _COUNT.search(goal[: gpu.start()]) if gpu else None
    minutes = _read_minutes(goal)
    if minutes is None:
        guessed.append("maxHours")
    job_type = next((name for name, words in _JOB_TYPES if re.search(words, goal, re.I)), None)
    if job_type is None:
        guessed.append("jobType")
    return JobSpec(
        job_type=job_type or "training",
        gpu_type=_canonical(gpu[0]) if gpu else DEFAULT_GPU,
        minutes=minutes or DEFAULT_MINUTES,
        gpu_count=max(1, int(count[1])) if count else 1,
        preference=next((p for p, words in _PREFERENCES if re.search(words, goal, re.I)), None),
        guessed=tuple(guessed),
    )


def _canonical(written: str) -> str:
    bare = re.sub(r"[\s-]", "", written).upper()
    return bare if bare in GPU_TYPES else bare.removesuffix("S")


def _read_minutes(goal: str) -> int | None:
    found = _DURATION.search(goal)
    if not found:
        return None
    amount = min(float(_WORDS.get(found[1].lower()) or found[1]), 1e9)  # 400 digits: infinity
    unit = found[2].lower()
    per_unit = 1 if unit.startswith("m") else MINUTES_PER_HOUR * (24 if unit[0] == "d" else 1)
    minutes = round(amount * per_unit)
    if not 1 <= minutes <= LONGEST_JOB_HOURS * MINUTES_PER_HOUR:
        raise InvalidInput(
            "goal", f"{found[0]!r} is not a usable duration", "Name 1 minute to 30 days"
        )
    return minutes
