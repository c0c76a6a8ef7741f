"""OpenTelemetry traces: a span for each step, tick → node → vendor and chain.

Spans go over OTLP/HTTP to OTEL_EXPORTER_OTLP_ENDPOINT, in batches and beside the work; without it
nothing of OpenTelemetry is loaded. A span has ids, names and statuses: no URL, header or message.
The vendors are sent no `traceparent`: what runs here is none of their business.

The SDK reads its further OTEL_* variables (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS,
OTEL_TRACES_SAMPLER …) from the environment itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from server.telemetry.logs import step_ids
from server.telemetry.metrics import outcome_of
from tools.wire.observer import Listener, Step

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

SERVICE: Final = "agentic-gpu-renter"
EXPORT_TIMEOUT_S: Final = 5.0
"""Seconds for one batch, and so for the last one, which a stop waits for."""
SOUND: Final = ("ok", "waiting", "running", "completed", "cancelled", "lease_held", "not_found")
"""Outcomes that are no error of the step; `failed` is one, of a run too."""


@asynccontextmanager
async def tracing(endpoint: str) -> AsyncIterator[Listener]:
    """A listener that sends spans to the collector at `endpoint`, until the block ends."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    address = f"{endpoint.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=address, timeout=EXPORT_TIMEOUT_S)
    resource = Resource.create(_service())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield spans(provider.get_tracer("gpu-renter"))
    finally:
        await asyncio.to_thread(provider.shutdown)


def _service() -> dict[str, str]:
    """What the spans' resource says of us, unless OTEL_SERVICE_NAME says otherwise."""
    import os

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    try:
        return {**named, "service.version": version(SERVICE)}
    except PackageNotFoundError:
        return named


def spans(tracer: Tracer) -> Callable[[Step], AbstractContextManager[None]]:
    """A listener that makes each step a span of `tracer`."""
    from opentelemetry.trace import SpanKind, Status, StatusCode

    @contextmanager
    def span_of(step: Step) -> Iterator[None]:
        outward = step.kind in ("vendor", "chain")
        with tracer.start_as_current_span(
            step.kind if step.kind == step.name else f"{step.kind} {step.name}",
            kind=SpanKind.CLIENT if outward else SpanKind.INTERNAL,
            record_exception=False,  # a message may repeat what a peer said
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                outcome = outcome_of(step)
                facts = {f"gpu_renter.{name}": value for name, value in step_ids(step).items()}
                span.set_attributes({**facts, "gpu_renter.outcome": outcome})
                if outward and "status" in step.facts:
                    span.set_attribute("http.response.status_code", step.facts["status"])
                if outcome not in SOUND:
                    span.set_status(Status(StatusCode.ERROR, outcome))

    return span_of
