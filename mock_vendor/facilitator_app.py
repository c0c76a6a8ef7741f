"""A facilitator's HTTP face: GET /supported, POST /verify, POST /settle; x402 v1 and v2 bodies."""

import logging
from typing import Any, Protocol

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from x402 import (
    PaymentPayload,
    PaymentPayloadV1,
    PaymentRequirements,
    PaymentRequirementsV1,
)
from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

logger = logging.getLogger(__name__)


class FacilitatorClient(Protocol):
    """What the vendor needs of a facilitator; the x402 SDK's async `FacilitatorClient`."""

    def get_supported(self) -> SupportedResponse:
        """Return the kinds of payment it takes."""

    async def verify(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> VerifyResponse:
        """Tell whether a payment would settle now."""

    async def settle(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> SettleResponse:
        """Settle a payment. Raises when the outcome is unknown."""


def create_facilitator_app(facilitator: FacilitatorClient) -> Starlette:
    """Return the ASGI app. An unreachable chain answers 503, a malformed body 400."""

    async def supported(_: Request) -> Response:
        return JSONResponse(_dump(facilitator.get_supported()))

    async def verify(request: Request) -> Response:
        return await _run(request, facilitator.verify)

    async def settle(request: Request) -> Response:
        return await _run(request, facilitator.settle)

    return Starlette(
        routes=[
            Route("/supported", supported, methods=["GET"]),
            Route("/verify", verify, methods=["POST"]),
            Route("/settle", settle, methods=["POST"]),
        ]
    )


async def _run(request: Request, operation: Any) -> Response:
    try:
        payload, requirements = parse_body(await request.json())
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        return JSONResponse({"error": f"malformed request: {error}"}, 400)
    try:
        return JSONResponse(_dump(await operation(payload, requirements)))
    except Exception as error:  # noqa: BLE001 - any failure to reach the chain means: unknown
        logger.warning("facilitator: %s failed: %r", request.url.path, error)
        return JSONResponse({"error": "the chain cannot be reached; ask again"}, 503)


def parse_body(body: dict[str, Any]) -> tuple[PaymentPayload, PaymentRequirements]:
    """Read a /verify or /settle body; a v1 one is rewritten as the v2 it means.

    Raises KeyError, TypeError or pydantic's ValidationError when it is malformed.
    """
    if body.get("x402Version", 2) != 1:
        return (
            PaymentPayload.model_validate(body["paymentPayload"]),
            PaymentRequirements.model_validate(body["paymentRequirements"]),
        )
    old_payload = PaymentPayloadV1.model_validate(body["paymentPayload"])
    old = PaymentRequirementsV1.model_validate(body["paymentRequirements"])
    requirements = PaymentRequirements(
        scheme=old.scheme,
        network=old.network,
        asset=old.asset,
        amount=old.max_amount_required,
        pay_to=old.pay_to,
        max_timeout_seconds=old.max_timeout_seconds,
        extra=old.extra or {},
    )
    accepted = requirements.model_copy(
        update={"scheme": old_payload.scheme, "network": old_payload.network}
    )
    return PaymentPayload(payload=old_payload.payload, accepted=accepted), requirements


def _dump(model: SupportedResponse | VerifyResponse | SettleResponse) -> Any:
    return model.model_dump(by_alias=True, exclude_none=True)
