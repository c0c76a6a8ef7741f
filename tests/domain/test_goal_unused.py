"""What a goal says and a run leaves out: all of it is named, and what is one's own is marked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.goals.left_out import LONGEST_NAMED, MOST_NAMED, LeftOut
from domain.utterance import Utterance
from server.dashboard.home import EXAMPLES
from server.demo.story import GOAL
from tests.domain.goal_sentences import NOW


def left_out(goal: str, now: datetime) -> LeftOut:
    return Utterance(goal, now).left_out


TRAIN_PY = (
    "Run my train.py from github.com/me/proj in docker image pytorch/pytorch on an A100 for 2 "
    "hours, under $5"
)
OWN = [
    ("Train on a TPU v5 under $5", ("TPU v5",)),
    ("Train on Trainium2 for 2 hours, under $5", ("Trainium2",)),
    (TRAIN_PY, ("train.py", "github.com/me/proj", "docker image pytorch/pytorch")),
    ("python train.py --epochs 3 on an A100, $5", ("python train.py --epochs 3",)),
    ("Run `make all` on an A100, $5", ("make all",)),
    ("Run my script on an A100, $5", ("my script",)),
    ("Train with https://x.y/z.git on an A100, $5", ("https://x.y/z.git",)),
    ("Train on the imdb dataset on an A100, $5", ("the imdb dataset",)),
    ("Fine-tune on s3://bucket/x.jsonl on an A100, $5", ("s3://bucket/x.jsonl",)),
    ("Fine-tune on my data on an A100, $5", ("my data",)),
    ("Serve meta-llama/Llama-3-8B on an A10, $5", ("meta-llama/Llama-3-8B",)),
    ("Run nvcr.io/nvidia/pytorch:24.01-py3 on an A100, $5", ("nvcr.io/nvidia/pytorch:24.01-py3",)),
    ("Train on an A100 in a container, $5", ("container",)),
    ("Train on an A100 tomorrow at 9am start, $5", ("tomorrow at 9am start",)),
    ("Train on an A100, start at 9am, $5", ("start at 9am",)),
    ("Train on an A100 on Friday, $5", ("on Friday",)),
    ("Train on an A100 every night for 2 hours, $5", ("every night",)),
    ("Train on an A100, don't start before 9am, $5", ("not before 9am",)),
    ("In 2 hours start training on an A100, $5", ("2 hours start",)),
]


@pytest.mark.parametrize(("goal", "words"), OWN)
def test_what_is_ones_own_to_run_is_marked(goal: str, words: tuple[str, ...]) -> None:
    found = left_out(goal, NOW)
    assert len(found.own) == len(words)
    for own, word in zip(found.own, words, strict=True):
        assert own == word or own.endswith(word.removeprefix("not ")), found
    assert set(found.own) <= set(found.words)


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("Train on an A100 in Europe, spot, $5", ("Europe", "spot")),
        ("Train with PyTorch 2.1 and CUDA 12 on an A100, $5", ("PyTorch 2.1", "CUDA 12")),
        ("Train on an A100 with NVLink in us-east-1, $5", ("NVLink", "us-east-1")),
        ("Train on 4 x A100 80GB with 64GB RAM, $5", ("80GB", "64GB RAM")),
        ("Train for 30 epochs on an A100, $5", ("30 epochs",)),
        ("Train on an A100 overnight, $5", ("overnight",)),
        ("Train on an A100, $2/hour, $5", ("$2/hour",)),
        ("Train on an A100, cheapest but reliable, $5", ("reliable",)),
        ("Train on an A100 by 5pm my time, spot, $5", ("spot",)),
    ],
)
def test_the_rest_is_named_and_nothing_waits_for_it(goal: str, words: tuple[str, ...]) -> None:
    found = left_out(goal, NOW)
    assert (found.words, found.own) == (words, ())


@pytest.mark.parametrize(
    "goal",
    [
        GOAL,
        *EXAMPLES,
        "Fine-tune a 7B model on an A100",
        "Fine-tune Llama 8B on an A100 for two hours, under $5",
        "Please train a small ResNet on 8xH100 for 3 hours, max $60, cheapest vendor",
        "Train on an A100 or an H100 by tonight, at most $1.50 an hour, $5 in total",
        "Train on an A100 by 5pm Berlin time, only from TS vendor, $5",
        "Start now: batch inference on any GPU, asap, $2",
        "I need a 24GB card to serve Mistral 7B for half an hour, two bucks at most",
        "$5 A100 2h",
        "Train on RTX3090/RTX4090, avoid Vast.ai, $5",
        "Good morning! Train on an A100 but not on an H100, $5",
        "hello there",
    ],
)
def test_nothing_is_left_out_of_what_is_understood(goal: str) -> None:
    assert left_out(goal, NOW).words == ()


def test_the_line_is_what_a_person_reads() -> None:
    found = left_out(f"{TRAIN_PY}, Europe, spot", NOW)
    assert found.line == (
        "Not used: train.py, github.com/me/proj, docker image pytorch/pytorch, Europe, spot."
    )


def test_what_is_named_is_bounded_and_ones_own_is_never_cut_off() -> None:
    goal = " and ".join(f"thing{n}x" for n in range(40)) + " " + "y" * 300 + " with train.py"
    found = left_out(goal, NOW)
    assert len(found.words) == MOST_NAMED + 1
    assert "train.py" in found.words
    assert found.words[-1] == "and 29 more"
    assert max(map(len, found.words)) <= LONGEST_NAMED


@given(st.text(max_size=400))
def test_any_text_is_told_in_one_bounded_printable_line(goal: str) -> None:
    found = left_out(goal, datetime(2026, 1, 1, tzinfo=UTC))
    assert len(found.words) <= MOST_NAMED + 1
    assert all(word.isprintable() and len(word) <= LONGEST_NAMED for word in found.words)


@pytest.mark.parametrize(
    "part", ["my data a/b ", "my my the ", "start at 9am ", "python -x ", "a/"]
)
def test_the_longest_goal_is_looked_through_in_no_time(part: str) -> None:
    assert left_out((part * 4_000)[:4_000], NOW).words is not None
