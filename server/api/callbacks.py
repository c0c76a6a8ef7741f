"""`POST /api/vendor-callback`: a vendor says that a job has moved, and its run is ticked at once.

Signed in the Standard Webhooks way with the secret that the agent shares with the vendor which the
callback names, and with no other vendor. Nothing that a callback says is believed: it makes the
run due, and the tick asks the vendor. A callback that was sent before, or is older than one that
came, changes nothing.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from domain.errors import NotFound
from server.api.documented import of_post
from server.keeper import Keeper
from server.middleware.http_errors import problem
from server.wiring import Services
from tools.vendors.secrets import VendorSecrets

TOLERANCE: Final = timedelta(minutes=5)
"""How far a callback's timestamp may be from our clock."""
LONGEST_ID: Final = 256
HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
UNSIGNED: Final = "The callback is not signed with the secret of the vendor it names, or is too old"
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["vendorId", "vendorJobId"],
                    "properties": {
                        "vendorId": {"type": "string"},
                        "vendorJobId": {"type": "string"},
                    },
                }
            }
        },
    },
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in HEADERS
    ],
}


def callback_routes(keeper: Keeper) -> APIRouter:
    """The address of `Deps.callback_url`."""
    router = APIRouter(prefix="/api")

    @router.post(
        "/vendor-callback",
        status_code=204,
        response_class=Response,
        responses=of_post(),
        openapi_extra=_BODY,
        tags=["vendors"],
    )
    async def vendor_callback(request: Request) -> Response:
        """Say that a job has moved. Signed as Standard Webhooks are, with the bytes of the secret
        that this very vendor was given as the key. The answer is the same whether there is such
        a job or not.
        """
        services = await keeper.services()
        body = await request.body()
        job = _job(body)
        if job is None:
            return problem(400, 'The body is not {"vendorId": "…", "vendorJobId": "…"}')
        secret = await _secret_of(services, *job)
        if secret is None:
            return problem(401, UNSIGNED)
        sent_at = verified(request.headers, body, secret, services.deps.now())
        if sent_at is None:
            return problem(401, UNSIGNED)
        await called_back(services, *job, sent_at)
        return Response(status_code=204)

    return router


async def _secret_of(services: Services, vendor_id: str, vendor_job_id: str) -> SecretStr | None:
    """The secret that the vendor signs with, as registered, or as at launch for a vendor removed
    since. None for one that has no secret.
    """
    ledger = services.deps.ledger
    try:
        name = (await ledger.vendors.get(vendor_id)).secret_env
    except NotFound:
        job = await ledger.jobs.of_vendor(vendor_id, vendor_job_id)
        name = job.secret_env if job else None
    return VendorSecrets(services.settings.vendor_secret_values()).named(name)


def verified(
    headers: Mapping[str, str], body: bytes, secret: SecretStr, now: datetime
) -> datetime | None:
    """When the callback was signed; None if not with `secret`, or not lately."""
    id_, stamp, signatures = (headers.get(name, "") for name in HEADERS)
    if not id_ or len(id_) > LONGEST_ID or not (stamp.isascii() and stamp.isdecimal()):
        return None
    try:
        sent_at = datetime.fromtimestamp(int(stamp), UTC)
        text = body.decode("utf-8")
    except (OverflowError, ValueError, OSError):
        return None
    if abs(now - sent_at) > TOLERANCE:
        return None
    expected = Webhook(secret.get_secret_value().encode()).sign(id_, sent_at, text)
    given = [one.encode("utf-8", "replace") for one in signatures.split(" ")]
    matches = [hmac.compare_digest(expected.encode(), one) for one in given]
    return sent_at if any(matches) else None


async def called_back(
    services: Services, vendor_id: str, vendor_job_id: str, sent_at: datetime
) -> bool:
    """Make the job's run due, if the callback is the newest; False where nothing changes."""
    ledger = services.deps.ledger
    job = await ledger.jobs.of_vendor(vendor_id, vendor_job_id)
    if job is None or not await ledger.jobs.called_back(job.id, sent_at):
        return False
    return await ledger.runs.schedule.make_due(job.run_id, services.deps.now())


def _job(body: bytes) -> tuple[str, str] | None:
    """The vendor's id and the job's, as the body names them."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    vendor_id, job_id = said.get("vendorId"), said.get("vendorJobId")
    if isinstance(vendor_id, str) and isinstance(job_id, str) and vendor_id and job_id:
        return vendor_id, job_id
    return None
