"""Goals in plain words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.goals import GPU_TYPES, LONGEST_GOAL, LONGEST_JOB_HOURS, check_goal, read
from domain.goals.gpus import with_memory
from domain.jobs import Preference


@pytest.mark.parametrize(
    ("goal", "job_type", "gpu_type", "count", "minutes"),
    [
        ("Fine-tune a 7B model on an A100 for 2 hours", "fine-tune", "A100", 1, 120),
        ("finetune with LoRA on 2x A100 for 90 minutes", "fine-tune", "A100", 2, 90),
        ("Serve a model on an rtx 4090 for a day", "inference", "RTX4090", 1, 1440),
        ("train on H100s for three hours", "training", "H100", 1, 180),
        ("benchmark 4 × l40s for 1.5 h", "evaluation", "L40S", 4, 90),
        ("Render my film on a T4 for a day", "rendering", "T4", 1, 1440),
    ],
)
def test_a_goal_says_what_to_run_and_on_what(
    goal: str, job_type: str, gpu_type: str, count: int, minutes: int
) -> None:
    spec = read(goal).spec()
    assert (spec.job_type, spec.gpu_type, spec.gpu_count, spec.minutes) == (
        job_type,
        gpu_type,
        count,
        minutes,
    )
    assert spec.guessed == ()


def test_what_a_goal_does_not_say_is_guessed_and_named() -> None:
    spec = read("Do something useful").spec()
    assert spec.guessed == ("gpuType", "maxHours", "jobType")
    assert (spec.gpu_type, spec.minutes) == ("A100", 60)


@pytest.mark.parametrize(
    ("goal", "preference"),
    [
        ("as cheap as possible", Preference.CHEAPEST),
        ("on a reliable vendor", Preference.RELIABLE),
        ("asap please", Preference.FASTEST),
        ("train it", None),
    ],
)
def test_a_preference_is_understood(goal: str, preference: Preference | None) -> None:
    assert read(goal).preference is preference


@pytest.mark.parametrize("goal", ["train for 0 hours", "train for 31 days", "run 0.1 minutes"])
def test_a_duration_that_cannot_be_rented_is_refused(goal: str) -> None:
    with pytest.raises(InvalidInput):
        read(goal)


@pytest.mark.parametrize("goal", ["", "  \n ", "x" * (LONGEST_GOAL + 1), None, 5])
def test_what_is_no_goal_is_refused(goal: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_goal(goal)
    assert refusal.value.field == "goal"


@given(st.text(max_size=300))
def test_any_text_is_read_as_a_job_within_bounds_or_refused(goal: str) -> None:
    try:
        spec = read(check_goal(goal)).spec()
    except InvalidInput:
        return
    assert spec.gpu_type in GPU_TYPES
    assert 1 <= spec.minutes <= LONGEST_JOB_HOURS * 60
    assert spec.gpu_count >= 1


def test_every_known_gpu_has_its_memory() -> None:
    assert set(with_memory(1)) == set(GPU_TYPES)


@pytest.mark.parametrize("gpu", GPU_TYPES)
def test_every_gpu_is_known_by_its_own_name(gpu: str) -> None:
    assert read(f"train on a {gpu}").gpu_type == gpu
    assert read(f"train on {gpu.lower()}s").gpu_type in (gpu, f"{gpu}S")
