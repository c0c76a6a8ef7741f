"""The measurements of `make bench` that take long, each in small: they measure and they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import open_runs, plots, report, throughput, ticks
from bench.stand import stand


async def test_each_measurement_is_made_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (report, plots):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    async with stand() as here:
        ticks.tell(await ticks.measure(here, ticks=20, pairs=3, payments=1))
        throughput.tell(await throughput.measure(here, 0.3, processes=(1,), at_once=(1, 4)))
        open_runs.tell(await open_runs.measure(here, runs=200, seconds=2.0))

    told = capsys.readouterr().out
    for sentence in ("A monitor tick against the floor", "Monitor ticks a second", "200 open runs"):
        assert sentence in told
    written, found = _results(tmp_path / "results")
    pictures = {"ticks.svg", "payment.svg", "throughput.svg", "open_runs.svg"}
    assert written == pictures | {
        f"{name}.{kind}" for name in ("ticks", "throughput", "open_runs") for kind in ("md", "json")
    }
    assert len(found["ticks"]["growing old"]["tenths"]) == 10
    assert [m["at_once"] for m in found["throughput"]["throughput"]] == [1, 4]
    assert all(m["ticks_per_s"] > 0 for m in found["throughput"]["throughput"])
    assert found["open_runs"]["first_ticks"] > 0


def _results(folder: Path) -> tuple[set[str], dict[str, Any]]:
    """The names of all files, and what the JSON ones hold."""
    read = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return {path.name for path in folder.iterdir()}, read
