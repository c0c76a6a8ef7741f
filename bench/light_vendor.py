"""A vendor that answers at once: one job that never ends. `python -m bench.light_vendor PORT`.

The mock vendor trains a model at each poll and tells the whole log each time; where the agent's
own cost is measured, that would hide it.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

POLLS_TO_DONE = 1_000_000


class LightVendor:
    """Answers /job-status with a little more progress each time."""

    def __init__(self) -> None:
        self._polls = 0

    async def job_status(self, request: Request) -> JSONResponse:
        del request
        self._polls += 1
        return JSONResponse(
            {
                "status": "running",
                "progress": self._polls / POLLS_TO_DONE,
                "logs": ["Booting GPU instance"],
                "estimatedRemainingMinutes": 60,
                "costSoFar": 0.1,
                "paidMinutes": 60,
                "usedMinutes": 1,
            }
        )

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/job-status", self.job_status)])


if __name__ == "__main__":
    uvicorn.run(LightVendor().app(), port=int(sys.argv[1]), log_level="critical")
