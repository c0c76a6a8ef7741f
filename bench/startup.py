"""How long `gpu-renter serve` takes to answer, and how large its processes are then.

python -m bench.startup [times]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.report import Table, write
from server.config.settings import variables

TIMES: Final = 3


async def once() -> dict[str, Any]:
    """One start: seconds to "Ready", and MiB resident of each process."""
    kept = {k: v for k, v in os.environ.items() if k not in variables()}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ports = {"PORT": "0", "CHAIN_PORT": "0", "VENDOR_PORT": "0"}
        began = time.monotonic()
        serve = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.cli",
            "serve",
            env={**kept, **ports, "DATA_DIR": folder, "PYTHONPATH": str(Path.cwd())},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
        )
        assert serve.stdout
        try:
            async for line in serve.stdout:
                if line.startswith(b"Ready"):
                    break
            else:
                raise RuntimeError("serve ended before it was ready")
            seconds = time.monotonic() - began
            sizes = _resident(serve.pid)
        finally:
            serve.terminate()
            await serve.communicate()
    return {
        "seconds": seconds,
        "serve_mib": sizes.pop(serve.pid),
        "others_mib": sum(sizes.values()),
    }


def _resident(root: int) -> dict[int, float]:
    """MiB of a process and of all that it started."""
    found = {root: _mib(root)}
    for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
        found |= _resident(int(child))
    return found


def _mib(pid: int) -> float:
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def main(times: int = TIMES) -> None:
    starts = [asyncio.run(once()) for _ in range(times)]
    medians = {key: statistics.median(start[key] for start in starts) for key in starts[0]}
    rows = Table(
        f"`gpu-renter serve`, everything local (medians of {times})",
        ["until ready", "its memory", "MongoDB, chain and vendor"],
    )
    rows.row(
        f"{medians['seconds']:.1f} s",
        f"{medians['serve_mib']:.0f} MiB",
        f"{medians['others_mib']:.0f} MiB",
    )
    write("startup", {"starts": starts}, [rows])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TIMES)
