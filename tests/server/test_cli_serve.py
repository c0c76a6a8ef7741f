"""`gpu-renter serve` from start to end, however it ends, and the commands that talk to it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.networks import LOCAL
from server import cli
from server.local.running import services_file
from tests.support.served import DEADLINE_S, Served, alive, descendants, gpu_renter, until_gone
from tools.payments.chain import ChainReader, Transfer

GOAL = "Fine-tune a 7B model on an A100, under $5"
PAYEE = "0x819691aF81886Be3e92F197d1699dfFCfe7AB56A"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), {"FAIL_VENDOR_ID": "gpu_vendor_1"}) as server:
        yield server
        started = descendants(server.process.pid)
        assert server.terminate(signal.SIGINT) == 0
        until_gone(started)
        assert not services_file(server.folder / ".gpu-renter").exists()


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


Ask = Callable[..., Done]


@pytest.fixture
def ask(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command against the server, in its folder, in this process."""
    monkeypatch.chdir(served.folder)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = cli.run(list(arguments))
        return Done(status, *capsys.readouterr())

    return run


def start_run(server: Served) -> str:
    body = {"userId": "u1", "goal": GOAL, "budgetTotal": 5}
    return str(server.call("POST", "/api/agent-start", json=body).json()["_id"])


def status_of(server: Served, run_id: str) -> Any:
    return server.call("GET", "/api/agent-status", params={"runId": run_id}).json()


def transfers_to(server: Served, payer: str) -> list[Transfer]:
    """What has left the wallet, by the chain's own logs."""

    async def read() -> list[Transfer]:
        async with httpx.AsyncClient(trust_env=False) as http:
            chain = ChainReader(LOCAL, server.chain_url, http)
            return await chain.transfers(sender=payer, recipient=None, from_block=0)

    return asyncio.run(read())


def test_serve_says_what_is_in_force_and_what_it_started(served: Served) -> None:
    said = "".join(served.lines)

    for fact in ("embedded", "deterministic ranking", "eip155:31337", served.chain_url, served.url):
        assert fact in said
    assert "registered gpu_vendor_1 (FastGPU)" in said


def test_a_run_from_its_goal_to_its_end_on_the_command_line(ask: Ask) -> None:
    started = ask("start", GOAL, "--json")
    run_id = json.loads(started.stdout)["_id"]

    assert "Job started" in ask("tick", run_id).stdout
    assert "FastGPU" in (shown := ask("status", run_id).stdout)
    assert "gpu_vendor_1" not in shown
    watched = ask("watch", run_id, "--interval", "0")

    assert watched.returncode == 0, watched.stderr
    assert "Epoch 3/3" in watched.stdout
    assert "\x1b" not in watched.stdout, "no colours where there is no terminal"
    answer = json.loads(ask("status", run_id, "--json").stdout)
    assert [job["status"] for job in answer["jobs"]] == ["failed", "completed"]
    assert ask("tick", run_id).stdout == "Run already completed\n"
    assert ask("watch", run_id, "--json").returncode == 0


def test_a_run_that_does_not_complete_ends_the_watching_with_1(ask: Ask) -> None:
    started = ask("start", GOAL, "--budget", "0.10", "--json")

    watched = ask("watch", json.loads(started.stdout)["_id"], "--json", "--interval", "0")

    assert watched.returncode == 1
    assert json.loads(watched.stdout)["run"]["status"] == "failed"


@pytest.mark.parametrize("command", ["tick", "status", "watch"])
def test_an_unknown_run_is_4(ask: Ask, command: str) -> None:
    done = ask(command, "66a1f2c9d53a3f9ef1f0c123")

    assert done.returncode == 4
    assert "There is no run '66a1f2c9d53a3f9ef1f0c123'" in done.stderr


def test_the_doctor_finds_nothing_wrong_with_it(ask: Ask) -> None:
    done = ask("doctor", "--json")

    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert found["healthy"]
    names = {check["name"] for check in found["checks"]}
    assert {"MongoDB", "chain", "wallet", "vendor gpu_vendor_1", "planner"} <= names


def test_the_doctor_names_what_is_wrong_and_what_to_do(ask: Ask) -> None:
    """By what the server sees, whatever the command's own settings are."""
    options = ["--id", "away", "--endpoint", "http://127.0.0.1:1", "--price-per-hour", "9"]
    assert ask("vendors", "add", *options, "--gpu", "T4", "--no-secret").returncode == 0

    wrong = ask("doctor")

    assert ask("vendors", "remove", "away").returncode == 0
    assert wrong.returncode == 1
    assert "✓ server" in wrong.stdout
    assert "✗ vendor away" in wrong.stdout
    assert "→ " in wrong.stdout


