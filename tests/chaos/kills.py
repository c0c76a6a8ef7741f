"""SIGKILL: real processes, killed at random moments while twenty runs spend money.

The agent's workers, the vendor with its facilitator, the chain and the MongoDB are programs of
their own here; each is killed and started again on the same data. In the end nobody tidies up:
one reconcile must find the ledger and the chain equal to the micro-dollar.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import SecretStr

from domain.ids import slot_nonce
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from mock_vendor.accounts import dev_address
from server.config.settings import Settings
from server.local.mongodb import find_program
from server.local.seed import seed_local
from server.wiring import Services, now, open_services
from tools.payments.chain import ChainReader, Transfer
from tools.payments.json_rpc import topic

ROOT: Final = Path(__file__).resolve().parent.parent.parent
GOAL: Final = "Fine-tune on an A100"
BUDGET: Final = "5"
READY_S: Final = 60
END_S: Final = 90
"""How long the runs have to end once the killing is over."""
LATE_S: Final = 700
USED: Final = topic("AuthorizationUsed(address,bytes32)")


@dataclass(slots=True)
class Killing:
    """What the campaign came to."""

    runs: int
    kills: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    payments: int = 0
    ledger_total: Usd = ZERO
    chain_total: Usd = ZERO
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """A process that can be killed and started again."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command),
                env=dict(self.env),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, to the program and whatever it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


async def kill_under_load(folder: Path, seed: int, *, runs: int = 20, kills: int = 50) -> Killing:
    """Run it. `folder` is empty and keeps the data and the logs."""
    rng, result = random.Random(seed), Killing(runs)
    ports = _free_ports(3)
    settings = _settings(folder, ports)
    programs = _programs(folder, ports, settings)
    run_ids = [f"killed_{seed}_{n}" for n in range(runs)]
    with ExitStack() as stack:
        for program in programs.values():
            stack.callback(program.kill)
            program.start()
        await _listening(ports)
        await _prepare(settings, run_ids)
        workers = _workers(folder, settings, run_ids)
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        everyone = [*programs.values(), *workers, *workers]  # the agent twice as often
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.2, 1.2))
            victim = rng.choice(everyone)
            victim.kill()
            result.kills[victim.name] += 1
            await asyncio.sleep(rng.uniform(0, 0.3))
            victim.start()
        await _until_ended(settings, workers, ports)
        for worker in workers:
            worker.kill()
        await _conclude(settings, run_ids, result)
    return result


def _settings(folder: Path, ports: Sequence[int]) -> Settings:
    mongo, chain, vendor = ports
    return Settings(
        data_dir=folder,
        mongodb_uri=SecretStr(f"mongodb://127.0.0.1:{mongo}/?directConnection=true"),
        chain_port=chain,
        rpc_url=f"http://127.0.0.1:{chain}",
        vendor_port=vendor,
        lease_seconds=3.0,
        max_exposure_usd=Usd.parse(100),  # its runs go side by side
    )


def _programs(folder: Path, ports: Sequence[int], settings: Settings) -> dict[str, Program]:
    mongo, chain, vendor = map(str, ports)
    config = folder / "secantusd.toml"
    config.write_text("")
    env = _environment() | {"FAIL_RATE": "0.3", "FAIL_VENDOR_ID": "", "REFUND_ON_FAILURE": "true"}
    python = [sys.executable, "-m", "mock_vendor"]
    secret = settings.gpu_vendor_secret.get_secret_value()
    commands = {
        "mongodb": [
            find_program(),
            "--sync-on-commit",
            "--config",
            str(config),
            "--storage-path",
            str(folder / "mongo"),
            "--host",
            "127.0.0.1",
            "--port",
            mongo,
        ],
        "chain": [*python, "chain", "--port", chain, "--data-dir", str(folder / "chain")],
        "vendor": [
            *python,
            "vendor",
            "--port",
            vendor,
            "--data-dir",
            str(folder / "vendor"),
            "--rpc-url",
            f"http://127.0.0.1:{chain}",
        ],
    }
    return {
        name: Program(name, command, env | {"GPU_VENDOR_SECRET": secret}, folder / f"{name}.log")
        for name, command in commands.items()
    }


def _workers(folder: Path, settings: Settings, run_ids: Sequence[str]) -> list[Program]:
    """Two, on the same runs: they compete, and each takes over what the other left."""
    uri = settings.mongodb_uri
    env = _environment() | {
        "MONGODB_URI": uri.get_secret_value() if uri else "",
        "RPC_URL": settings.chain_url,
        "CHAIN_PORT": str(settings.chain_port),
        "VENDOR_PORT": str(settings.vendor_port),
        "LEASE_SECONDS": "3",
        "DATA_DIR": str(folder),
        "LANGSMITH_TRACING": "false",
    }
    command = [sys.executable, "-m", "tests.chaos.worker"]
    orders = (list(run_ids), list(reversed(run_ids)))
    return [
        Program("agent", [*command, *order], env, folder / f"agent{n}.log")
        for n, order in enumerate(orders)
    ]


