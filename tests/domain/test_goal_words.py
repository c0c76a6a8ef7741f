"""Deadlines, GPUs, lengths and vendors to leave out, each way of saying them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.errors import InvalidInput
from domain.goals import Reading, read
from domain.money import Usd

NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("by tonight", "11-18T23:59"),
        ("before 6 am", "11-19T06:00"),
        ("by 5pm tomorrow", "11-19T17:00"),
        ("by 17:00", "11-18T17:00"),
        ("by Friday noon", "11-20T12:00"),
        ("before Friday", "11-20T00:00"),
        ("by Wednesday", "11-18T23:59"),
        ("by next Wednesday", "11-25T23:59"),
        ("before Wednesday", "11-25T00:00"),
        ("by Dec 1st", "12-01T23:59"),
        ("by 1 December 5pm", "12-01T17:00"),
        ("by 2026-11-20 18:00", "11-20T18:00"),
        ("within 2 days", "11-20T10:00"),
        ("finish in 3 hours", "11-18T13:00"),
        ("start today and be done by tomorrow morning", "11-19T09:00"),
        ("until midnight", "11-19T00:00"),
        ("by the end of the week", "11-22T23:59"),
        ("no later than 11:30", "11-18T11:30"),
        ("due Monday 8am", "11-23T08:00"),
        ("by this evening", "11-18T20:00"),
        ("in the next 2 hours", "11-18T12:00"),
    ],
)
def test_a_deadline_is_read(words: str, at: str) -> None:
    deadline = read(f"Train on an A100 {words}", NOW).deadline
    assert deadline is not None
    assert deadline.isoformat() == f"2026-{at}:00+00:00"


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("by 17:00 CET", "2026-11-18T17:00:00+01:00"),
        ("by 5 pm PST", "2026-11-18T17:00:00-08:00"),
        ("by 5pm tomorrow EST", "2026-11-19T17:00:00-05:00"),
        ("by 5 p.m. on Friday CET", "2026-11-20T17:00:00+01:00"),
        ("by 9 am tomorrow (EST)", "2026-11-19T09:00:00-05:00"),
        ("by 5pm this Fri PST", "2026-11-20T17:00:00-08:00"),
        ("by 5pm Europe/Berlin", "2026-11-18T17:00:00+01:00"),
        ("by tomorrow 9am Berlin time", "2026-11-19T09:00:00+01:00"),
        ("by 5pm GMT+2", "2026-11-18T17:00:00+02:00"),
        ("by noon JST", "2026-11-19T12:00:00+09:00"),
        ("by 17:00 UTC+5:30", "2026-11-18T17:00:00+05:30"),
        ("by 5pm Pacific time", "2026-11-18T17:00:00-08:00"),
        ("by 5pm New York time", "2026-11-18T17:00:00-05:00"),
        ("by Friday noon Mumbai time", "2026-11-20T12:00:00+05:30"),
        ("by 5pm real time", "2026-11-18T17:00:00+00:00"),
        ("by 5pm on Friday est. 3 hours", "2026-11-20T17:00:00+00:00"),
        ("by 2026-11-20T18:00+02:00", "2026-11-20T18:00:00+02:00"),
    ],
)
def test_a_deadline_may_name_its_time_zone(words: str, at: str) -> None:
    deadline = read(words, NOW).deadline
    assert deadline is not None
    assert deadline.isoformat() == at


def test_an_abbreviation_of_several_zones_says_which_is_taken() -> None:
    deadline = read("by 5pm CST", NOW).deadline
    assert deadline is not None
    assert f"{deadline:%Z}" == "CST, taken as UTC-06:00"


@pytest.mark.parametrize(
    "words",
    [
        "tomorrow at 9am start",
        "tonight at 9pm start",
        "start at 9am",
        "start by 5pm",
        "don't start before 9am",
        "not before 9am tomorrow",
        "wait until 9am",
        "in 2 hours start training",
    ],
)
def test_a_time_to_start_at_is_no_deadline(words: str) -> None:
    assert read(f"Train on an A100 {words}", NOW).deadline is None


def test_a_date_may_name_its_year() -> None:
    for words in ("by Nov 17 2027", "by 17 November, 2027", "by Nov 17th, 2027 5pm"):
        deadline = read(words, NOW).deadline
        assert deadline is not None
        assert (deadline.year, deadline.month, deadline.day) == (2027, 11, 17), words
    assert read("by Dec 31 2027", NOW).deadline is None, "more than a year ahead"
    for words in ("by Dec 20, 2000 dollars max", "by Dec 20 2048 tokens", "by Dec 20, 2050 steps"):
        deadline = read(words, NOW).deadline
        assert deadline is not None
        assert deadline.year == 2026, words
    late = read("by Dec 20 20:30", NOW).deadline
    assert late is not None
    assert (late.year, late.hour) == (2026, 20)


@pytest.mark.parametrize(
    "words", ["for 3 hours", "every 2 hours", "by Nvidia", "today's best", "by 9", "start tomorrow"]
)
def test_what_is_no_deadline_is_none(words: str) -> None:
    assert read(words, NOW).deadline is None


def test_without_a_clock_no_deadline_is_read() -> None:
    assert read("Train on an A100 by tonight").deadline is None


def test_a_deadline_that_is_over_is_asked_about() -> None:
    reading = read("Train on an A100 for $5 by 2025-01-01", NOW)
    assert reading.deadline is None
    assert reading.missing == ("deadline",)
    assert reading.question == "2025-01-01 23:59 is over already. By when must it be done?"


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("no vendor X and no vendor Y", ("X", "Y")),
        ("not gpu_vendor_2", ("gpu_vendor_2",)),
        ("avoid vendors 1, 2 and 3", ("gpu_vendor_1", "gpu_vendor_2", "gpu_vendor_3")),
        ("anything but FastGPU or ReliableGPU", ("FastGPU", "ReliableGPU")),
        ("exclude Acme", ("Acme",)),
        ("skip vendor named acme", ("acme",)),
        ("never use vendor 7, 2 hours", ("gpu_vendor_7",)),
        ("no vendor lock-in", ()),
        ("avoid H100", ()),
        ("avoid delays", ()),
        ("but vendor 2 is fine", ()),
        ("no rush", ()),
        ("not on an A100", ()),
    ],
)
def test_vendors_are_left_out_by_name(words: str, out: tuple[str, ...]) -> None:
    assert read(words, NOW).excluded_vendors == out


@pytest.mark.parametrize(
    ("words", "only"),
    [
        ("on an A100, only from ReliableGPU", ("ReliableGPU",)),
        ("Use ReliableGPU to train on an A100", ("ReliableGPU",)),
        ("train at ReliableGPU only", ("ReliableGPU",)),
        ("rent an A100 from Lambda", ("Lambda",)),
        ("only from vendor 1 or 2", ("gpu_vendor_1", "gpu_vendor_2")),
        ("rent it from gpu_vendor_2", ("gpu_vendor_2",)),
        ("only at RunPod", ("RunPod",)),
        ("with 2 GPUs at vendor 3", ("gpu_vendor_3",)),
        ("use FastGPU, not ReliableGPU", ("FastGPU",)),
        ("instead of using FastGPU use ReliableGPU", ("ReliableGPU",)),
        ("from FastGPU or CheapGPU", ("FastGPU", "CheapGPU")),
        ("only from TS vendor", ("TS vendor",)),
        ("only from 'ts vendor', $5", ("ts vendor",)),
        ("rent an A100 from Prime Intellect for 2h", ("Prime Intellect",)),
        ("only from FastGPU A100", ("FastGPU",)),
        ("only from Lambda Cloud or RunPod", ("Lambda Cloud", "RunPod")),
        ("not from FastGPU", ()),
        ("don't use ReliableGPU", ()),
        ("anything but FastGPU", ()),
        ("use anything other than FastGPU", ()),
        ("use FastGPU first", ()),
        ("from FastGPU if possible", ()),
        ("use FastGPU or any other", ()),
        ("using PyTorch", ()),
        ("with data from HuggingFace", ()),
        ("on 4 GPUs", ()),
        ("use an A100 GPU", ()),
        ("with multi-GPU", ()),
        ("rent from the cheapest vendor", ()),
        ("go with the cheapest", ()),
        ("no vendor lock-in", ()),
    ],
)
def test_vendors_to_rent_from_alone_are_named(words: str, only: tuple[str, ...]) -> None:
    assert read(words, NOW).only_vendors == only


@pytest.mark.parametrize(
    "words", ["for -2 hours on an A100", "A100, \u22122 h", "on 0 A100s", "0 GPUs", "on -1 A100"]
)
def test_less_than_nothing_is_asked_about(words: str) -> None:
    with pytest.raises(InvalidInput, match=r"usable duration|can run nothing"):
        read(f"Train {words} under $5", NOW)


@pytest.mark.parametrize(
    ("words", "dollars"),
    [
        ("under 5,50 USD", "5.50"),
        ("budget 12,75 dollars", "12.75"),
        ("under $1,500", "1500"),
        ("under 1,500 USD", "1500"),
        ("under $5, 10 hours", "5"),
    ],
)
def test_cents_may_follow_a_comma(words: str, dollars: str) -> None:
    assert read(f"Train on an A100 {words}", NOW).budget == Usd.parse(dollars)


@pytest.mark.parametrize("words", ["for $5,10 hours", "for $5,50", "for 5,50 €"])
def test_what_may_be_no_cents_is_asked_about(words: str) -> None:
    assert read(f"Train on an A100 {words}", NOW).missing == ("budgetTotal",)


def test_who_is_to_be_rented_from_is_who_was_named_last() -> None:
    first = read("Train on an A100 for $5, only from FastGPU", NOW)
    assert first.then(read("for 2 hours", NOW)).only_vendors == ("FastGPU",)
    assert first.then(read("only from ReliableGPU", NOW)).only_vendors == ("ReliableGPU",)


@pytest.mark.parametrize(
    ("words", "kind", "count"),
    [
        ("a pair of A100s", "A100", 2),
        ("8xH100", "H100", 8),
        ("2x 80GB A100", "A100", 2),
        ("H100 x4", "H100", 4),
        ("dual 4090", "RTX4090", 2),
        ("4090s", "RTX4090", None),
        ("8-GPU H100 node", "H100", 8),
        ("two 24GB cards", "RTX4090", 2),
        ("40 GB VRAM", "A100", 1),
        ("not an A100 but an H100", "H100", 1),
        ("a 141GB GPU", "H200", 1),
        ("8 GPUs", None, 8),
        ("80GB of RAM", None, None),
        ("Llama 3 on A100", "A100", 1),
        ("A100-80GB", "A100", 1),
    ],
)
def test_gpus_are_read_by_name_or_memory(words: str, kind: str | None, count: int | None) -> None:
    reading = read(words, NOW)
    assert (reading.gpu_type, reading.gpu_count) == (kind, count)


@pytest.mark.parametrize(
    ("words", "types"),
    [
        ("an A100 or an H100", ("A100", "H100")),
        ("A100, H100 or H200", ("A100", "H100", "H200")),
        ("A100/H100", ("A100", "H100")),
        ("2x A100 or 2x H100", ("A100", "H100")),
        ("2x A100 or 1x H100", ()),
        ("on an A100, an H100 is too dear", ()),
        ("H100 and A100", ()),
        ("a 500GB GPU", ()),
        ("H200 or better", ("H200", "MI300X", "B200", "GB200", "MI325X", "B300", "GB300")),
    ],
)
def test_more_than_one_gpu_may_do(words: str, types: tuple[str, ...]) -> None:
    assert read(f"Train on {words}", NOW).gpu_types == types


def test_a_gpu_or_better_has_neither_less_memory_nor_less_speed() -> None:
    types = read("Train on an RTX 3090 or better", NOW).gpu_types
    assert types[0] == "RTX3090"
    assert {"RTX4090", "A100", "H100"} <= set(types)
    assert not {"T4", "V100", "L4", "RTX3080", "RTX4080"} & set(types)


def test_a_gpu_of_some_memory_is_any_that_has_it() -> None:
    reading = read("Train on a 24GB GPU, $5", NOW)
    assert reading.gpu_types[0] == reading.gpu_type == "RTX4090"
    assert {"A10", "L4", "A100"} <= set(reading.gpu_types)
    assert not {"T4", "RTX4080"} & set(reading.gpu_types)


@pytest.mark.parametrize("words", ["the cheapest GPU you have", "any GPU", "any kind of card"])
def test_any_gpu_is_every_type_that_a_vendor_has(words: str) -> None:
    assert read(f"Train on {words}, $5", NOW).spec().gpu == "any GPU"


@pytest.mark.parametrize(
    ("words", "an_hour"),
    [
        ("at most $1.50 an hour", "1.50"),
        ("max $2/hour, $10 total", "2"),
        ("$2.50/hr max", "2.50"),
        ("no more than $2/hour", "2"),
        ("hourly rate under $2", "2"),
        ("$2 an hour is fine", "2"),
        ("between $1 and $2 an hour", "2"),
        ("at most $2 per GPU per hour", "4"),
        ("under $3/hour, at most $1 per GPU-hour", "2"),
        ("costs $3 an hour", None),
        ("last time I paid $3 an hour", None),
        ("$5 in total", None),
        ("max $30 a day", None),
    ],
)
def test_the_most_that_an_hour_may_cost_is_read(words: str, an_hour: str | None) -> None:
    spec = read(f"Train on 2 A100, {words}", NOW).spec()
    assert spec.max_hourly == (Usd.parse(an_hour) if an_hour else None)


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        ("transcribe 100 hours of podcasts", None),
        ("3 hours of recorded speech in 2 hours", None),
        ("an A100 for 4 hours of video generation", 240),
        ("two days of film rendering", 2880),
        ("12 hours of video transcoding", 720),
        ("10 hours of inference for video", 600),
        ("caption 40 hours of lectures", None),
        ("3 hours of live video inference", 180),
        ("an hour and a half", 90),
        ("2 hours 30 minutes", 150),
        ("1h30", 90),
        ("1h 30m", 90),
        ("2 and a half hours", 150),
        ("1-2 hours", 120),
        ("half a day", 720),
        ("two days", 2880),
        ("10 GPU-hours on 2 A100", 300),
        ("$3 a day", None),
        ("2 hours ago", None),
        ("within 2 hours", None),
        ("3D model", None),
    ],
)
def test_a_length_is_read(words: str, minutes: int | None) -> None:
    assert read(words, NOW).minutes == minutes


def test_what_is_said_later_counts() -> None:
    first = read("Train on an A100 for 2 hours, $5, avoid vendor 1", NOW)
    both = first.then(read("make it an H100, avoid vendor 2", NOW))
    assert (both.gpu_type, both.minutes, both.budget) == ("H100", 120, Usd.parse(5))
    assert both.excluded_vendors == ("gpu_vendor_1", "gpu_vendor_2")
    unclear = both.then(read("$6 or $7", NOW))
    assert unclear.budget is None
    assert unclear.then(read("$6", NOW)).budget == Usd.parse(6)


def test_nothing_said_is_an_empty_reading() -> None:
    assert read("hello there", NOW) == Reading()


@pytest.mark.parametrize(
    ("words", "dollars"),
    [
        ("on an A100, budget $2½", 2.5),
        ("max $3½ on an A100", 3.5),
        ("under $½", 0.5),
        ("budget $5² on an A100", 5),
        ("half my $100 budget", None),
        ("50% of my $100 budget", None),
        ("monthly budget: $3000", None),
        ("$500 CLP", None),
        ("max $500 Canadian", None),
    ],
)
def test_only_what_is_surely_the_budget_is_the_budget(words: str, dollars: float | None) -> None:
    assert read(words, NOW).budget == (None if dollars is None else Usd.parse(dollars))


@pytest.mark.parametrize(
    ("words", "minutes", "count"),
    [
        ("an A100 for 1½ hours", 90, 1),
        ("½ hour on an A100", 30, 1),
        ("2 ¼ hours on an A100", 135, 1),
        ("an A100 for 1:30 hours", 90, 1),
        ("01:30h on an A100", 90, 1),
        ("20 GPU-hours of A100", 1_200, 1),
        ("20 GPU-hours on 4 GPUs, A100", 300, 4),
        ("100 GPU hours on H100s", 6_000, None),
        ("20 A100-hours", 1_200, None),
        ("H100x8 for 2 hours", 120, 8),
    ],
)
def test_hours_and_counts_as_people_write_them(words: str, minutes: int, count: int | None) -> None:
    reading = read(words, NOW)
    assert (reading.minutes, reading.gpu_count) == (minutes, count)


@pytest.mark.parametrize("words", ["anything but A100", "never on an A100", "don't train on A100"])
def test_a_refused_gpu_is_not_rented_for_want_of_another(words: str) -> None:
    reading = read(f"{words}, training under $5", NOW)
    assert reading.missing == ("gpuType",)
    assert "Which GPU" in reading.question
    assert reading.then(read("an H100", NOW)).missing == ()
    with pytest.raises(InvalidInput, match="goal"):
        reading.check_clear()


@pytest.mark.parametrize("at", ["9999-12-31 midnight", "9999-12-31T23:59:59-12:00", "2031-01-01"])
def test_a_deadline_beyond_all_reach_is_asked_about(at: str) -> None:
    assert read(f"an A100 under $5 by {at}", NOW).missing == ("deadline",)


@pytest.mark.parametrize(
    ("words", "gpu", "count"),
    [
        ("on an a1000", "A1000", 1),
        ("on 4 RTX 4070 Ti", "RTX4070TI", 4),
        ("on two A1000s", "A1000", 2),
        ("on a GTX 1080", "GTX1080", 1),
    ],
)
def test_a_gpu_that_nobody_knows_is_no_other_one(words: str, gpu: str, count: int) -> None:
    reading = read(f"Train {words} for 2 hours, under $5", NOW)
    assert (reading.gpu_type, reading.gpu_count) == (gpu, count)


@pytest.mark.parametrize(
    "words", ["on b2b200 data", "on a v3000 dataset", "with L1 loss", "on 3000 images", "at H264"]
)
def test_what_only_looks_like_a_gpu_is_none(words: str) -> None:
    assert read(f"Train {words} for 2 hours, under $5", NOW).gpu_type is None


@pytest.mark.parametrize(
    "words", ["done by yesterday", "finish yesterday", "by 8am yesterday", "by last Friday"]
)
def test_a_deadline_that_has_passed_is_asked_about(words: str) -> None:
    reading = read(f"Train on an A100 for 2 hours under $5, {words}", NOW)
    assert reading.deadline is None
    assert "is over already" in reading.question


def test_what_happened_before_is_no_deadline() -> None:
    reading = read("Train on an A100 under $5 until yesterday's loss is reached", NOW)
    assert reading.missing == ()
