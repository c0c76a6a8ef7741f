"""A job's life: launched, run epoch by epoch within the paid time, paused, extended, ended."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from mock_vendor.vendor import workload
from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.records import Job, Quote
from mock_vendor.vendor.settings import VendorProfile, VendorSettings
from mock_vendor.vendor.store import Store

DEFAULT_EPOCHS: Final = 3
DEFAULT_SEED: Final = 0
PAID_TIME_RAN_OUT: Final = "paid time ran out"
NODE_LOST: Final = "GPU node lost"
CANCELLED: Final = "cancelled by the renter"
ARTIFACT_NAME: Final = "model.json"
CHECKPOINT_NAME: Final = "checkpoint.json"
_CLOCK_PAUSE_LIMIT_S: Final = 600.0
_TOLERANCE_MINUTES: Final = 1e-6


@dataclass(frozen=True)
class JobParams:
    """What of a request's `jobParams` this vendor understands."""

    epochs: int
    seed: int
    learning_rate: float
    total_hours: float | None


def read_params(raw: Any) -> JobParams:
    """Check `jobParams`. Raises VendorError (400)."""
    if not isinstance(raw, dict):
        raise VendorError(400, "jobParams is required")
    epochs, seed = raw.get("epochs", DEFAULT_EPOCHS), raw.get("seed", DEFAULT_SEED)
    if not _is_int(epochs) or not 1 <= epochs <= workload.MAX_EPOCHS:
        raise VendorError(400, f"jobParams.epochs must be 1 to {workload.MAX_EPOCHS}")
    if not _is_int(seed):
        raise VendorError(400, "jobParams.seed must be an integer")
    hours, rate = raw.get("totalHours"), raw.get("learningRate", workload.DEFAULT_LEARNING_RATE)
    if hours is not None and not is_positive(hours):
        raise VendorError(400, "jobParams.totalHours must be a positive number")
    if not is_positive(rate) or rate > 10:
        raise VendorError(400, "jobParams.learningRate must be a number above 0, at most 10")
    return JobParams(epochs, seed, float(rate), None if hours is None else float(hours))


