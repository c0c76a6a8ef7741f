"""A few right and wrong requests for each operation, drawn from the API's own document.

`python -m bench.fuzz` sends thousands.
"""

from __future__ import annotations

import asyncio

from bench.fuzz import ended_runs, fuzz, listening
from server.app import create_app
from server.wiring import Services
from tests.server.conftest import opening

EACH = 2


async def test_every_operation_answers_as_its_document_says(services: Services) -> None:
    run_ids = await ended_runs(services, count=1)
    app = create_app(opening(services), services.settings)
    async with listening(app) as url:
        report = await asyncio.to_thread(fuzz, url, run_ids, each=EACH, seed=1)

    assert report.failures == []
    described = {
        f"{method.upper()} {path}"
        for path, item in app.openapi()["paths"].items()
        for method in item
    }
    assert set(report.asked) == described
    assert {200, 400, 422} <= set(report.statuses)
