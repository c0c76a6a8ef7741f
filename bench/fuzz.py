"""Fuzzing the API by its own OpenAPI document: every operation, right and wrong requests.

    python -m bench.fuzz [--requests 2000] [--seed N]

It starts the MongoDB, chain, vendors and API that it needs, prints a count for each operation, and
exits with 1 on a server error, or an answer that is not as the document says: its status, content
type, headers or body, a wrong request that is taken, a method that is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as drawn_by
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis.specs.openapi import checks

from bench.drawing import mend_drawing
from domain.money import Usd
from server.app import create_app
from server.config.settings import Settings
from server.local.seed import seed as seed_vendors
from server.wiring import Services, now, open_services
from tests.support.stack import chain_and_vendor, embedded_mongo

CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
]
"""Not `positive_data_acceptance`: a goal that no one could read, say, is refused though its schema
is right, and JSON Schema has no words for that.
"""
TIMEOUT_S: Final = 60.0
MOST_SHOWN: Final = 10


@dataclass(slots=True)
class Report:
    """What was asked, what was answered, and what was wrong."""

    asked: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.asked.total()


def fuzz(url: str, run_ids: list[str], *, each: int, seed: int = 0) -> Report:
    """Send `each` right and as many wrong requests to every operation at `url`.

    run_ids: runs that exist and have ended; a share of the requests names one of them. The same
    seed draws the same requests.
    """
    mend_drawing()
    report = Report()
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        session.trust_env = False
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:
                _fuzz(operation, mode, session, url, run_ids, each, seed, report)
    return report


def _fuzz(
    operation: Any,
    mode: schemathesis.GenerationMode,
    session: requests.Session,
    url: str,
    run_ids: list[str],
    each: int,
    seed: int,
    report: Report,
) -> None:
    """One operation, in one mode."""

    @drawn_by(seed)
    @settings(
        max_examples=each,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        known=st.one_of(st.none(), st.sampled_from(run_ids)),
    )
    def ask(case: Any, known: str | None) -> None:
        if known is not None and mode is schemathesis.GenerationMode.POSITIVE:
            _name(case, known)
        report.asked[operation.label] += 1
        answer = case.call(base_url=url, session=session, timeout=TIMEOUT_S)
        report.statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except AssertionError as wrong:
            report.failures.append(f"{operation.label} ({mode.value}): {wrong}")
        except BaseExceptionGroup as wrong:
            said = "; ".join(str(one) for one in wrong.exceptions)
            report.failures.append(f"{operation.label} ({mode.value}): {said}")

    try:
        ask()
    except Exception as error:  # noqa: BLE001 -- a request that cannot be drawn is a finding too
        if type(error).__name__ not in ("Unsatisfiable", "InvalidArgument"):
            report.failures.append(f"{operation.label} ({mode.value}): {error!r}")


def _name(case: Any, run_id: str) -> None:
    """Have a right request name a run that there is."""
    if isinstance(case.body, dict) and "runId" in case.body:
        case.body = {**case.body, "runId": run_id}
    if case.query and "runId" in case.query:
        case.query["runId"] = run_id


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The app in uvicorn, on a free port; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def ended_runs(services: Services, count: int = 3) -> list[str]:
    """A few runs that have ended, to be named."""
    from server.runner.tick import Ticker

    runs = services.deps.ledger.runs
    made = []
    for number in range(count):
        goal = "Fine-tune a 7B model on an A100"
        run = await runs.create(f"fuzz{number}", "u1", goal, Usd.parse(5), services.deps.now())
        await Ticker(services).tick(run.id)
        await runs.request_cancel(run.id, "for the fuzzer", services.deps.now())
        while not (await Ticker(services).tick(run.id)).status.ended:
            pass
        made.append(run.id)
    return made


async def play(asked: Settings, *, each: int, seed: int) -> Report:
    """Open everything, and fuzz it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        yield services

    async with open_services(asked) as services:
        await seed_vendors(services.deps.ledger.vendors, asked, now())
        run_ids = await ended_runs(services)
        async with listening(create_app(opened, asked)) as url:
            return await asyncio.to_thread(fuzz, url, run_ids, each=each, seed=seed)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="at least so many")
    parser.add_argument("--seed", type=int, default=None, help="[default: drawn and printed]")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    logging.basicConfig(level=logging.CRITICAL)
    begun, total, round_ = time.monotonic(), Report(), 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        uri = stack.enter_context(embedded_mongo(folder / "mongo"))
        local = stack.enter_context(chain_and_vendor(folder / "services"))
        asked = local.completed(
            mongodb_uri=SecretStr(uri), mongodb_db_name="fuzz", data_dir=folder / "data"
        )
        while total.requests < options.requests:
            each = max(5, options.requests // 20)
            report = asyncio.run(play(asked, each=each, seed=seed + round_))
            total.asked += report.asked
            total.statuses += report.statuses
            total.failures += report.failures
            round_ += 1
    for label, count in sorted(total.asked.items()):
        print(f"{count:>7}  {label}")
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(total.statuses.items()))
    print(
        f"{total.requests:>7}  requests in {time.monotonic() - begun:.0f} s, seed {seed}: {answers}"
    )
    for failure in total.failures[:MOST_SHOWN]:
        print(f"\n{failure}", file=sys.stderr)
    print(f"{len(total.failures)} failures")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
