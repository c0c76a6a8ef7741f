"""`make mutants`: the money code, changed a little and often; the tests around it must notice.

    python -m bench.mutants [--samples 200 | --samples all] [--seed N] [--minutes N] [--only …]

mutmut makes the changes (`[tool.mutmut]` in pyproject.toml says of what), one at a time, and the
tests around the changed module are run until one fails: `mutants.toml` says which. A change that no
test notices, a survivor, is a test that is missing, or no change at all: those are in that file
too, each with the reason, known by the function and the two lines, never by a line's number.

It exits with 1 where less than 95% of what was played is noticed, what is known left out. The table
is bench/results/mutants.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.report import Table, write
from tests.support.stack import embedded_mongo, quick_folder

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = Path(__file__).parent / "mutants.toml"
NONE: Final = "no.mutant"
ENOUGH: Final = 0.95


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutant does: in which function it has which line instead of which."""

    module: str
    function: str
    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Played:
    """A mutant that the tests have seen."""

    name: str
    change: Change
    outcome: str
    """killed, survived, no tests (around its module); or out of time, which decides nothing."""
    killer: str | None = None
    """The first test that failed."""

    @property
    def noticed(self) -> bool:
        return self.outcome == "killed"


@dataclass(frozen=True, slots=True)
class Summary:
    """How many of the mutants that were played were noticed, how many are known to be none."""

    played: int
    noticed: int
    explained: int

    @property
    def share(self) -> float:
        """Of those that are a change at all."""
        real = self.played - self.explained
        return self.noticed / real if real else 1.0


def known_survivors(path: Path = TABLE) -> dict[Change, str]:
    """Changes that change nothing, each with the reason."""
    listed = tomllib.loads(path.read_text()).get("survivor", [])
    return {Change(s["module"], s["function"], s["was"], s["now"]): s["why"] for s in listed}


def read(lines: Iterable[str]) -> tuple[dict[str, int], list[Played]]:
    """What the worker wrote: how many mutants each module has, and what became of those played."""
    first, *rest = (json.loads(line) for line in lines)
    return first, [
        Played(
            one["mutant"],
            Change(one["module"], function_of(one["mutant"]), one["was"], one["now"]),
            one["outcome"],
            one["killer"],
        )
        for one in rest
        if one["mutant"] != NONE
    ]


def function_of(mutant: str) -> str:
    """`Budget.reserve`, of mutmut's `ledger.budget.xǁBudgetǁreserve__mutmut_7`."""
    mangled = mutant.rpartition(".")[2].partition("__mutmut_")[0]
    return ".".join(mangled.split("ǁ")[1:]) if "ǁ" in mangled else mangled.removeprefix("x_")


def summed(played: Sequence[Played], known: Mapping[Change, str]) -> Summary:
    explained = sum(not p.noticed and p.change in known for p in played)
    return Summary(len(played), sum(p.noticed for p in played), explained)


def tables(
    made: Mapping[str, int], played: Sequence[Played], known: Mapping[Change, str]
) -> list[Table]:
    """Each module's count, and each survivor with its reason, where it has one."""
    by_module = Table("Mutants", ["module", "made", "played", "noticed", "known", "missed"])
    for module in [*sorted(made), ""]:
        own = [p for p in played if not module or p.change.module == module]
        sums = summed(own, known)
        counts = (sums.played, sums.noticed, sums.explained)
        missed = sums.played - sums.noticed - sums.explained
        total = made[module] if module else sum(made.values())
        by_module.row(module or "all", *map(str, (total, *counts, missed)))
    survivors = Table("Survivors", ["function", "was", "now", "why it is none"])
    for one in sorted((p for p in played if not p.noticed), key=lambda p: p.name):
        change = one.change
        survivors.row(
            f"{change.module} {change.function}",
            *(f"`{line.replace('|', '¦')}`" for line in (change.was, change.now)),
            known.get(change, f"**missed** ({one.outcome})"),
        )
    return [by_module, survivors]


def play(folder: Path, table: Path, options: Sequence[str]) -> list[str]:
    """Have the mutants of `folder` played in a process of its own, which gets mutmut's copy of the
    code and not ours; the lines that it wrote.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "played.jsonl"
        program = ROOT / "bench" / "mutant_worker.py"
        worker = [sys.executable, "-P", str(program), str(table), str(out)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        subprocess.run([*worker, *options], cwd=folder, env=kept, check=True)
        return out.read_text().splitlines()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="200", help="so many, or `all`")
    parser.add_argument("--seed", type=int, default=None, help="[default: drawn and printed]")
    parser.add_argument("--minutes", type=float, default=60, help="begin none after so long")
    parser.add_argument("--only", nargs="*", default=[], help="as 'ledger.budget.*'")
    parser.add_argument("--unchecked", action="store_true", help="trust that unharmed code passes")
    asked = parser.parse_args()
    seed = int(time.time()) if asked.seed is None else asked.seed
    options = ["--seed", str(seed), "--minutes", str(asked.minutes), "--only", *asked.only]
    if asked.samples != "all":
        options += ["--samples", asked.samples]
    if asked.unchecked:
        options += ["--unchecked"]
    with ExitStack() as stack:
        if "TEST_MONGODB_URI" not in os.environ:  # one for all, not one for each process
            folder = stack.enter_context(quick_folder("mutants"))
            os.environ["TEST_MONGODB_URI"] = stack.enter_context(embedded_mongo(folder))
        made, results = read(play(ROOT, TABLE, options))
    known = known_survivors()
    played = [one for one in results if one.outcome != "out of time"]
    sums = summed(played, known)
    outcomes = Counter(p.outcome for p in results)
    measured: dict[str, Any] = {"seed": seed, "made": sum(made.values()), **outcomes}
    write("mutants", measured | {"explained": sums.explained}, tables(made, played, known))
    print(
        f"{sums.noticed} of {sums.played} mutants noticed, {sums.explained} known to be none: "
        f"{sums.share:.1%}, seed {seed}"
    )
    return 0 if sums.share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
