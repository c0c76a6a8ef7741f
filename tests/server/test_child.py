"""Child processes: ready when they say so, heard when they fail, and gone when we are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from domain.errors import ConfigError, DependencyDown
from server.local.child import ChildProcess
from server.local.guard import LOG_BYTES

SERVICE = """
import json, os, sys, time
print(json.dumps({"ready": True, "service": "test", "url": "http://127.0.0.1:1"}))
print(os.getpid(), flush=True)
time.sleep(600)
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVICE


def a_child(tmp_path: Path, script: str, *, grace_s: float = 5.0) -> ChildProcess:
    return ChildProcess(
        "the test service",
        [sys.executable, "-c", script],
        tmp_path / "logs" / "test.log",
        grace_s=grace_s,
    )


async def until(condition: Callable[[], bool], *, deadline_s: float = 10.0) -> None:
    """Poll what another process does: there is no event of it to await."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs: a zombie, which waits only to be reaped, does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def command_pid(log: Path) -> int:
    """The pid that SERVICE prints after its ready line."""
    lines = log.read_text().split() if log.exists() else []
    return next((int(line) for line in lines if line.isdigit()), 0)


async def test_a_service_is_started_when_it_prints_its_ready_line(tmp_path: Path) -> None:
    async with a_child(tmp_path, SERVICE) as child:
        ready = await child.start_service()

        assert ready["url"] == "http://127.0.0.1:1"
        assert child.running


async def test_an_orphan_may_be_given_less_time_than_a_child(tmp_path: Path) -> None:
    child = a_child(tmp_path, DEAF, grace_s=3600)
    child.orphan_grace_s = 0
    await child.start_service()
    await until(lambda: command_pid(child.log) > 0)
    assert child._guard is not None
    assert child._guard.stdin is not None
    child._guard.stdin.close()  # as our death does
    await until(lambda: not alive(command_pid(child.log)))
    await child.stop()


async def test_a_probe_may_say_when_the_command_is_ready(tmp_path: Path) -> None:
    asked = 0

    async def probe() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("connection refused")
        return asked == 3

    async with a_child(tmp_path, SERVICE) as child:
        await child.start(probe)

    assert asked == 3


async def test_a_stopped_command_is_gone(tmp_path: Path) -> None:
    child = a_child(tmp_path, SERVICE)
    await child.start_service()
    await until(lambda: command_pid(child.log) > 0)

    await child.stop()

    assert not alive(command_pid(child.log))
    assert not child.running
    await child.stop()


async def test_a_command_deaf_to_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = a_child(tmp_path, DEAF, grace_s=0.1)
    await child.start_service()
    await until(lambda: command_pid(child.log) > 0)

    await child.stop()

    assert not alive(command_pid(child.log))


async def test_a_command_that_exits_early_is_quoted_in_the_error(tmp_path: Path) -> None:
    script = "import sys; print('no such chain', file=sys.stderr); sys.exit(3)"

    with pytest.raises(DependencyDown) as caught:
        await a_child(tmp_path, script).start_service()

    assert "the test service" in str(caught.value)
    assert "status 3" in str(caught.value)
    assert "no such chain" in str(caught.value)


async def test_a_command_that_does_not_exist_is_named_in_the_error(tmp_path: Path) -> None:
    child = ChildProcess("the test service", ["/no/such/program"], tmp_path / "log")

    with pytest.raises(DependencyDown, match="cannot run /no/such/program"):
        await child.start_service()


async def test_a_command_that_is_never_ready_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    child = a_child(tmp_path, "import time; print('thinking', flush=True); time.sleep(600)")

    async def never() -> bool:
        return False

    with pytest.raises(DependencyDown, match=r"not ready within 0\.3 s"):
        await child.start(never, deadline_s=0.3)

    assert not child.running


async def test_the_caller_may_choose_the_error(tmp_path: Path) -> None:
    def failure(problem: str) -> ConfigError:
        return ConfigError("VENDOR_PORT", problem)

    with pytest.raises(ConfigError, match="VENDOR_PORT: it exited with status 1"):
        await a_child(tmp_path, "raise SystemExit(1)").start_service(failure=failure)


async def test_a_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    child = a_child(tmp_path, SERVICE)

    async def never() -> bool:
        return False

    start = asyncio.create_task(child.start(never))
    await until(lambda: command_pid(child.log) > 0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not child.running
    assert not alive(command_pid(child.log))


async def test_the_log_keeps_the_latest_output_within_its_bound(tmp_path: Path) -> None:
    loud = (
        "import sys\n"
        "for n in range(3 * 16):\n"
        "    sys.stdout.write('x' * 65_535 + chr(10))\n"
        "print('the end')\n"
    )

    with pytest.raises(DependencyDown, match="the end"):
        await a_child(tmp_path, loud).start_service()

    files = list((tmp_path / "logs").iterdir())
    assert {file.name for file in files} == {"test.log", "test.log.1"}
    assert all(file.stat().st_size <= LOG_BYTES for file in files)


OWNER = """
import asyncio, sys
from pathlib import Path
from server.local.child import ChildProcess
async def main():
    child = ChildProcess("it", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), grace_s=0.2)
    await child.start_service()
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def start_owner(script: str, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OWNER, script, str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def an_owner(log: Path, script: str) -> tuple[subprocess.Popen[str], int, int]:
    """A process that started a child, the guard's pid and the command's."""
    owner = start_owner(script, log)
    assert owner.stdout is not None
    guard = int(await asyncio.to_thread(owner.stdout.readline))
    await until(lambda: command_pid(log) > 0)
    return owner, guard, command_pid(log)


@pytest.mark.parametrize("script", [SERVICE, DEAF], ids=["obedient", "deaf to SIGTERM"])
async def test_a_command_does_not_outlive_an_owner_that_is_killed(
    tmp_path: Path, script: str
) -> None:
    owner, guard, command = await an_owner(tmp_path / "log", script)

    with owner:
        owner.kill()

    await until(lambda: not alive(command) and not alive(guard))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
async def test_a_command_does_not_outlive_its_guard_that_is_killed(tmp_path: Path) -> None:
    owner, guard, command = await an_owner(tmp_path / "log", DEAF)

    with owner:
        os.kill(guard, signal.SIGKILL)
        await until(lambda: not alive(command))
        owner.kill()


async def test_a_guard_stops_its_command_on_sigterm(tmp_path: Path) -> None:
    child = a_child(tmp_path, SERVICE)
    await child.start_service()
    await until(lambda: command_pid(child.log) > 0)
    assert child.pid is not None

    os.kill(child.pid, signal.SIGTERM)

    await until(lambda: not child.running)
    assert not alive(command_pid(child.log))
    assert child.returncode == 128 + signal.SIGTERM
    await child.stop()


async def test_ctrl_c_on_the_terminal_does_not_reach_the_command(tmp_path: Path) -> None:
    async with a_child(tmp_path, SERVICE) as child:
        await child.start_service()
        await until(lambda: command_pid(child.log) > 0)

        assert os.getpgid(command_pid(child.log)) != os.getpgrp()
        assert os.getsid(command_pid(child.log)) != os.getsid(0)


async def test_what_a_command_leaves_behind_is_killed_with_it(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)\n"
        "print('{\"ready\": true}', flush=True)\n"
        "time.sleep(600)"
    )
    child = a_child(tmp_path, parent)
    await child.start_service()
    grandchild = command_pid(child.log)

    await child.stop()

    await until(lambda: not alive(grandchild))


async def test_a_full_pipe_of_output_does_not_block_the_command(tmp_path: Path) -> None:
    loud = "print('x' * 300_000)\n" + SERVICE

    async with a_child(tmp_path, loud) as child:
        await child.start_service(deadline_s=10)


async def test_its_handle_belongs_to_no_event_loop(tmp_path: Path) -> None:
    child = a_child(tmp_path, SERVICE)

    await asyncio.to_thread(asyncio.run, child.start_service())
    assert child.running
    await asyncio.to_thread(asyncio.run, child.stop())

    assert not child.running
