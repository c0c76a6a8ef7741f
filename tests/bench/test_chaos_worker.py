"""What a worker of the long campaign starts, it takes away again."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.chaos_worker import own_stage
from tests.chaos.stage import Stage
from tests.support.stack import FreshDatabase


async def test_a_stage_that_cannot_open_leaves_neither_its_folder_nor_its_mongodb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[FreshDatabase, Path]] = []

    def failing(database: FreshDatabase, artifacts: Path) -> None:
        seen.append((database, artifacts))
        raise RuntimeError("no stage")

    monkeypatch.setattr(Stage, "open", failing)

    with pytest.raises(RuntimeError, match="no stage"):
        async with own_stage():
            pytest.fail("it opened")

    [(database, artifacts)] = seen
    assert not artifacts.parent.exists()
    with pytest.raises(ConnectionRefusedError), socket.socket() as connection:
        connection.connect(("127.0.0.1", urlsplit(database.uri).port or 0))
