"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from server.telemetry.watch import Telemetry


def metrics_routes(telemetry: Telemetry) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}},
    )
    async def metrics() -> Response:
        """Ticks, nodes, calls, and what the ledger holds; it answers with MongoDB away, too."""
        return Response(await telemetry.scrape(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
