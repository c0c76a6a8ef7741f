"""Dockerfile and .dockerignore, as far as they can be held to account without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from server.config.settings import variables
from tests.conftest import ROOT

OURS = {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, on one line."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = [line.partition(" ") for line in joined.splitlines()]
    return [(name, rest.strip()) for name, _, rest in split]


def given(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage."""
    found: list[tuple[str, str]] = []
    inside = False
    for word, rest in instructions():
        if word == "FROM":
            inside = rest.endswith(f" AS {name}")
        elif inside:
            found.append((word, rest))
    return found


def test_it_runs_as_nobody_in_particular() -> None:
    assert ("USER", "10001:10001") in stage("base")
    assert given("USER") == ["10001:10001"]
    assert [rest for rest in given("FROM") if rest.endswith(("AS agent", "AS local"))] == [
        "base AS local",
        "base AS agent",
    ]
    assert given("FROM")[-1] == "base AS agent", "the last stage is what `docker build .` makes"


def test_it_names_no_registry_and_no_floating_python() -> None:
    for image in (rest.split()[0] for rest in given("FROM")):
        exact = re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", image)
        assert exact or image in ("base", "build")
    for command in given("RUN"):
        assert not re.search(r"https?://|index-url|\.(io|com|org)\b", command)


def test_everything_is_installed_at_the_locks_versions() -> None:
    installs = [rest for rest in given("RUN") if "pip install" in rest]
    for command in installs:
        assert "--constraint versions.txt" in command or "--no-deps" in command
    assert len(installs) == 3


def test_what_it_copies_is_there_and_let_through() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for rest in given("COPY")
        if not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    }

    assert "*" in rules
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert not any(name.startswith(".") or name == "tests" for name in allowed)


def test_each_package_that_is_imported_is_in_it() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}

    assert packages <= {rest.split()[0] for rest in given("COPY")}


def test_it_sets_only_variables_that_are_read() -> None:
    [env] = given("ENV")[-1:]
    names = {pair.partition("=")[0] for pair in shlex.split(env)}

    assert names <= {*variables(), *OURS}
    assert "HOST=0.0.0.0" in env
    assert "DATA_DIR=/data" in env
    assert ("VOLUME", '["/data"]') in stage("base")


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_healthz(status: int, healthy: bool) -> None:
    [check] = given("HEALTHCHECK")
    _, *code = json.loads(check.partition("CMD ")[2])
    with answering(status) as (port, asked):
        env = {**os.environ, "PORT": str(port)}
        done = subprocess.run([sys.executable, *code], env=env, capture_output=True, check=False)

    assert (done.returncode == 0) is healthy
    assert asked == ["/healthz"]
