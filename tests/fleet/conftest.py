"""A real Redis for each test that asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.queues import RedisServer, find_redis


@pytest.fixture(scope="session")
def redis_program() -> str:
    """Skips where there is no Redis, with how to get it; in CI that is a failure."""
    try:
        return find_redis()
    except FileNotFoundError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture
def redis(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(redis_program, tmp_path)
    server.start()
    yield server
    server.kill()
