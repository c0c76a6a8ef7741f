"""Which rule for choosing vendors does best? A simulation, the same market for each of them.

    python -m bench.policy [--jobs N] [--seed S] [--out DIR]

Plays at least N jobs for each policy in each of three markets (calm, mixed, unreliable), and writes
policy.json, policy.md and policy.svg. bench/policy_market.py says what is assumed of the markets,
bench/policy_rules.py what each policy does; `ours` is the product's own code.

Seeds: TUNING_SEEDS served to choose the constants of domain/ranking.py and domain/reliability.py.
The report uses others: REPORT_SEED and up.

Intervals are 95% bootstraps over whole markets, since jobs of one market share its vendors. What
compares two policies is resampled in pairs: the same markets for both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.policy_market import REGIMES, Regime, draw_market
from bench.policy_play import Played, play, play_oracle
from bench.policy_report import plot, table
from bench.policy_rules import policies

RESULTS: Final = Path(__file__).parent / "results"
TUNING_SEEDS: Final = range(1_000, 1_100)
REPORT_SEED: Final = 50_000
JOBS_PER_MARKET: Final = 40
RESAMPLES: Final = 2_000
DONE, COST, LOST = range(3)

Outcomes = NDArray[np.float64]
"""[market, job, DONE | COST | LOST]."""
Statistic = Callable[[dict[str, Outcomes]], Outcomes]
"""From each policy's sums over jobs, [resample, DONE | COST | LOST], to one number a resample."""


def simulate(regime: Regime, seed: int, markets: int, jobs: int) -> dict[str, Outcomes]:
    """What each policy, and the oracle, made of the same markets."""
    played: dict[str, list[list[Played]]] = {}
    for number in range(markets):
        market = draw_market(regime, seed + number, jobs)
        for policy in policies(market, seed + number):
            played.setdefault(policy.name, []).append(play(market, policy))
        played.setdefault("oracle", []).append(play_oracle(market))
    return {
        name: np.array([[(p.done, p.cost, p.lost) for p in jobs] for jobs in results], float)
        for name, results in played.items()
    }


def measure(outcomes: Mapping[str, Outcomes], seed: int) -> dict[str, dict[str, list[float]]]:
    """By policy, each number with its interval, and those that compare it with another."""
    markets, jobs = next(iter(outcomes.values())).shape[:2]
    draws = np.random.default_rng(seed).integers(0, markets, (RESAMPLES, markets))
    sums = {name: o.sum(axis=1) for name, o in outcomes.items()}
    whole = {name: s.sum(axis=0) for name, s in sums.items()}
    drawn = {name: s[draws].sum(axis=1) for name, s in sums.items()}
    n = markets * jobs

    def per_completed(s: Outcomes) -> Outcomes:
        return s[..., COST] / np.maximum(s[..., DONE], 1)

    def number(of: Statistic) -> list[float]:
        low, high = np.percentile(of(drawn), [2.5, 97.5])
        return [round(float(x), 4) for x in (of(whole), low, high)]

    def of_policy(name: str) -> dict[str, list[float]]:
        return {
            "completed": number(lambda s: s[name][..., DONE] / n),
            "costPerCompleted": number(lambda s: per_completed(s[name])),
            "lostPerJob": number(lambda s: s[name][..., LOST] / n),
            "timesOracle": number(lambda s: per_completed(s[name]) / per_completed(s["oracle"])),
            "oursCompletesMore": number(lambda s: (s["ours"] - s[name])[..., DONE] / n),
            "oursCheaperBy": number(
                lambda s: 1 - per_completed(s["ours"]) / per_completed(s[name])
            ),
        }

    return {name: of_policy(name) for name in outcomes}


def run(seed: int, jobs: int, jobs_per_market: int = JOBS_PER_MARKET) -> dict[str, Any]:
    """The whole report: `jobs` or more for each policy in each regime."""
    markets = -(-jobs // jobs_per_market)
    return {
        "seeds": [seed, seed + markets - 1],
        "tuningSeeds": [TUNING_SEEDS.start, TUNING_SEEDS.stop - 1],
        "jobsPerPolicy": markets * jobs_per_market,
        "regimes": {
            regime.name: measure(simulate(regime, seed, markets, jobs_per_market), seed)
            for regime in REGIMES
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.policy")
    parser.add_argument("--jobs", type=int, default=4_000, help="for each policy and market")
    parser.add_argument("--seed", type=int, default=REPORT_SEED)
    parser.add_argument("--out", type=Path, default=RESULTS, help="a folder")
    given = parser.parse_args(arguments)
    report = run(given.seed, given.jobs)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "policy.json").write_text(json.dumps(report, indent=1) + "\n")
    text = table(report)
    (given.out / "policy.md").write_text(text)
    plot(report, given.out / "policy.svg")
    print(text)


if __name__ == "__main__":
    main()
