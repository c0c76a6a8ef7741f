"""The simulation of policies: fair, repeatable, and never better than the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.policy import COST, DONE, LOST, REPORT_SEED, TUNING_SEEDS, main, measure, simulate
from bench.policy_market import REGIMES, draw_market
from bench.policy_play import Played, play, play_oracle
from bench.policy_report import BOUNDS
from bench.policy_rules import policies

SEED = 7
RELIABLE, CHEAPEST = "most-reliable-first", "cheapest-first"


def test_seeds_that_were_tuned_on_are_not_reported() -> None:
    assert REPORT_SEED not in TUNING_SEEDS
    assert TUNING_SEEDS.stop < REPORT_SEED
    assert SEED not in TUNING_SEEDS


def test_the_same_seed_plays_the_same_and_another_does_not() -> None:
    first, again, other = (simulate(REGIMES[1], seed, 1, 8) for seed in (SEED, SEED, SEED + 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_what_a_policy_does_changes_nothing_for_the_others() -> None:
    market = draw_market(REGIMES[2], SEED, 10)
    together = {policy.name: play(market, policy) for policy in policies(market, SEED)}
    for place, name in enumerate(together):
        alone = policies(draw_market(REGIMES[2], SEED, 10), SEED)[place]
        assert play(market, alone) == together[name]


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.name)
def test_nobody_beats_the_oracle_at_any_job(regime: object) -> None:
    market = draw_market(next(r for r in REGIMES if r is regime), SEED, 25)
    least = play_oracle(market)
    for policy in policies(market, SEED):
        for played, best in zip(play(market, policy), least, strict=True):
            assert played.done <= best.done
            assert not played.done or played.cost >= best.cost - 1e-9


def test_the_books_of_a_job_are_sound() -> None:
    market = draw_market(REGIMES[2], SEED, 25)
    for policy in policies(market, SEED):
        for job, played in zip(market.jobs, play(market, policy), strict=True):
            assert 0 <= played.lost <= played.cost <= job.budget + 1e-9
            assert played.done or played.lost == played.cost


def test_where_vendors_are_unreliable_ours_finishes_more_for_less_than_the_cheapest_first() -> None:
    measured = measure(simulate(REGIMES[2], SEED, 8, 40), SEED)
    against = measured[CHEAPEST]
    assert against["oursCompletesMore"][1] > 0.05
    assert against["oursCheaperBy"][1] > 0.05
    ours, cheapest = measured["ours"]["costPerCompleted"], against["costPerCompleted"]
    assert ours[2] < cheapest[1]
    for name in measured.keys() - {"ours", *BOUNDS}:
        assert measured[name]["oursCompletesMore"][2] >= 0, name
    assert measured[RELIABLE]["oursCheaperBy"][0] > 0


def test_a_number_lies_within_its_interval_and_sums_are_right() -> None:
    outcomes = {
        "ours": np.array([[[1, 2.0, 0], [1, 4.0, 1.0]], [[0, 3.0, 3.0], [1, 3.0, 0]]]),
        "oracle": np.array([[[1, 2.0, 0], [1, 2.0, 0]], [[1, 2.0, 0], [1, 2.0, 0]]]),
    }
    numbers = measure(outcomes, 1)["ours"]
    assert numbers["completed"][0] == 0.75
    assert numbers["costPerCompleted"][0] == 4.0
    assert numbers["lostPerJob"][0] == 1.0
    assert numbers["timesOracle"][0] == 2.0
    assert all(low <= middle <= high for middle, low, high in numbers.values())
    assert tuple(Played.__slots__.index(n) for n in ("done", "cost", "lost")) == (DONE, COST, LOST)


def test_the_report_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--jobs", "40", "--seed", str(SEED), "--out", str(tmp_path)])
    report = json.loads((tmp_path / "policy.json").read_text())
    assert report["jobsPerPolicy"] == 40
    assert set(report["regimes"]) == {regime.name for regime in REGIMES}
    text = (tmp_path / "policy.md").read_text()
    assert text in capsys.readouterr().out
    assert "cheapest-first" in text
    assert (tmp_path / "policy.svg").read_text().count("<svg") == 1
