"""Traces, as a collector gets them: tick → node → vendor and chain, and nothing secret."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from domain.ids import new_run_id
from domain.money import Usd
from server.config.settings import LOCAL_VENDOR_SECRET
from server.runner.tick import Ticker
from server.telemetry import traces
from server.telemetry.telemetry import Telemetry
from server.wiring import Services, now
from tests.support.stack import VendorAdmin
from tests.telemetry.collector import attributes, collector


def exporting(services: Services, endpoint: str) -> Services:
    return replace(
        services, settings=services.settings.completed(otel_exporter_otlp_endpoint=endpoint)
    )


async def run_to_its_end(services: Services) -> str:
    runs = services.deps.ledger.runs
    run = await runs.create(new_run_id(), "u1", "Fine-tune on an A100", Usd.parse(5), now())
    ticker = Ticker(services)
    for _ in range(20):
        if (await ticker.tick(run.id)).status.ended:
            return run.id
    raise AssertionError("the run does not end")


async def test_a_run_is_traced_from_tick_to_vendor_and_chain(services: Services) -> None:
    with collector() as kept:
        traced = exporting(services, kept.url)
        async with Telemetry().listening(traced):
            run_id = await run_to_its_end(traced)
            header = (await services.deps.ledger.payments.of_run(run_id))[0].header

        [sent] = [s for s in kept.named("vendor submit-job") if status(s) == 200]
        assert kept.ancestry(sent) == ["tick", "node launch", "vendor submit-job"]
        [asked] = [s for s in kept.named("vendor submit-job") if status(s) == 402]
        assert kept.ancestry(asked) == ["tick", "node pay", "vendor submit-job"]
        assert ["tick", "node launch", "chain authorization"] in [
            kept.ancestry(span) for span in kept.named("chain authorization")
        ]
        assert kept.ancestry(kept.named("vendor artifact")[0])[:2] == ["tick", "node monitor"]
        assert kept.paths == {"/v1/traces"}
        assert kept.services == {"agentic-gpu-renter"}

    facts = attributes(sent)
    assert facts["gpu_renter.run"] == run_id
    assert facts["gpu_renter.payment"].startswith("pay_")
    assert facts["gpu_renter.node"] == "launch"
    assert facts["gpu_renter.vendor"] in ("gpu_vendor_1", "gpu_vendor_2")
    assert header
    for secret in (LOCAL_VENDOR_SECRET, header, "http://", "Bearer"):
        assert secret.encode() not in b"".join(kept.posts)


def status(span: object) -> object:
    return attributes(span).get("http.response.status_code")  # type: ignore[arg-type]


async def test_a_vendor_that_fails_is_an_error_with_its_status(
    services: Services, vendor_admin: VendorAdmin
) -> None:
    await vendor_admin.set_faults(
        {"name": "error_before_settling", "vendorId": "gpu_vendor_1", "call": "quote"}
    )
    with collector() as kept:
        traced = exporting(services, kept.url)
        async with Telemetry().listening(traced):
            await run_to_its_end(traced)

        failed = [
            s for s in kept.named("vendor quote") if s.status.code == s.status.STATUS_CODE_ERROR
        ]

    assert {attributes(s)["gpu_renter.vendor"] for s in failed} == {"gpu_vendor_1"}
    assert {(attributes(s)["gpu_renter.outcome"], status(s)) for s in failed} == {("broken", 500)}


async def test_a_collector_that_takes_nothing_holds_up_neither_ticks_nor_the_stop(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "EXPORT_TIMEOUT_S", 0.1)  # less than the pause before a second try
    with collector(status=503) as busy:
        traced = exporting(services, busy.url)
        async with Telemetry().listening(traced):
            await run_to_its_end(traced)

    assert len(busy.posts) < len(busy.spans), "spans wait for each other, and no tick for them"
    assert len(set(busy.posts)) == len(busy.posts), "the stop waits for no second try"


def test_without_an_endpoint_no_exporter_is_loaded() -> None:
    look = (
        "import sys, server.telemetry.traces; "
        "print([m for m in sys.modules if m.startswith('opentelemetry.exporter')])"
    )

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
