"""The measurements as pictures, one SVG each. The same figures give the same file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bench.report import RESULTS

SIZE: Final = (6.4, 3.4)
"""Inches."""


@contextmanager
def picture(name: str, title: str, x: str, y: str) -> Iterator[Any]:
    """Axes to draw on; on leaving they are bench/results/NAME.svg."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = f"bench.{name}"
    figure, axes = plt.subplots(figsize=SIZE)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    try:
        yield axes
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x, fontsize=9)
        axes.set_ylabel(y, fontsize=9)
        figure.tight_layout()
        RESULTS.mkdir(exist_ok=True)
        figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    finally:
        plt.close(figure)


def age(tenths: Sequence[float], ticks: int) -> None:
    """A tick's time as its run grows old, in times of the floor's beside it."""
    at = [ticks * (n + 0.5) / len(tenths) for n in range(len(tenths))]
    with picture("ticks", "A monitor tick as its run grows old", "ticks so far", "floors") as axes:
        axes.plot(at, tenths, marker="o", color="tab:orange", label="tick (median)")
        axes.axhline(1, color="0.35", linestyle="--", label="floor (median)")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)


def parts(own_ms: Mapping[str, float]) -> None:
    """Where the time goes from a goal to a paid, running job; the twelve largest parts."""
    largest = sorted(own_ms.items(), key=lambda item: item[1])[-12:]
    with picture("payment", "From a goal to a paid, running job", "own time, ms", "") as axes:
        axes.barh([name for name, _ in largest], [ms for _, ms in largest], color="tab:orange")
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(axis="x", color="0.9")


def throughput(measured: Sequence[Mapping[str, Any]], store_alone: float) -> None:
    """Ticks a second by runs at once, for each number of processes; and what the store can do."""
    at_once = sorted({m["at_once"] for m in measured})
    numbers = sorted({m["processes"] for m in measured})
    width = 0.8 / len(numbers)
    title, down = "Monitor ticks a second", "runs at once"
    with picture("throughput", title, down, "ticks a second") as axes:
        for place, processes in enumerate(numbers):
            mine = {m["at_once"]: m["ticks_per_s"] for m in measured if m["processes"] == processes}
            axes.bar(
                [at_once.index(n) + place * width for n in mine],
                list(mine.values()),
                width,
                label=f"{processes} process{'es' if processes > 1 else ''}",
                color=("tab:orange", "tab:blue")[place % 2],
            )
        axes.axhline(
            store_alone, color="0.35", linestyle="--", linewidth=1, label="the store alone"
        )
        middle = width * (len(numbers) - 1) / 2
        axes.set_xticks([n + middle for n in range(len(at_once))], [str(n) for n in at_once])
        axes.legend(fontsize=8)


def lateness(title: str, late_s: Sequence[float]) -> None:
    """How many of the ticks began how long after their moment."""
    late = sorted(late_s)
    share = [100 * (n + 1) / len(late) for n in range(len(late))]
    with picture("open_runs", title, "seconds late", "% of ticks") as axes:
        axes.plot(late, share, color="tab:orange")
        axes.axvline(2, color="0.35", linestyle="--", linewidth=1)
        axes.set_ylim(0, 101)