def test_vendors_are_added_listed_and_removed_beside_a_running_server(ask: Ask) -> None:
    options = ["--id", "acme", "--endpoint", "http://127.0.0.1:1", "--price-per-hour", "9"]
    options += ["--gpu", "T4", "--pay-to", PAYEE, "--secret-env"]
    added = ask("vendors", "add", *options, "GPU_VENDOR_SECRET_ACME")

    assert added.returncode == 0, added.stderr
    assert "GPU_VENDOR_SECRET_ACME is not set here" in added.stderr
    assert ask("vendors", "add", *options, "GPU_VENDOR_SECRET_ACME").returncode == 5
    shared = ask("vendors", "add", "--replace", *options, "GPU_VENDOR_SECRET")
    assert shared.returncode == 5
    assert "the secret of gpu_vendor_1" in shared.stderr
    listed = json.loads(ask("vendors", "list", "--json").stdout)
    assert [v["vendorId"] for v in listed] == ["acme", "gpu_vendor_1", "gpu_vendor_2"]
    assert listed[0]["payTo"] == PAYEE
    assert listed[0]["secretEnv"] == "GPU_VENDOR_SECRET_ACME"
    assert ask("vendors", "remove", "acme").returncode == 0
    assert ask("vendors", "remove", "acme").returncode == 4
    assert len(json.loads(ask("vendors", "seed", "--json").stdout)) == 2


@pytest.mark.parametrize("port", [(), ("--port", "0")])
def test_a_second_server_on_the_folder_says_so_before_any_port(
    served: Served, ask: Ask, port: tuple[str, ...]
) -> None:
    done = ask("serve", *port)

    assert done.returncode == 2
    assert done.stdout == ""
    used = f"DATA_DIR: {served.folder / '.gpu-renter'} is in use by process {served.process.pid}"
    assert used in done.stderr
    assert "set DATA_DIR to another folder" in done.stderr


def test_a_second_server_on_another_folder_names_the_port_that_is_in_use(
    served: Served, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ask("serve")

    assert done.returncode == 2
    assert f"PORT: 127.0.0.1 port {served.ports[0]} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_a_local_service_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {"PORT": "0", "VENDOR_PORT": "0", "CHAIN_PORT": port}
        done = gpu_renter("serve", folder=tmp_path, env=env)

    assert done.returncode == 2
    assert f"CHAIN_PORT: port {port}" in done.stderr


def test_after_a_kill_in_the_middle_of_a_tick_and_between_two_each_job_is_paid_once(
    tmp_path: Path,
) -> None:
    # Nobody waits for a lease to run out: the test's deadline is before that.
    env = {"FAIL_VENDOR_ID": "gpu_vendor_1", "LEASE_SECONDS": "600"}
    with Served(tmp_path, env) as server:
        run_id = start_run(server)

        orphans = _kill_while_a_payment_is_open(server, run_id)
        server.start()  # beside what its predecessor started, on the same ports
        assert not any(map(alive, orphans))
        assert _tick(server, run_id) != "Run already completed"
        server.kill_all()
        server.start()
        messages = [_tick(server, run_id)]
        while not messages[-1].startswith(("Job completed", "Run ")):
            messages.append(_tick(server, run_id))

        answer = status_of(server, run_id)
        # Killed before it was signed, a payment is given up, and another one made.
        payments = [p for p in answer["payments"] if p["state"] != "released"]
        moved = transfers_to(server, payments[0]["payer"])
        started = descendants(server.process.pid)
        assert len(started) >= 6, "three services, each with its guard"
        assert server.terminate(signal.SIGTERM) == 0
        until_gone(started)

    assert answer["run"]["status"] == "completed", messages
    assert [p["state"] for p in payments] == ["settled"] * len(answer["jobs"]), payments
    assert sorted(t.tx_hash for t in moved) == sorted(p["x402TxId"] for p in payments)
    spent = sum(t.amount.micros for t in moved)
    assert round(answer["run"]["budgetRemaining"] * 1_000_000) == 5_000_000 - spent


def _kill_while_a_payment_is_open(server: Served, run_id: str) -> list[int]:
    """Tick, and kill the server once the ledger shows a payment and the tick is not done; what it
    leaves running for a while.
    """
    outcome: list[object] = []

    def tick() -> None:
        try:
            outcome.append(server.call("POST", "/api/agent-tick", json={"runId": run_id}))
        except httpx.HTTPError as error:
            outcome.append(error)

    ticking = threading.Thread(target=tick)
    ticking.start()
    while not status_of(server, run_id)["payments"] and not outcome:
        continue
    in_flight = not outcome
    orphans = server.kill_alone()
    ticking.join(DEADLINE_S)
    assert in_flight, "the tick was done before its payment was seen"
    return orphans


def _tick(server: Served, run_id: str) -> str:
    """One tick, which nobody who is dead keeps from the run."""
    answer = server.call("POST", "/api/agent-tick", json={"runId": run_id})
    return str(answer.raise_for_status().json()["message"])


def test_the_helper_knows_a_dead_process() -> None:
    assert not alive(2**22 + 1)