def is_positive(value: Any) -> bool:
    """Tell whether a JSON value is a finite number above zero."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


class Jobs:
    """Runs the jobs of all vendors. The caller holds the job's lock around each method."""

    def __init__(
        self,
        store: Store,
        settings: VendorSettings,
        clock: Callable[[], float],
        new_id: Callable[[str], str],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._new_id = new_id

    def launch(
        self,
        quote: Quote,
        vendor: VendorProfile,
        body: dict[str, Any],
        payer: str,
        behaviour: str,
    ) -> Job:
        """Start the job of a paid quote. `body` is the submit-job request."""
        params = read_params(body.get("jobParams"))
        job = Job(
            job_id=self._new_id("job"),
            vendor_id=quote.vendor_id,
            quote_id=quote.quote_id,
            payer=payer,
            status="running",
            created_at=self._clock(),
            price_per_hour=int(quote.amount / quote.hours),
            paid_amount=quote.amount,
            paid_minutes=quote.hours * 60,
            total_minutes=(params.total_hours or quote.hours) * 60,
            epochs=params.epochs,
            training=workload.dump(workload.start(params.seed, params.learning_rate)),
            fail_after=max(1, params.epochs // 2) if self._is_doomed(vendor.vendor_id) else None,
            behaviour=behaviour,
            callback_url=str(body.get("callbackUrl") or ""),
            params=body["jobParams"],
        )
        line = f"Job {job.job_id} queued on {vendor.name} ({quote.gpu_type})"
        self._store.save_job(job, (line,))
        return job

    def extend(self, job: Job, minutes: float, amount: int) -> Job:
        """Add paid minutes. A job that has ended keeps its end."""
        extended = replace(
            job,
            paid_minutes=job.paid_minutes + minutes,
            paid_amount=job.paid_amount + amount,
            paused_polls=0,
            paused_since=None,
        )
        self._store.save_job(extended, (f"Paid for {minutes:g} more minutes",))
        return extended

    def cancel(self, job: Job) -> Job:
        """Stop a running job; any other is returned as it is."""
        if job.status != "running":
            return job
        stopped = replace(job, status="cancelled", error=CANCELLED)
        self._store.save_job(stopped, ("Cancelled by the renter",))
        return stopped

    def step(self, job: Job) -> Job:
        """Run one epoch if the job runs and its time is paid; record what happened."""
        stepped, lines = self._advance(job)
        if stepped != job or lines:
            self._store.save_job(stepped, lines)
        return stepped

    def _advance(self, job: Job) -> tuple[Job, tuple[str, ...]]:
        if job.status != "running":
            return job, ()
        if job.behaviour:
            return _misbehave(job)
        if job.fail_after is not None and job.epochs_done >= job.fail_after:
            error = f"{NODE_LOST} after epoch {job.epochs_done}/{job.epochs}"
            return replace(job, status="failed", error=error), (f"ERROR {error}",)
        needed = job.total_minutes * (job.epochs_done + 1) / job.epochs
        if needed > job.paid_minutes + _TOLERANCE_MINUTES:
            return self._pause(job)
        trained = workload.run_epoch(workload.load(job.training))
        done = job.epochs_done + 1
        finished = done == job.epochs and job.fail_after is None
        line = f"Epoch {done}/{job.epochs} loss={trained.losses[-1]:.4f}"
        return replace(
            job,
            training=workload.dump(trained),
            epochs_done=done,
            status="completed" if finished else "running",
            paused_polls=0,
            paused_since=None,
        ), (line, "Training completed") if finished else (line,)

    def _pause(self, job: Job) -> tuple[Job, tuple[str, ...]]:
        now = self._clock()
        since = now if job.paused_since is None else job.paused_since
        paused = replace(job, paused_polls=job.paused_polls + 1, paused_since=since)
        limit_s = self._settings.pause_limit_s
        if limit_s is None and self._settings.pace == "clock":
            limit_s = _CLOCK_PAUSE_LIMIT_S
        too_many = (
            self._settings.pace == "poll" and job.paused_polls > self._settings.pause_poll_limit
        )
        if too_many or (limit_s is not None and now - since > limit_s):
            ended = replace(paused, status="failed", error=PAID_TIME_RAN_OUT)
            return ended, (f"ERROR {PAID_TIME_RAN_OUT}",)
        line = (
            f"Paused: paid time used up ({job.trained_minutes:g} of {job.total_minutes:g} minutes "
            f"done, {job.paid_minutes:g} paid, until {paid_until(job)}); extend the job to go on"
        )
        return paused, (line,) if job.paused_since is None else ()

    def _is_doomed(self, vendor_id: str) -> bool:
        if vendor_id == self._settings.fail_vendor_id:
            return True
        drawn = random.Random(f"{self._settings.fail_seed} {self._store.job_count()}").random()
        return drawn < self._settings.fail_rate


def paid_until(job: Job) -> str:
    """Return the ISO time up to which the job's minutes are paid, counted from its launch."""
    moment = datetime.fromtimestamp(job.created_at + job.paid_minutes * 60, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def status_json(job: Job, logs: list[str], artifact_url: str) -> dict[str, Any]:
    """Render the answer of GET /job-status."""
    fake = job.behaviour == "fake_progress"
    progress = min(0.99, job.polls / 10) if fake else job.epochs_done / job.epochs
    answer: dict[str, Any] = {
        "status": "failed" if job.status == "cancelled" else job.status,
        "progress": round(min(0.99, progress) if job.status == "running" else progress, 4),
        "logs": logs,
        "estimatedRemainingMinutes": max(0, math.ceil(job.total_minutes - job.trained_minutes)),
        "costSoFar": round(job.price_per_hour * job.used_minutes / 60 / 1_000_000, 2),
        "paidUntil": paid_until(job),
        "paidMinutes": round(job.paid_minutes, 4),
        "usedMinutes": round(job.used_minutes, 4),
    }
    if job.error:
        answer["errorMessage"] = job.error
    if job.status == "completed":
        training = workload.load(job.training)
        sha256 = workload.digest(workload.artifact(training))
        answer["finalMetrics"] = workload.metrics(training) | {"artifactSha256": sha256}
        answer["artifactUrl"] = artifact_url
    return answer


def _misbehave(job: Job) -> tuple[Job, tuple[str, ...]]:
    polled = replace(job, polls=job.polls + 1)
    if job.behaviour == "never_boot":
        return polled, ("Booting GPU instance",) if job.polls == 0 else ()
    if job.behaviour == "fake_progress":
        return polled, (f"Epoch {polled.polls}/{job.epochs} loss=1.5000",)
    return polled, ()


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
