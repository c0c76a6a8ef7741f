"""The report of bench/policy.py for people: a table, what it shows and what not, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MOST_TIMES_ORACLE: Final = 1.15
LEAST_SAVING: Final = 0.15
BOUNDS: Final = ("insider", "thrifty insider", "oracle")
"""Not baselines: they know what nobody can."""

Numbers = Mapping[str, Mapping[str, list[float]]]


def table(report: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        "# Policies for choosing vendors, simulated",
        "",
        f"`python -m bench.policy`: {report['jobsPerPolicy']:,} jobs for each policy and market, "
        f"seeds {report['seeds'][0]}–{report['seeds'][1]}; the constants were chosen on seeds "
        f"{report['tuningSeeds'][0]}–{report['tuningSeeds'][1]}. In brackets 95% bootstrap "
        "intervals over whole markets. "
        "The oracle knows every fate beforehand and is the lower bound of the cost. The insiders "
        "know every vendor's true rates and who has an outage now, but no fate: what they need "
        "beyond the oracle is about the price of not seeing the future, which no better estimate "
        "of vendors would save (about, for they decide by the product's code, which is not proven "
        "to be the best use of what they know). Cost and losses in dollars.",
        "",
    ]
    for regime, numbers in report["regimes"].items():
        lines += [f"## {regime}", "", *_rows(numbers), "", *_findings(numbers), ""]
    return "\n".join(lines)


def _rows(numbers: Numbers) -> list[str]:
    head = (
        "| policy | completed in budget and time | cost per completed job | × oracle "
        "| lost to failures, per job |"
    )
    rows = [
        f"| {name} | {_share(n['completed'])} | {_plain(n['costPerCompleted'])} "
        f"| {_plain(n['timesOracle'])} | {_plain(n['lostPerJob'])} |"
        for name, n in numbers.items()
    ]
    return [head, "|---|---|---|---|---|", *rows]


def _findings(numbers: Numbers) -> list[str]:
    """What was asked of ours, and whether it holds here."""
    found = []
    for name, n in numbers.items():
        if name == "ours" or name in BOUNDS:
            continue
        more, low, high = n["oursCompletesMore"]
        sign = "more" if low > 0 else "fewer" if high < 0 else "as many, within the interval"
        found.append(
            f"- against {name}: ours completes {sign} ({more:+.1%} [{low:+.1%}, {high:+.1%}]), "
            f"at {_share(n['oursCheaperBy'])} less a completed job"
        )
    ours, cheapest, thrifty = (numbers[n] for n in ("ours", "cheapest-first", "thrifty insider"))
    times, low, high = ours["timesOracle"]
    holds = _holds(times <= MOST_TIMES_ORACLE, high <= MOST_TIMES_ORACLE)
    found.append(
        f"- at most {MOST_TIMES_ORACLE} × the oracle: **{holds}** ({times:.3f} [{low:.3f}, "
        f"{high:.3f}]). The thrifty insider, who knows all but the dice and minds the cost alone, "
        f"needs {_plain(thrifty['timesOracle'])} and completes {_share(thrifty['completed'])}"
    )
    saved = cheapest["oursCheaperBy"]
    apart = ours["costPerCompleted"][2] < cheapest["costPerCompleted"][1]
    holds = _holds(saved[0] >= LEAST_SAVING, saved[1] >= LEAST_SAVING)
    found.append(
        f"- at least {LEAST_SAVING:.0%} under cheapest-first: **{holds}** ({_share(saved)}); the "
        f"two intervals of the cost {'do not overlap' if apart else 'overlap'}"
    )
    return found


def _holds(middle: bool, whole: bool) -> str:
    if whole:
        return "holds"
    return "holds on average, not over the whole interval" if middle else "does not hold"


def _plain(number: list[float]) -> str:
    return f"{number[0]:.2f} [{number[1]:.2f}, {number[2]:.2f}]"


def _share(number: list[float]) -> str:
    return f"{number[0]:.1%} [{number[1]:.1%}, {number[2]:.1%}]"


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Completion and cost of each policy in each market, with intervals. Same report, same file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "bench.policy"
    regimes = report["regimes"]
    figure, panels = plt.subplots(2, len(regimes), figsize=(11, 6), sharey=True)
    shown = (
        ("completed", "completed within budget and deadline, %", 100.0),
        ("costPerCompleted", "cost per completed job, $", 1.0),
    )
    for row, (key, label, scale) in enumerate(shown):
        for column, (regime, numbers) in enumerate(regimes.items()):
            panel = panels[row][column]
            names = list(reversed(numbers))
            for place, name in enumerate(names):
                middle, low, high = (scale * x for x in numbers[name][key])
                colour = "tab:orange" if name == "ours" else "0.35"
                colour = "tab:blue" if name in BOUNDS else colour
                panel.errorbar(
                    middle,
                    place,
                    xerr=[[middle - low], [high - middle]],
                    fmt="o",
                    color=colour,
                    capsize=3,
                )
            panel.set_yticks(range(len(names)), names)
            panel.set_xlabel(label, fontsize=8)
            panel.grid(axis="x", color="0.9")
            if row == 0:
                panel.set_title(regime)
    figure.suptitle("orange: ours. blue: bounds that know more. Bars: 95% intervals", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
