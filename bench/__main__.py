"""`make bench`: every measurement in turn, told in tables and written to bench/results/.

    python -m bench [name …]

`make chaos` (bench/chaos.py) and `make mutants` (bench/mutants.py) are apart: they prove, and take
an hour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from bench import open_runs, policy, startup, throughput, tick_cost, ticks

ALL: Final[Mapping[str, Callable[[], object]]] = {
    "tick_cost": tick_cost.main,
    "ticks": ticks.main,
    "throughput": throughput.main,
    "open_runs": open_runs.main,
    "startup": startup.main,
    "policy": lambda: policy.main([]),
}

if __name__ == "__main__":
    asked = sys.argv[1:] or list(ALL)
    if unknown := set(asked) - set(ALL):
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}: {', '.join(ALL)}")
    for name in asked:
        print(f"== {name}", flush=True)
        ALL[name]()
