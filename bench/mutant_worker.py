"""Plays the mutants of the folder it is started in; `bench.mutants` starts it.

    python -P bench/mutant_worker.py TABLE OUT [--samples N] [--seed N] [--minutes N] [--only …]

mutmut makes the mutants, as `[tool.mutmut]` in the folder's pyproject.toml says: a copy of the code
in `mutants/`, where each function has all of its changes, and a variable says which is in force. It
also forks the processes that tests run in, from one that has imported everything. What is chosen
here is which mutants are played, and which tests see each: TABLE (`mutants.toml`) has those around
each module.

One JSON line for each mutant goes to OUT; the first line counts the mutants of each module. It
imports nothing of ours, for the processes that it forks must import the mutated copy.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import shutil
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from mutmut.__main__ import collect_source_file_mutation_data, create_mutants
from mutmut.configuration import config
from mutmut.mutation import mutators
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.runners.harness import PytestRunner
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths
from mutmut.workers.isolation import ForkServerRunner

FOLDER: Final = Path("mutants")
KILLERS: Final = (FOLDER / "killers").absolute()
CHILDREN: Final = os.cpu_count() or 2
LONGEST_S: Final = 7_200
"""For all tests of a mutant, on a busy machine too. A single test that hangs is pytest-timeout's to
stop, and has noticed the mutant.
"""
NONE: Final = "no.mutant"
"""The code as it is: all tests must pass."""

KILLED: Final = (1, 2, 3)
"""pytest's exit status: a test failed, a file could not be read, something broke within pytest."""
OUT_OF_TIME: Final = (-24, 24, 152, -9)


class NamingRunner(PytestRunner):  # type: ignore[misc]
    """Runs tests as mutmut does, and writes down which test noticed the mutant."""

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        self._killer = killer_of(mutant_name) if mutant_name else None
        return int(super().run_tests(mutant_name=mutant_name, tests=tests))

    def execute_pytest(self, params: list[str], **kwargs: Any) -> int:
        if killer := getattr(self, "_killer", None):
            kwargs["plugins"] = [_FirstFailure(killer)]
        return int(super().execute_pytest(params, **kwargs))


class _FirstFailure:
    def __init__(self, path: Path) -> None:
        self._path = path

    def _note(self, report: Any) -> None:
        if report.failed and not self._path.exists():
            self._path.write_text(report.nodeid)

    pytest_runtest_logreport = _note
    pytest_collectreport = _note


def killer_of(mutant: str) -> Path:
    return KILLERS / sha256(mutant.encode()).hexdigest()[:24]


def leave_words_alone() -> None:
    """Change a string once, and only if it is a name: sentences for people are no behaviour."""
    change = mutators.operator_string

    def names_only(node: Any) -> Iterator[Any]:
        if " " not in getattr(node, "value", " "):
            yield from list(change(node))[:1]

    operators = mutators.mutation_operators
    operators[:] = [(of, names_only if f is change else f) for of, f in operators]


def make() -> dict[str, str]:
    """Make the mutants of what has changed since the last time; each one's name, with its file."""
    for stale in (KILLERS, FOLDER / "tests"):
        shutil.rmtree(stale, ignore_errors=True)
    KILLERS.mkdir(parents=True)
    leave_words_alone()
    set_mutant_under_test("mutant_generation")
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    create_mutants(CHILDREN)
    mutants, _ = collect_source_file_mutation_data(mutant_names=())
    return {name: str(data.path) for data, name, _ in mutants}


def drawn(names: Iterable[str], samples: int | None, seed: int, only: Sequence[str]) -> list[str]:
    """The mutants to play: all that `only` names, or so many, in an order that the seed gives."""
    those = sorted(n for n in names if not only or any(fnmatch.fnmatch(n, one) for one in only))
    random.Random(seed).shuffle(those)
    return those[:samples]


def change(mutant: str, path: str) -> tuple[str, str]:
    """The lines that the mutant takes away, and those that it puts in their place."""
    diff = get_diff_for_mutant(mutant, path=path).splitlines()
    lines = [line for line in diff if not line.startswith(("---", "+++", "@@"))]
    was = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    now = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    return was, now


def outcome(status: int, *, noticed: bool) -> str:
    """noticed: whether a test has failed, whatever broke in pytest when that was to be told."""
    if status in KILLED or noticed:
        return "killed"
    if status == 0:
        return "survived"
    if status in OUT_OF_TIME:
        return "out of time"
    return "no tests" if status == 33 else f"status {status}"


def play(
    files: Mapping[str, str], chosen: Sequence[str], around: Mapping[str, list[str]], minutes: float
) -> Iterator[dict[str, Any]]:
    """Play the mutants, until the time is over; what became of each."""
    config().pytest_add_cli_args_test_selection = every_test(around)
    runner, begun = ForkServerRunner(CHILDREN, NamingRunner, {}), time.monotonic()
    set_mutant_under_test("")
    runner.startup()

    def result() -> dict[str, Any]:
        played = runner.wait_for_result()
        name, killer = played.mutant_name, killer_of(played.mutant_name)
        was, now = change(name, files[name]) if name in files else ("", "")
        return {
            "mutant": name,
            "module": files.get(name, ""),
            "outcome": outcome(played.exit_code, noticed=killer.exists()),
            "was": was,
            "now": now,
            "killer": killer.read_text() if killer.exists() else None,
        }

    try:
        for name in chosen:
            while not runner.has_capacity():
                yield result()
            if time.monotonic() - begun > 60 * minutes:
                break
            tests = around.get(files[name], []) if name in files else every_test(around)
            runner.submit(name, tests, 2 * LONGEST_S, 0.0)
        runner.signal_work_complete()
        while runner.pending_count():
            yield result()
    finally:
        runner.stop_all_workers()
        runner.shutdown()


def every_test(around: Mapping[str, list[str]]) -> list[str]:
    return sorted({test for tests in around.values() for test in tests})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--unchecked", action="store_true")
    asked = parser.parse_args()
    around = tomllib.loads(asked.table.read_text())["around"]
    files = make()
    chosen = drawn(files, asked.samples, asked.seed, asked.only)
    used = {files[name] for name in chosen}
    around = {module: tests for module, tests in around.items() if module in used}
    if not asked.unchecked:
        chosen.insert(0, NONE)
    with asked.out.open("w") as out:
        print(json.dumps(Counter(files.values())), file=out, flush=True)
        for played in play(files, chosen, around, asked.minutes):
            print(json.dumps(played, ensure_ascii=False), file=out, flush=True)
            print(f"{played['outcome']:>11}  {played['mutant']}", file=sys.stderr, flush=True)
            if played["mutant"] == NONE and played["outcome"] != "survived":
                sys.exit(f"without any mutant a test fails: {played['killer']}")


if __name__ == "__main__":
    main()
