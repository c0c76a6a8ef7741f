"""LangChain tools over what is known of vendors and of this run's jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from langchain_core.tools import BaseTool, tool

from domain.reliability import block_at, weight
from ledger.ledger import Ledger
from ledger.run import Run
from tools.fence import LONGEST_FIELD, fence, fence_rows

MOST_JOBS: Final = 4
"""Of a run, in one answer: the last ones."""
MOST_GPUS: Final = 3


def vendor_tools(ledger: Ledger, run: Run, now: Callable[[], datetime]) -> list[BaseTool]:
    @tool
    async def list_quotes() -> str:
        """The quotes at hand for this job, with their ids and prices in dollars."""
        return fence_rows(
            [
                {
                    "vendorId": offer.quote.vendor_id,
                    "quoteId": offer.quote.template_id,
                    "minutes": offer.quote.minutes,
                    "priceUsd": offer.quote.price.dollars(),
                }
                for offer in run.offers
                if not offer.quote.expired(now())
            ]
        )

    @tool
    async def vendor_history(vendor_id: str) -> str:
        """What one vendor's jobs came to: in all runs by GPU type, and in this run."""
        vendor, at = await ledger.vendors.get(vendor_id), now()
        jobs = [job for job in await ledger.jobs.of_run(run) if job.vendor_id == vendor_id]
        block = block_at(vendor.blocks, at)
        return fence(
            {
                "vendorId": vendor.vendor_id,
                "registeredReliability": vendor.reliability,
                "completed": vendor.completed,
                "failed": vendor.failed,
                "blocked": str(block) if block else None,
                "byGpuType": [
                    {
                        "gpuType": record.gpu_type,
                        "completed": round(record.completed / weight(at), 1),
                        "neverBooted": round(record.never_booted / weight(at), 1),
                        "lost": round(record.lost / weight(at), 1),
                    }
                    for record in vendor.records[:MOST_GPUS]
                ],
                "jobsInThisRun": [
                    {
                        "status": job.status.value,
                        "progress": round(job.progress, 2),
                        "error": job.error_message or "",
                    }
                    for job in jobs[-MOST_JOBS:]
                ],
            },
            LONGEST_FIELD,
        )

    @tool
    async def job_status() -> str:
        """The status of this run's jobs."""
        jobs = await ledger.jobs.of_run(run)
        return fence_rows(
            [
                {
                    "vendorId": job.vendor_id,
                    "status": job.status.value,
                    "progress": round(job.progress, 2),
                    "minutesBought": job.minutes,
                }
                for job in jobs[-MOST_JOBS:]
            ]
        )

    return [list_quotes, vendor_history, job_status]
