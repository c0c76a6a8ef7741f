"""The vendor's HTTP face: the protocol's routes, authentication, and faults of the transport."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from x402.http import (
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
    FacilitatorConfig,
    HTTPFacilitatorClient,
)

from mock_vendor.facilitator.app import FacilitatorClient, create_facilitator_app
from mock_vendor.facilitator.facilitator import LocalFacilitator
from mock_vendor.vendor.admin import add_admin_routes
from mock_vendor.vendor.billing import PaymentFaults, Receipt
from mock_vendor.vendor.callbacks import Callbacks
from mock_vendor.vendor.faults import FaultBoard, FaultName
from mock_vendor.vendor.faulty_responses import dropped, oversized, slow
from mock_vendor.vendor.incoming import check_secret, read_json, required_text
from mock_vendor.vendor.problems import DroppedConnection, VendorError
from mock_vendor.vendor.service import VendorService, random_id
from mock_vendor.vendor.settings import VendorProfile, VendorSettings
from mock_vendor.vendor.store import Store
from mock_vendor.vendor.treasury import EvmTreasury, Treasury
from mock_vendor.vendor.workload import digest

PAID_CALLS = ("submit-job", "extend-job")
Sleep = Callable[[float], Awaitable[None]]


def default_facilitator(settings: VendorSettings) -> FacilitatorClient:
    """Return the facilitator that the settings name: a remote one, or our own on `rpc_url`."""
    if settings.x402_facilitator_url:
        return HTTPFacilitatorClient(FacilitatorConfig(url=settings.x402_facilitator_url))
    return LocalFacilitator.at(settings.rpc_url)


def create_app(
    settings: VendorSettings,
    *,
    facilitator: FacilitatorClient | None = None,
    treasury: Treasury | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Sleep = asyncio.sleep,
    new_id: Callable[[str], str] = random_id,
) -> FastAPI:
    """Return the vendor as an ASGI app; `app.state.service` is its VendorService.

    Without `facilitator` and `treasury` they are made from the settings. `sleep` is what hanging
    and dripping faults wait with.
    """
    folder = settings.vendor_data_dir
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    facilitator = facilitator or default_facilitator(settings)
    service = VendorService(
        settings,
        Store(folder / "vendor.sqlite" if folder else None),
        facilitator,
        treasury or EvmTreasury.at(settings.rpc_url),
        FaultBoard(settings.vendor_faults),
        clock,
        new_id,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beat = None
        if settings.pace == "clock":
            beat = asyncio.create_task(_keep_pace(service, settings, sleep))
        yield
        if beat:
            beat.cancel()
            with suppress(asyncio.CancelledError):
                await beat
        service.close()

    app = FastAPI(title="Mock GPU vendor", lifespan=lifespan, openapi_url=None)
    app.state.service = service
    _add_vendor_routes(app, settings, service, sleep)
    add_admin_routes(app, settings, service)
    app.mount("/facilitator", create_facilitator_app(facilitator))

    @app.exception_handler(VendorError)
    async def problem(_: Request, error: VendorError) -> Response:
        return JSONResponse(error.body, error.status, headers=error.headers)

    return app


def _add_vendor_routes(
    app: FastAPI, settings: VendorSettings, service: VendorService, sleep: Sleep
) -> None:
    async def hang() -> None:
        await sleep(settings.hang_s)

    async def serve(
        request: Request,
        call: str,
        operation: Callable[[VendorProfile, PaymentFaults], Awaitable[Response]],
    ) -> Response:
        check_secret(request, settings)
        vendor_id = request.headers.get("x-vendor-id")
        if not vendor_id:
            raise VendorError(400, "x-vendor-id is required")
        vendor = service.vendor(vendor_id)
        paying = PAYMENT_SIGNATURE_HEADER.lower() in request.headers
        strikes: Callable[[FaultName], bool] = partial(
            service.faults.strikes, vendor_id=vendor_id, call=call, paying=paying
        )
        settles = call in PAID_CALLS and vendor.rail == "x402"
        if strikes("refuse"):
            raise VendorError(403, "refused")
        if strikes("hang"):
            await hang()
            raise VendorError(503, "no answer")
        if strikes("redirect"):
            return Response(status_code=307, headers={"Location": f"/moved{request.url.path}"})
        if strikes("oversized_body"):
            return oversized(settings.oversized_bytes)
        if not settles and strikes("error_before_settling"):
            raise VendorError(500, "internal error")
        try:
            response = await operation(vendor, PaymentFaults(strikes, hang))
        except DroppedConnection:
            return dropped()
        except VendorError as problem:
            response = JSONResponse(problem.body, problem.status, headers=problem.headers)
        if not settles and strikes("error_after_settling"):
            raise VendorError(500, "internal error")
        if not settles and strikes("drop_response_after_settling"):
            return dropped()
        if call in PAID_CALLS and response.status_code == 402 and strikes("malformed_402"):
            return Response("<pay me>", 402, headers={"PAYMENT-REQUIRED": "*not base64*"})
        return slow(response, settings.drip_interval_s, sleep) if strikes("slow_drip") else response

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/quote")
    async def quote(request: Request) -> Response:
        async def operation(vendor: VendorProfile, _: PaymentFaults) -> Response:
            return JSONResponse(service.quote(vendor, await read_json(request)))

        return await serve(request, "quote", operation)

    @app.post("/submit-job")
    async def submit_job(request: Request) -> Response:
        async def operation(vendor: VendorProfile, faults: PaymentFaults) -> Response:
            body, header = await read_json(request), _payment_header(request)
            return _paid(await service.submit(vendor, body, header, str(request.url), faults))

        return await serve(request, "submit-job", operation)

    @app.post("/extend-job")
    async def extend_job(request: Request) -> Response:
        async def operation(vendor: VendorProfile, faults: PaymentFaults) -> Response:
            body, header = await read_json(request), _payment_header(request)
            return _paid(await service.extend(vendor, body, header, str(request.url), faults))

        return await serve(request, "extend-job", operation)

    @app.get("/job-status")
    async def job_status(request: Request) -> Response:
        async def operation(vendor: VendorProfile, _: PaymentFaults) -> Response:
            job_id = required_text(dict(request.query_params), "vendorJobId")
            return JSONResponse(await service.status(vendor, job_id, str(request.base_url)))

        return await serve(request, "job-status", operation)

    @app.post("/cancel-job")
    async def cancel_job(request: Request) -> Response:
        async def operation(vendor: VendorProfile, _: PaymentFaults) -> Response:
            return JSONResponse(await service.cancel(vendor, await read_json(request)))

        return await serve(request, "cancel-job", operation)

    @app.get("/artifacts/{job_id}/{name}")
    async def artifact(request: Request, job_id: str, name: str) -> Response:
        async def operation(vendor: VendorProfile, _: PaymentFaults) -> Response:
            data = service.artifact(vendor, job_id, name)
            etag = {"etag": f'"{digest(data)}"'}
            return Response(data, media_type="application/json", headers=etag)

        return await serve(request, "artifacts", operation)


def _payment_header(request: Request) -> str | None:
    return request.headers.get(PAYMENT_SIGNATURE_HEADER)


def _paid(receipt: Receipt) -> Response:
    headers = {PAYMENT_RESPONSE_HEADER: receipt.response_header} if receipt.response_header else {}
    if receipt.replayed:
        headers["x-idempotent-replay"] = "1"
    return JSONResponse(receipt.answer, headers=headers)


async def _keep_pace(service: VendorService, settings: VendorSettings, sleep: Sleep) -> None:
    async with httpx.AsyncClient() as http:
        callbacks = Callbacks(settings.gpu_vendor_secret, http)
        while True:
            await sleep(settings.clock_epoch_s)
            for job in await service.step_all():
                await callbacks.tell(job)
