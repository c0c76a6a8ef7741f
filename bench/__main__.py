"""`make bench`: every measurement in turn. Counts and sizes, written to bench/results/."""

from __future__ import annotations

from bench.tick_cost import main

if __name__ == "__main__":
    main()
