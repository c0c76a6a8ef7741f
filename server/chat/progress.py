"""Answers about how runs go, and where their results are."""

from __future__ import annotations

from typing import Final

from domain.approvals import asked_for
from domain.goals import ASK_FOR_JOB
from domain.jobs import JobStatus
from domain.names import named
from graph.deps import Deps
from ledger.jobs import Job
from ledger.run import Run
from server.chat.replies import (
    APPROVE_OR_REJECT,
    Said,
    clean,
    money_of,
    vendor_names,
    waiting,
)
from server.chat.standstill import why_no_job
from tools.wire.untrusted import clean_text

_NEXT: Final = {
    "intake": "its goal is read first",
    "assess_budget": "its budget is looked at next",
    "choose_vendor": "a vendor is chosen next",
    "approve": "its payment waits for you",
    "pay": "a vendor is paid next",
    "launch": "a vendor is launching it",
    "recover": "another vendor is looked for",
}
"""A phase → what comes next, in words."""
LONGEST_GOAL_SHOWN: Final = 80
MOST_LISTED: Final = 10
"""Runs that are looked through for them: purchases of `gpu-renter pay` are among these."""


async def how_it_goes(deps: Deps, run: Run) -> Said:
    """Status, the jobs' progress, the money, and what waits for a person."""
    jobs, names = await deps.ledger.jobs.of_run(run), await vendor_names(deps)
    why = f" ({named(clean(run.reason), names)})" if run.reason else ""
    said = [f"Your run is {run.status.value}{why}."]
    if not run.status.ended:
        if run.cancel_requested:
            said.append("It is being cancelled.")
        elif not jobs:
            said.append(f"No job has started yet; {_NEXT.get(run.phase, 'it is about to')}.")
    if not jobs and (standstill := await why_no_job(deps, run, names)):
        said.append(standstill)
    if jobs:
        job = jobs[-1]
        said += [
            f"Before, it failed at {names[j.vendor_id]}{_because(j)}."
            for j in jobs[:-1]
            if j.status is not JobStatus.COMPLETED
        ]
        said.append(
            f"The job at {names[job.vendor_id]} is {job.status.value}, {job.progress:.0%} done "
            f"({job.minutes} minutes of {job.gpu_type} paid for)."
        )
        if job.error_message:
            said.append(f'It ended with "{clean(job.error_message)}".')
    said.append(money_of(run))
    approvals = await waiting(deps, run)
    for approval in approvals:
        said.append(
            f"Waiting for your approval: {asked_for([approval], names)}, paid to "
            f"{approval.pay_to}. To answer it, {APPROVE_OR_REJECT} ({approval.id})."
        )
    return Said(" ".join(said), "words", {"status": run.status.value}, bool(approvals))


async def list_runs(deps: Deps, user_id: str) -> Said:
    """The user's newest runs, each with its id, its state and its goal."""
    runs = await deps.ledger.runs.recent(user_id=user_id, limit=MOST_LISTED)
    if not runs:
        return Said(f"You have no runs yet. {ASK_FOR_JOB}")
    running = [run.id for run in runs if not run.status.ended]
    waits = await deps.ledger.approvals.pending_of(running, deps.now())
    lines = [
        f"- {run.id}, {'waits for you' if run.id in waits else run.status.value}: "
        f"{clean_text(run.goal, LONGEST_GOAL_SHOWN)}"
        for run in runs
    ]
    return Said("\n".join(["Your newest runs:", *lines]), data={"runIds": [r.id for r in runs]})


async def where_the_result_is(deps: Deps, run: Run) -> Said:
    """How to take the job's file, and where it was put; or why there is none."""
    jobs = await deps.ledger.jobs.of_run(run)
    done = next((j for j in jobs if j.artifact_path), None)
    if done is None:
        how = await how_it_goes(deps, run)
        return Said(f"There is no result yet. {how.text}", asks_approval=how.asks_approval)
    address = f"/api/agent-artifact?runId={run.id}"
    return Said(
        f'Take it with "Download the result" on the run\'s page, or with GET {address}. On the '
        f"server it is at {done.artifact_path} (sha256 {done.artifact_sha256}).",
        data={"address": address, "path": done.artifact_path, "sha256": done.artifact_sha256},
    )


def _because(job: Job) -> str:
    return f' with "{clean(job.error_message)}"' if job.error_message else ""
