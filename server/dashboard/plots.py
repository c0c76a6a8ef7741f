"""What is plotted, as ECharts options. Colours that read on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from domain.quotes import Vendor

INK: Final = "#83868f"
LINE: Final = "rgba(131,134,143,.25)"
COLOURS: Final = ("#5b6cf0", "#d98324", "#2f9e5b", "#b565c9", "#3aa3b8")
GOOD, BAD = "#2f9e5b", "#d9534a"
_FONT: Final = {"fontFamily": "system-ui, sans-serif", "color": INK}
_TIP: Final = {"trigger": "axis", "renderMode": "richText", "confine": True}
"""Tips are drawn, never written as HTML: vendors choose the names in them."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


def loss_plot(curves: Curves, names: Mapping[str, str]) -> dict[str, Any]:
    """The loss by epoch, a line for each job. names: of the jobs."""
    return {
        "animationDuration": 300,
        "color": list(COLOURS),
        "textStyle": _FONT,
        "tooltip": _TIP,
        "legend": {"top": 0, "right": 0, "textStyle": _FONT, "itemWidth": 14, "icon": "roundRect"},
        "grid": {"left": 44, "right": 14, "top": 34, "bottom": 40},
        "xAxis": {
            "type": "value",
            "minInterval": 1,
            "min": 1,
            "name": "epoch",
            "nameLocation": "middle",
            "nameGap": 24,
            "nameTextStyle": _FONT,
            "axisLabel": _FONT,
            "splitLine": {"show": False},
            "axisLine": {"lineStyle": {"color": LINE}},
            "max": max(2, *_epochs(curves)),
        },
        "yAxis": {
            "type": "value",
            "scale": True,
            "name": "loss",
            "nameTextStyle": _FONT,
            "axisLabel": _FONT,
            "splitLine": {"lineStyle": {"color": LINE}},
            "splitNumber": 4,
        },
        "series": [
            {
                "type": "line",
                "name": names.get(job, job),
                "symbol": "circle",
                # A job that started anew covers the points of the one before: that one is larger.
                "symbolSize": 8 + 6 * (len(curves) - place - 1),
                "lineStyle": {"width": 2.5},
                "data": [list(point) for point in points],
            }
            for place, (job, points) in enumerate(curves.items())
        ],
    }


def record_plot(vendors: Sequence[Vendor]) -> dict[str, Any]:
    """Completed and failed jobs, a bar for each vendor."""
    rows = list(reversed(vendors))
    return {
        "animationDuration": 300,
        "textStyle": _FONT,
        "tooltip": {**_TIP, "axisPointer": {"type": "shadow"}},
        "legend": {"top": 0, "left": 0, "textStyle": _FONT, "itemWidth": 14, "icon": "roundRect"},
        "grid": {"left": 4, "right": 16, "top": 34, "bottom": 4, "containLabel": True},
        "xAxis": {
            "type": "value",
            "minInterval": 1,
            "axisLabel": _FONT,
            "splitLine": {"lineStyle": {"color": LINE}},
        },
        "yAxis": {
            "type": "category",
            "data": [v.name[:24] for v in rows],
            "axisTick": {"show": False},
            "axisLabel": _FONT,
            "axisLine": {"lineStyle": {"color": LINE}},
        },
        "series": [
            _bars("completed", GOOD, [v.completed for v in rows]),
            _bars("failed", BAD, [v.failed for v in rows]),
        ],
    }


def _bars(name: str, colour: str, counts: list[int]) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "stack": "jobs",
        "barWidth": 16,
        "data": counts,
        "itemStyle": {"color": colour, "borderRadius": 3},
    }


def _epochs(curves: Curves) -> list[int]:
    return [epoch for points in curves.values() for epoch, _ in points] or [2]