def _environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG")
    return {k: v for k, v in os.environ.items() if k in kept} | {"PYTHONPATH": str(ROOT)}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


async def _listening(ports: Sequence[int]) -> None:
    give_up = time.monotonic() + READY_S
    for port in ports:
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            if time.monotonic() > give_up:
                raise TimeoutError(f"nothing listens on port {port}")
            await asyncio.sleep(0.1)


async def _prepare(settings: Settings, run_ids: Sequence[str]) -> None:
    async with open_services(settings) as services:
        ledger = services.deps.ledger
        await seed_local(ledger.vendors, settings, now())
        for run_id in run_ids:
            await ledger.runs.create(run_id, "user_1", GOAL, Usd.parse(BUDGET), now())


async def _until_ended(
    settings: Settings, workers: Sequence[Program], ports: Sequence[int]
) -> None:
    """Let the runs end; move the chain's time on, so that what is unknown gets decided."""
    await _listening(ports)
    give_up = time.monotonic() + END_S
    while any(worker.running for worker in workers) and time.monotonic() < give_up:
        await asyncio.sleep(10)
        await _pass_time(settings, 100)


async def _pass_time(settings: Settings, seconds: int) -> None:
    async with httpx.AsyncClient() as http:
        for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            (await http.post(settings.chain_url, json=body)).raise_for_status()


async def _conclude(settings: Settings, run_ids: Sequence[str], result: Killing) -> None:
    await _pass_time(settings, LATE_S)
    async with open_services(settings) as services:
        await asyncio.sleep(settings.lease_seconds + 0.5)
        report = await services.deps.reconciler.reconcile()
        result.ledger_total, result.chain_total = report.ledger_total, report.chain_total
        if not report.ok or report.still_open or report.busy:
            result.broken.append(f"P3: reconcile reports {report}")
        for run_id in run_ids:
            run = await services.deps.ledger.runs.get(run_id)
            result.ended[run.status.value] += 1
            if not run.status.ended:
                newest = await services.deps.ledger.observations.newest(run_id, 3)
                said = [entry.note.content[:200] for entry in newest]
                result.broken.append(f"{run_id} has not ended in {END_S} s, {run.phase}: {said}")
            if run.reservations:
                result.broken.append(f"P3: {run_id} still holds {run.reservations}")
            if run.budget_remaining < ZERO:
                result.broken.append(f"P2: {run_id} is overdrawn")
        await _compare(services, settings, run_ids, result)


async def _compare(
    services: Services, settings: Settings, run_ids: Sequence[str], result: Killing
) -> None:
    """The chain's transfers, read anew, against each payment in the ledger."""
    ledger, agent = services.deps.ledger, services.deps.wallet.address
    payments = [p for run_id in run_ids for p in await ledger.payments.of_run(run_id)]
    paid = {
        (p.tx_id, p.pay_to, p.amount)
        for p in payments
        if p.state in (PaymentState.SETTLED, PaymentState.REFUNDED)
    }
    async with httpx.AsyncClient() as http:
        chain = ChainReader(settings.network, settings.chain_url, http)
        out = await chain.transfers(sender=agent, recipient=None, from_block=0)
        back: list[Transfer] = []
        for vendor in ("gpu_vendor_1", "gpu_vendor_2"):
            back += await chain.transfers(sender=dev_address(vendor), recipient=agent, from_block=0)
        used = await _nonces_used(http, settings.chain_url, agent)
    result.payments = len(out)
    if {(t.tx_hash, t.recipient, t.amount) for t in out} != paid or len(out) != len(paid):
        result.broken.append(f"P3: {len(out)} transfers left, the ledger has {len(paid)}")
    slots = {slot_nonce(run_id, n) for run_id in run_ids for n in range(50)}
    if len(used) != len(out) or set(used) - slots:
        result.broken.append(f"P1: {len(used)} authorizations used, {len(out)} transfers")
    refunded = sum((p.refunded for p in payments), ZERO)
    if refunded != sum((t.amount for t in back), ZERO):
        result.broken.append(f"P3: {refunded} refunded by the ledger, {len(back)} transfers back")
    spent = ZERO
    for run_id in run_ids:
        spent += (await ledger.runs.get(run_id)).spent
    if spent != sum((t.amount for t in out), ZERO) - sum((t.amount for t in back), ZERO):
        result.broken.append(f"P3: the runs spent {spent}, the chain says otherwise")


async def _nonces_used(http: httpx.AsyncClient, url: str, agent: str) -> list[str]:
    wanted: dict[str, Any] = {
        "fromBlock": "0x0",
        "topics": [USED, "0x" + agent[2:].lower().rjust(64, "0")],
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [wanted]}
    answer = (await http.post(url, json=body)).json()
    return [log["topics"][2] for log in answer["result"]]
