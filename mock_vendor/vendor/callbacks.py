"""Telling the renter that a job has ended, where it gave an address: signed, best effort.

Signed in the Standard Webhooks way with the shared secret's bytes as the key. Only with pace
"clock": with pace "poll" a job moves when it is asked about, and there is nothing to tell.
"""

import json
import logging
import uuid
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from mock_vendor.vendor.records import Job

logger = logging.getLogger(__name__)
TIMEOUT_S = 5.0


class Callbacks:
    """Sends each callback once; a renter that misses it polls all the same."""

    def __init__(self, secret: SecretStr, http: httpx.AsyncClient) -> None:
        self._webhook = Webhook(secret.get_secret_value().encode())
        self._http = http

    async def tell(self, job: Job) -> bool:
        """Say that `job` has moved; whether the renter took it."""
        if not job.callback_url:
            return False
        body = json.dumps({"vendorId": job.vendor_id, "vendorJobId": job.job_id})
        id_, now = f"msg_{uuid.uuid4().hex}", datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(id_, now, body),
        }
        try:
            answer = await self._http.post(
                job.callback_url, content=body, headers=headers, timeout=TIMEOUT_S
            )
        except httpx.HTTPError as error:
            logger.warning("callback of %s not delivered: %s", job.job_id, type(error).__name__)
            return False
        return answer.is_success
