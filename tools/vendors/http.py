"""The vendor protocol over HTTP.

One answer becomes one value or one typed error. Calls that may carry a payment are sent exactly
once; only the reads (quote, job status, download) are retried, and once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import httpx

from domain.errors import (
    InvalidInput,
    VendorGarbage,
    VendorUnreachable,
)
from domain.jobs import MINUTES_PER_HOUR, JobSpec
from domain.mapping import Unfit
from domain.quotes import Quote, Vendor, VendorAddress
from tools.payments.challenge import read_challenge
from tools.vendors import answers, artifacts, fields
from tools.vendors.base import (
    Accepted,
    Artifact,
    CancelReport,
    Extended,
    JobOrder,
    JobReport,
    PaymentHeader,
    PaymentRequired402,
)
from tools.vendors.refusals import check_status
from tools.vendors.secrets import VendorSecrets
from tools.wire.canonical import canonical_json
from tools.wire.exchange import Answer, Limits, NoAnswer, exchange
from tools.wire.untrusted import Unreadable, clean_text, is_plain_id, parse_object

_MEBIBYTE: Final = 1024 * 1024
_HEADER_TEXT: Final = re.compile(r"[\x21-\x7e]{1,1024}", re.ASCII)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class VendorTimeouts:
    """Seconds. `total_s` bounds a whole call, `download_s` a whole download."""

    connect_s: float = 5.0
    read_s: float = 20.0
    total_s: float = 30.0
    download_s: float = 600.0


class HttpVendorClient:
    """`VendorClient` over one injected `httpx.AsyncClient`, which the caller closes."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        secrets: VendorSecrets,
        timeouts: VendorTimeouts | None = None,
        max_body_bytes: int = _MEBIBYTE,
        max_report_bytes: int = 8 * _MEBIBYTE,
        max_artifact_bytes: int = 1024 * _MEBIBYTE,
    ) -> None:
        """max_report_bytes: of a job's status, which has its whole log each time."""
        waits = timeouts or VendorTimeouts()
        self._http = http
        self._secrets = secrets
        self._limits = Limits(waits.connect_s, waits.read_s, waits.total_s, max_body_bytes)
        self._report_limits = replace(self._limits, body_bytes=max_report_bytes)
        self._artifact_limits = Limits(
            waits.connect_s, waits.read_s, waits.download_s, max_artifact_bytes
        )

    async def quote(self, vendor: Vendor, spec: JobSpec, minutes: int) -> Quote:
        """The vendor's binding price. See `VendorClient.quote`; retried once."""
        if minutes <= 0:
            raise InvalidInput("minutes", f"{minutes} is no time to rent for")
        asked: dict[str, object] = {
            "jobType": spec.job_type,
            "gpuType": spec.gpu_type,
            "maxHours": minutes / MINUTES_PER_HOUR,
        }
        if spec.gpu_count > 1:
            asked["jobMetadata"] = {"gpuCount": spec.gpu_count}

        async def ask() -> Quote:
            answer = await self._call(vendor, "quote", "POST", content=canonical_json(asked))
            more = (vendor.vendor_id, spec, minutes)
            return self._read(vendor, "quote", answer, answers.quote, *more)

        return await _retried(ask)

    async def submit_job(
        self,
        vendor: Vendor,
        order: JobOrder,
        *,
        payment: PaymentHeader | None = None,
        legacy_tx_id: str | None = None,
    ) -> Accepted | PaymentRequired402:
        """Submit once. See `VendorClient.submit_job`."""
        body = request_body(order, legacy_tx_id=legacy_tx_id)
        answer = await self._call(vendor, "submit-job", "POST", content=body, payment=payment)
        if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
            return self._payment_required(vendor, "submit-job", answer)
        claim = answers.payment_response(answer)
        return self._read(
            vendor,
            "submit-job",
            answer,
            lambda said, secrets: answers.accepted(said, secrets, claim),
        )

    async def extend_job(
        self,
        vendor: Vendor,
        vendor_job_id: str,
        minutes: int,
        *,
        payment: PaymentHeader | None = None,
    ) -> Extended | PaymentRequired402:
        """Prolong once. See `VendorClient.extend_job`."""
        body = canonical_json({"vendorJobId": vendor_job_id, "minutes": minutes})
        answer = await self._call(vendor, "extend-job", "POST", content=body, payment=payment)
        if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
            return self._payment_required(vendor, "extend-job", answer)
        claim = answers.payment_response(answer)
        return self._read(vendor, "extend-job", answer, answers.extended, vendor_job_id, claim)

    async def job_status(self, vendor: VendorAddress, vendor_job_id: str) -> JobReport:
        """Where the job stands. See `VendorClient.job_status`; retried once."""

        async def ask() -> JobReport:
            answer = await self._call(
                vendor, "job-status", "GET", params={"vendorJobId": vendor_job_id}
            )
            return self._read(vendor, "job-status", answer, JobReport.of)

        return await _retried(ask)

    async def cancel_job(self, vendor: VendorAddress, vendor_job_id: str) -> CancelReport:
        """End the job. See `VendorClient.cancel_job`."""
        body = canonical_json({"vendorJobId": vendor_job_id})
        answer = await self._call(vendor, "cancel-job", "POST", content=body)
        return self._read(vendor, "cancel-job", answer, CancelReport.of)

    async def download(
        self, vendor: VendorAddress, artifact_url: str, vendor_job_id: str, folder: Path
    ) -> Artifact:
        """Fetch the artifact to `folder`/<job>/<name>. See `VendorClient.download`; retried once.

        Raises VendorGarbage for an address outside the vendor's own origin (our secret goes
        nowhere else), a file above the limit, and bytes that contradict the `etag`'s sha256.
        """

        async def fetch() -> Artifact:
            try:
                url = artifacts.own_url(vendor.endpoint, artifact_url)
                path = artifacts.local_path(folder, vendor_job_id, url)
                return await artifacts.fetch(
                    self._http,
                    url,
                    path,
                    headers=self._headers(vendor, "artifact", None),
                    limits=self._artifact_limits,
                    check=lambda code: check_status(vendor, "artifact", code, str),
                )
            except Unreadable as error:
                raise VendorGarbage(vendor.vendor_id, "artifact", str(error)) from None
            except NoAnswer as error:
                raise VendorUnreachable(vendor.vendor_id, "artifact", str(error)) from None

        return await _retried(fetch)

    def __repr__(self) -> str:
        return "HttpVendorClient()"

    async def _call(
        self,
        vendor: VendorAddress,
        call: str,
        method: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        payment: PaymentHeader | None = None,
    ) -> Answer:
        """One exchange whose answer is 2xx, or 402 where a payment may be asked for."""
        headers = self._headers(vendor, call, payment)
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = await exchange(
                self._http,
                method,
                f"{vendor.endpoint.rstrip('/')}/{call}",
                limits=self._report_limits if call == "job-status" else self._limits,
                headers=headers,
                params=params,
                content=content,
            )
        except NoAnswer as error:
            raise VendorUnreachable(vendor.vendor_id, call, str(error)) from None
        except Unreadable as error:
            raise VendorGarbage(vendor.vendor_id, call, str(error)) from None
        payable = call in ("submit-job", "extend-job")
        if not (payable and answer.status_code == httpx.codes.PAYMENT_REQUIRED):
            check_status(
                vendor, call, answer.status_code, partial(answers.said, answer, self._secrets.texts)
            )
        return answer

    def _headers(
        self, vendor: VendorAddress, call: str, payment: PaymentHeader | None
    ) -> dict[str, str]:
        if not _HEADER_TEXT.fullmatch(vendor.vendor_id):
            raise InvalidInput("vendorId", "it is not printable ASCII", "Register it again")
        headers = {"x-vendor-id": vendor.vendor_id, "Accept": "application/json"}
        secret = self._secrets.of(vendor, call)
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        if payment is not None:
            headers[payment.name] = payment.value
        return headers

    def _read(
        self,
        vendor: VendorAddress,
        call: str,
        answer: Answer,
        read: Callable[..., Value],
        *more: object,
    ) -> Value:
        """read: takes the answer's JSON, our secrets, and `more`."""
        try:
            return read(parse_object(answer.body), self._secrets.texts, *more)
        except Unreadable as error:
            raise VendorGarbage(vendor.vendor_id, call, str(error)) from None
        except Unfit as error:
            problem = f"{error.field}: {error.problem}"
            raise VendorGarbage(vendor.vendor_id, call, problem) from None

    def _payment_required(
        self, vendor: VendorAddress, call: str, answer: Answer
    ) -> PaymentRequired402:
        challenge = read_challenge(
            answer.headers, answer.body, vendor_id=vendor.vendor_id, call=call
        )
        legacy_tx_id = answer.headers.get("x402-tx-id", "")
        # A challenge is kept, and goes back word for word in the payment that answers it.
        kept = f"{challenge.document.model_dump() if challenge else ''} {legacy_tx_id}"
        if fields.repeats_a_secret(kept, self._secrets.texts):
            raise VendorGarbage(vendor.vendor_id, call, "its 402 repeats our secret")
        reason = (challenge and challenge.error) or answers.said(answer, self._secrets.texts)
        return PaymentRequired402(
            challenge=challenge,
            legacy_tx_id=legacy_tx_id if is_plain_id(legacy_tx_id) else None,
            reason=clean_text(reason, answers.LONGEST_REASON, self._secrets.texts),
        )


def request_body(order: JobOrder, *, legacy_tx_id: str | None = None) -> bytes:
    """The exact body `submit_job` sends: canonical JSON, the same on every call and machine.

    Raises InvalidInput when the job's parameters are not JSON.
    """
    body: dict[str, object] = {
        "vendorJobTemplateId": order.template_id,
        "jobParams": dict(order.job_params),
    }
    if legacy_tx_id is not None:
        body["x402TxId"] = legacy_tx_id
    if order.callback_url is not None:
        body["callbackUrl"] = order.callback_url
    return canonical_json(body)


async def _retried(read: Callable[[], Awaitable[Value]]) -> Value:
    """`read`, once more after VendorUnreachable."""
    with suppress(VendorUnreachable):
        return await read()
    return await read()
