"""A process that ticks runs until they have ended: `python -m tests.chaos.worker RUN…`.

The settings come from the environment. It is made to be killed.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from domain.errors import RenterError
from server.config.settings import Settings
from server.runner.tick import Ticker
from server.wiring import Services, open_services

PAUSE_S = 0.3


async def main(run_ids: list[str]) -> None:
    while True:
        try:
            async with open_services(Settings.load()) as services:
                await asyncio.gather(*(_finish(services, run_id) for run_id in run_ids))
                return
        except RenterError:
            await asyncio.sleep(PAUSE_S)  # what it needs has just been killed


async def _finish(services: Services, run_id: str) -> None:
    ticker = Ticker(services)
    while True:
        try:
            if (await ticker.tick(run_id)).status.ended:
                return
        except RenterError as error:
            _tell(run_id, error)
        except Exception as error:  # noqa: BLE001 -- a store killed in mid-command raises anything
            _tell(run_id, error)
        await asyncio.sleep(PAUSE_S)


def _tell(run_id: str, error: Exception) -> None:
    print(f"{run_id}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(sys.argv[1:]))
