"""LangChain tools over what is known of vendors and of this run's jobs."""

from __future__ import annotations

from langchain_core.tools import BaseTool, tool

from ledger.ledger import Ledger
from ledger.runs import Run
from tools.fence import fence


def vendor_tools(ledger: Ledger, run: Run) -> list[BaseTool]:
    @tool
    async def list_quotes() -> str:
        """The quotes at hand for this job, with their ids and prices in dollars."""
        return fence(
            [
                {
                    "vendorId": offer.quote.vendor_id,
                    "quoteId": offer.quote.template_id,
                    "minutes": offer.quote.minutes,
                    "priceUsd": offer.quote.price.dollars(),
                }
                for offer in run.offers
            ]
        )

    @tool
    async def vendor_history(vendor_id: str) -> str:
        """What this run's jobs at one vendor came to, and its registered reliability."""
        vendor = await ledger.vendors.get(vendor_id)
        jobs = [job for job in await ledger.jobs.of_run(run.id) if job.vendor_id == vendor_id]
        return fence(
            {
                "vendorId": vendor.vendor_id,
                "registeredReliability": vendor.reliability,
                "jobsInThisRun": [
                    {"status": job.status.value, "error": (job.error_message or "")[:200]}
                    for job in jobs
                ],
            }
        )

    @tool
    async def job_status() -> str:
        """The status of this run's jobs."""
        jobs = await ledger.jobs.of_run(run.id)
        return fence(
            [
                {"vendorId": job.vendor_id, "status": job.status.value, "progress": job.progress}
                for job in jobs
            ]
        )

    return [list_quotes, vendor_history, job_status]
