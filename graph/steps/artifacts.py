"""The file that a job leaves: downloaded once it has completed, and again where that failed."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from domain.errors import VendorError, VendorGarbage, VendorRefused
from domain.jobs import JobStatus
from domain.journal import NoteType
from domain.reliability import Trouble
from graph.context import TickContext
from ledger.jobs import Job
from ledger.vendors import End

PATIENCE: Final = timedelta(hours=1)
"""How long after its end a job's file is asked for: one try may take many minutes."""
LATER: Final = (408, 425, 429)
"""Status codes that mean "not now"."""


async def fetch_artifact(context: TickContext, job: Job) -> Trouble | None:
    """Download the artifact. If that fails, the run completes all the same; the journal says why.

    Returns trouble where the file lacks the sha256 in the vendor's own final metrics.
    """
    if not job.artifact_url:
        return None
    try:
        return await _download(context, job, job.artifact_url)
    except (VendorError, OSError) as error:
        context.note(NoteType.ARTIFACT_FAILED, str(error)[:500], key=f"{job.id}:artifact_failed")
        return None


async def fetch_later(context: TickContext, job: Job) -> bool:
    """Try again what failed when the job completed; False while another try may succeed."""
    if job.status is not JobStatus.COMPLETED or not job.artifact_url or job.artifact_path:
        return True
    try:
        trouble = await _download(context, job, job.artifact_url)
    except (VendorError, OSError) as error:
        refused = isinstance(error, VendorRefused) and error.status_code not in LATER
        lasting = refused or isinstance(error, VendorGarbage)
        return lasting or context.deps.now() - job.updated_at >= PATIENCE
    if trouble:
        end = End(f"{job.id}:artifact", job.gpu_type, trouble)
        await context.ledger.vendors.record(job.vendor_id, end, context.deps.now())
    return True


async def _download(context: TickContext, job: Job, url: str) -> Trouble | None:
    """Raises VendorError and OSError."""
    artifact = await context.deps.vendors.download(
        job, url, job.vendor_job_id, context.deps.artifacts / context.run.id
    )
    await context.ledger.jobs.set_artifact(job.id, artifact.sha256, str(artifact.path))
    context.note(
        NoteType.ARTIFACT,
        f"Downloaded {artifact.path.name}, {artifact.size:,} bytes",
        key=f"{job.id}:artifact",
        sha256=artifact.sha256,
    )
    said = str(job.metrics.get("artifactSha256") or artifact.sha256)
    return None if said.lower() == artifact.sha256.lower() else Trouble.DISHONEST
