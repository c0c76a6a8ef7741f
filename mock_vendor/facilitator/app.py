"""A facilitator's HTTP face: GET /supported, POST /verify, POST /settle; x402 v1 and v2 bodies."""

import logging
from typing import Any, Final, Protocol

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

from mock_vendor.accounts import LOCAL_NETWORK

_V1_NETWORKS: Final = {"local": LOCAL_NETWORK}
"""The local network's name in x402 v1, which has names where v2 has CAIP-2 ids."""
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
    """Return the ASGI app. An unreachable chain answers 503; a malformed body, or a network or
    scheme that is not taken, 400.
    """

    async def supported(_: Request) -> Response:
        return JSONResponse(_dump(facilitator.get_supported()))

    async def verify(request: Request) -> Response:
        return await _run(request, facilitator.verify, facilitator.get_supported())

    async def settle(request: Request) -> Response:
        return await _run(request, facilitator.settle, facilitator.get_supported())

    return Starlette(
        routes=[
            Route("/supported", supported, methods=["GET"]),
            Route("/verify", verify, methods=["POST"]),
            Route("/settle", settle, methods=["POST"]),
        ]
    )


async def _run(request: Request, operation: Any, kinds: SupportedResponse) -> Response:
    try:
        payload, requirements = parse_body(await request.json())
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        return JSONResponse({"error": f"malformed request: {error}"}, 400)
    if not _is_taken(kinds, requirements):
        return JSONResponse(
            {"error": f"network or scheme not taken here: {_asked(requirements)}"}, 400
        )
    try:
        return JSONResponse(_dump(await operation(payload, requirements)))
    except Exception as error:  # noqa: BLE001 - any failure to reach the chain means: unknown
        logger.warning("facilitator: %s failed: %r", request.url.path, error)
        return JSONResponse({"error": "the chain cannot be reached; ask again"}, 503)


def _is_taken(supported: SupportedResponse, requirements: PaymentRequirements) -> bool:
    asked = (requirements.scheme, requirements.network)
    return asked in {(kind.scheme, kind.network) for kind in supported.kinds}


def _asked(requirements: PaymentRequirements) -> str:
    return f"{requirements.scheme[:32]!r} on {requirements.network[:64]!r}"


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
        network=_V1_NETWORKS.get(old.network, old.network),
        asset=old.asset,
        amount=old.max_amount_required,
        pay_to=old.pay_to,
        max_timeout_seconds=old.max_timeout_seconds,
        extra=old.extra or {},
    )
    accepted = requirements.model_copy(
        update={
            "scheme": old_payload.scheme,
            "network": _V1_NETWORKS.get(old_payload.network, old_payload.network),
        }
    )
    return PaymentPayload(payload=old_payload.payload, accepted=accepted), requirements


def _dump(model: SupportedResponse | VerifyResponse | SettleResponse) -> Any:
    return model.model_dump(by_alias=True, exclude_none=True)
