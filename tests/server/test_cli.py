"""The command line by itself: help, usage, exit statuses, one sentence for each error."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from domain import errors
from domain.money import Usd
from server import cli
from server.terminal.bars import budget_line, losses
from server.terminal.client import ServerClient, server_url
from server.terminal.output import Exit, exit_for
from server.terminal.run_picture import picture, run_list
from server.terminal.vendor_entry import vendor_entry
from server.terminal.watch import follow
from tests.support.served import free_ports, gpu_renter

COMMANDS = ("demo", "serve", "doctor", "start", "tick", "status", "watch", "vendor", "chain")
VENDOR_COMMANDS = ("list", "seed", "add", "remove")
TX_HASH = "0x" + "a" * 64
PAYEE = "0x819691aF81886Be3e92F197d1699dfFCfe7AB56A"
HEAVY = ("langgraph", "langchain_core", "web3", "cdp", "pymongo", "fastapi", "eth", "httpx")


def test_the_help_names_every_command_and_exit_status() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output

    assert all(command in shown for command in (*COMMANDS, "vendors"))
    assert "Exit status" in shown


@pytest.mark.parametrize(
    "command", [*((c,) for c in COMMANDS), *(("vendors", c) for c in VENDOR_COMMANDS)]
)
def test_each_command_has_an_example_in_its_help(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*command, "--help"])

    assert shown.exit_code == 0
    assert "$ gpu-renter" in shown.output


def test_the_help_loads_nothing_heavy() -> None:
    look = f"import sys, server.cli; print([m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "Train"], "--budget: the goal does not name one"),
        (["start", "Train on an A100 for $3 or $5"], "You named"),
        (["start", "Train on an A100, under $5000"], "which is a lot. To say that it is meant"),
        (["start", "Train", "--budget", "abc"], "'abc' is not an amount"),
        (["start", "Train", "--budget", "-5"], "-5 is negative. Give dollars above 0"),
        (["start", "Train", "--budget", "0"], "--budget: it must be above 0"),
        (["start", "  ", "--budget", "5"], "goal: it is empty"),
        (["start", "Train", "--budget", "5", "--url", "ftp://x"], "not an http(s) address"),
        (["nonsense"], "nonsense"),
        (["vendors", "add", "--id", "x"], "--endpoint"),
        (["chain", "--log-level", "loud"], "--log-level"),
        (["demo", "--svg", "no/such/folder.svg"], "there is no folder"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == Exit.USAGE

    problem = capsys.readouterr()
    assert said in problem.err
    assert problem.out == ""


def test_a_setting_that_cannot_be_used_is_2_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETWORK", "dogecoin")

    assert cli.run(["serve"]) == Exit.USAGE
    assert cli.run(["vendors", "list"]) == Exit.USAGE
    assert cli.run(["doctor"]) == Exit.FAILED

    assert "NETWORK: it is not a known network" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tick", "status", "watch"])
def test_no_server_is_3_and_says_how_to_start_one(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"

    assert cli.run([command, "some-run", "--url", url]) == Exit.DOWN

    problem = capsys.readouterr().err
    assert f"There is no server at {url}. Run: gpu-renter serve" in problem


@pytest.mark.parametrize(
    ("key", "why"), [("", "none is set"), ("gr_wrong", "is not known there, or was revoked")]
)
async def test_a_missing_or_unknown_key_is_told_as_to_somebody_at_a_terminal(
    key: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENTER_API_KEY", key)

    def refuse(_: httpx.Request) -> httpx.Response:
        said = "An API key is needed. Send Authorization: Bearer KEY"
        return httpx.Response(401, json={"error": said})

    async with ServerClient("http://127.0.0.1:3000", httpx.MockTransport(refuse)) as server:
        with pytest.raises(errors.InvalidInput) as caught:
            await server.status("some-run")

    said = str(caught.value)
    assert said.startswith("RENTER_API_KEY: the server at http://127.0.0.1:3000 asks for an API")
    assert why in said
    assert "Set RENTER_API_KEY" in said
    assert "gpu-renter keys create --owner" in said
    assert "Bearer" not in said
    assert "gr_wrong" not in said


@pytest.mark.parametrize(
    ("said", "field", "told"),
    [
        (
            "budgetTotal: the goal says $5.00 at most",
            {"field": "budgetTotal"},
            "--budget: the goal says $5.00 at most",
        ),
        ("goal: it is empty", {"field": "goal"}, "goal: it is empty"),
        ("Send it again: it was cut off", {}, "request: Send it again: it was cut off"),
    ],
)
async def test_what_the_server_refuses_is_named_as_it_was_given(
    said: str, field: dict[str, str], told: str
) -> None:
    answer = {"error": said, **field}
    refuse = httpx.MockTransport(lambda _: httpx.Response(400, json=answer))
    async with ServerClient("http://127.0.0.1:3000", refuse) as server:
        with pytest.raises(errors.InvalidInput) as caught:
            await server.status("some-run")
    assert str(caught.value) == told


def test_the_server_is_found_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPU_RENTER_URL", f"http://127.0.0.1:{free_ports(1)[0]}/")

    assert cli.run(["start", "Train", "--budget", "5"]) == Exit.DOWN
    assert "GPU_RENTER_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("set_", "url"),
    [
        ("", "http://127.0.0.1:3000"),
        ("PORT=4000", "http://127.0.0.1:4000"),
        ("PORT=0", "http://127.0.0.1:3000"),
        ("PORT=many", "http://127.0.0.1:3000"),
        ("PORT=4000\nGPU_RENTER_URL=https://renter.example/", "https://renter.example/"),
    ],
)
def test_the_server_is_the_one_that_serve_would_start_here(
    set_: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPU_RENTER_URL")
    Path(".env").write_text(set_)
    assert server_url() == url


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("x", "y"), Exit.USAGE),
        (errors.ConfigError("X", "y"), Exit.USAGE),
        (errors.NotFound("x"), Exit.NOT_FOUND),
        (errors.LeaseHeld("x"), Exit.CONFLICT),
        (errors.StoreDown("x"), Exit.DOWN),
        (errors.VendorUnreachable("v", "quote", "x"), Exit.DOWN),
        (errors.VendorGarbage("v", "quote", "x"), Exit.FAILED),
        (errors.RenterError("x"), Exit.FAILED),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error: errors.RenterError, status: Exit) -> None:
    assert exit_for(error) is status


def test_a_bug_is_one_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(cli, "app", broken)

    assert cli.run([]) == Exit.FAILED

    problem = capsys.readouterr().err
    assert "Unexpected: KeyError" in problem
    assert "Traceback" not in problem


def entry(**changes: Any) -> Any:
    given: dict[str, Any] = {
        "vendor_id": "acme",
        "name": "Acme",
        "endpoint": "https://gpu.acme.example/",
        "price_per_hour": "1.20",
        "reliability": 0.9,
        "gpu_types": ["A100", "A100"],
        "pay_to": PAYEE,
        "secret_env": "GPU_VENDOR_SECRET_ACME",
        "no_secret": False,
        "local": False,
    }
    return vendor_entry(**{**given, **changes})


def test_a_vendor_is_registered_as_typed() -> None:
    vendor = entry()

    assert (vendor.endpoint, vendor.gpu_types) == ("https://gpu.acme.example", ("A100",))
    assert (vendor.price_per_hour, vendor.pay_to) == (Usd.parse("1.20"), PAYEE)
    assert entry(endpoint="http://127.0.0.1:4001", local=True).endpoint == "http://127.0.0.1:4001"
    assert entry(pay_to=None).pay_to is None
    assert vendor.secret_env == "GPU_VENDOR_SECRET_ACME"
    assert entry(secret_env=None, no_secret=True).secret_env is None


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("vendor_id", "a b", "--id"),
        ("vendor_id", "", "--id"),
        ("name", "a\nb", "--name"),
        ("endpoint", "http://gpu.acme.example", "--endpoint"),
        ("endpoint", "https://user:pw@gpu.acme.example", "--endpoint"),
        ("endpoint", "https://", "--endpoint"),
        ("endpoint", "https://x:99999999", "--endpoint"),
        ("endpoint", "file:///etc/passwd", "--endpoint"),
        ("price_per_hour", "0", "--price-per-hour"),
        ("price_per_hour", "dear", "--price-per-hour"),
        ("gpu_types", [" "], "--gpu"),
        ("gpu_types", [], "--gpu"),
        ("pay_to", PAYEE.lower(), "--pay-to"),
        ("pay_to", PAYEE[:-1], "--pay-to"),
        ("pay_to", PAYEE[:-1] + "b", "--pay-to"),
        ("pay_to", "0x" + "0" * 40, "--pay-to"),
        ("secret_env", None, "--secret-env"),
        ("secret_env", "", "--secret-env"),
        ("secret_env", "X402_PRIVATE_KEY", "--secret-env"),
        ("secret_env", "CDP_API_KEY_SECRET", "--secret-env"),
        ("secret_env", "ACME_TOKEN", "--secret-env"),
        ("no_secret", True, "--secret-env"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_by_its_option(
    field: str, value: Any, option: str
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        entry(**{field: value})

    assert caught.value.field == option


def test_without_a_server_the_registry_is_opened_for_the_moment(tmp_path: Path) -> None:
    seeded = gpu_renter("vendors", "seed", folder=tmp_path, env={"VENDOR_PORT": "4123"})
    listed = gpu_renter("vendors", "list", folder=tmp_path)

    assert seeded.returncode == 0, seeded.stderr
    assert "gpu_vendor_2" in listed.stdout
    assert "http://127.0.0.1:4123" in listed.stdout


def test_seeding_is_for_the_local_network_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETWORK", "base-sepolia")
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1")
    monkeypatch.setenv("X402_PRIVATE_KEY", "0x" + "11" * 32)
    monkeypatch.setenv("GPU_VENDOR_SECRET", "s")

    assert cli.run(["vendors", "seed"]) == Exit.USAGE

    problem = capsys.readouterr().err
    assert "gpu-renter vendors add" in problem
    assert "1111" not in problem


def test_a_chain_port_in_use_is_named_by_chain_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = gpu_renter("chain", "--port", port, folder=Path.cwd())

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


def status_answer(status: str, spent: float = 0.0, lines: int = 0) -> dict[str, Any]:
    logs = [f"Epoch {n}/3 loss={3 - n}.0" for n in range(1, lines + 1)]
    return {
        "run": {
            "_id": "r1",
            "goal": "Train",
            "status": status,
            "phase": "monitor",
            "budgetTotal": 5,
            "budgetRemaining": 5 - spent,
        },
        "jobs": [{"vendorId": "acme", "status": status, "progress": lines / 3}],
        "payments": [
            {
                "vendorId": "acme",
                "amount": spent,
                "status": "completed",
                "x402TxId": "0x" + "a" * 64,
            }
        ],
        "observations": [
            {"seq": n, "type": "job_log", "content": line} for n, line in enumerate(logs, start=1)
        ],
    }


class ScriptedServer:
    """Answers each call with the next of its script; an error in it is raised."""

    def __init__(self, *ticks: Exception | None) -> None:
        self._ticks = list(ticks)
        self.ticked = 0

    async def tick(self, run_id: str) -> dict[str, Any]:  # noqa: ARG002
        problem = self._ticks.pop(0) if self._ticks else None
        if problem:
            raise problem
        self.ticked += 1
        return {"message": "Job still running"}

    async def status(self, run_id: str) -> dict[str, Any]:  # noqa: ARG002
        return status_answer("completed" if self.ticked == 3 else "running", 1.4, self.ticked)


def screen(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
async def test_watching_goes_on_to_the_end_through_busy_and_failing_ticks(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.terminal.watch.BUSY_WAIT_S", 0)
    server = ScriptedServer(errors.LeaseHeld("busy"), errors.StoreDown("down"))
    console = screen(terminal=terminal)

    last = await follow(server, "r1", interval_s=0, console=console)

    assert last["run"]["status"] == "completed"
    assert "Epoch 3/3" in shown_on(console)
    assert terminal or shown_on(console).count("Epoch 1/3") == 1, "each line once"


async def test_watching_calls_vendors_by_their_names() -> None:
    class Ended(ScriptedServer):
        async def status(self, run_id: str) -> dict[str, Any]:  # noqa: ARG002
            said = {"seq": 1, "type": "recovery", "content": "gpu_vendor_1 failed: out of memory"}
            names = {"gpu_vendor_1": "FastGPU"}
            return status_answer("completed") | {"observations": [said], "vendorNames": names}

    console = screen(terminal=False)

    await follow(Ended(), "r1", interval_s=0, console=console)

    assert "FastGPU failed: out of memory" in shown_on(console)
    assert "gpu_vendor_1" not in shown_on(console)


async def test_watching_gives_up_when_something_stays_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.terminal.watch.BUSY_WAIT_S", 0)
    server = ScriptedServer(*[errors.StoreDown("down")] * 5)

    with pytest.raises(errors.StoreDown):
        await follow(server, "r1", interval_s=0, quiet=True)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_status_is_legible_at_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(picture(status_answer("running", 1.4, 2)))

    text = shown_on(console)
    assert "$1.40" in text
    assert "0xaaaa…aaaa" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_a_status_calls_vendors_by_their_names() -> None:
    answer = status_answer("running", 1.4, 2) | {"vendorNames": {"acme": "Acme Cloud"}}
    console = Console(file=io.StringIO(), width=80)
    console.print(picture(answer))

    assert shown_on(console).count("Acme Cloud") == 2
    assert "following its job" in shown_on(console)


def test_a_list_of_runs_has_a_line_for_each_at_80_columns() -> None:
    goal = "Fine-tune a 7B model on an A100 for 2 hours, the cheapest that there is"
    one = {"goal": goal, "status": "running", "spent": 1.4, "budgetTotal": 5}
    listed = [
        one | {"_id": "a" * 24, "phase": "approve"},
        one | {"_id": "b" * 24, "phase": "monitor"},
        one | {"_id": "c" * 24, "status": "completed", "budgetTotal": 12_345.67},
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(run_list(listed))

    lines = shown_on(console).splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert all("Fine-tune" in line and "$1.40 $" in line for line in lines[1:])
    assert "waits for you" in lines[1]


def test_bars_are_never_wider_than_they_should_be() -> None:
    for spent, held in ((0, 0), (5, 0), (3, 2), (9, 9)):
        line = budget_line(Usd.parse(5), Usd.parse(spent), Usd.parse(held)).plain
        assert len(line.split("  ")[0]) == 28


def test_losses_begin_anew_with_each_training() -> None:
    first, second = ["Epoch 1/3 loss=9.0"], ["Epoch 1/3 loss=3.5", "x", "Epoch 2/3 loss=2"]

    assert losses([*first, *second]) == "3.5 → 2"


LEFT_OUT = ["train.py", "docker image pytorch/pytorch"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A server that starts the goal only with a yes: for each start, whether there was one."""
    asked: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        yes = json.loads(request.content).get("acceptNotUsed", False)
        asked.append(yes)
        if yes:
            return httpx.Response(200, json={"_id": "run_1", "notUsed": LEFT_OUT})
        problem = {"error": "no", "code": "goal_not_all_used", "notUsed": LEFT_OUT}
        return httpx.Response(409, json=problem)

    server = partial(ServerClient, transport=httpx.MockTransport(answer))
    monkeypatch.setattr("server.terminal.client.ServerClient", server)
    return asked


GOAL = "Run my train.py in docker image pytorch/pytorch on an A100 for 2 hours, under $5"


def test_a_goal_with_a_program_is_refused_where_nobody_can_be_asked(
    started: list[bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli.run(["start", GOAL]) == Exit.USAGE
    problem = capsys.readouterr().err
    assert "train.py, docker image pytorch/pytorch" in problem
    assert "--yes" in problem
    assert started == [False]


@pytest.mark.parametrize(
    ("typed", "status", "asked"),
    [("y\n", Exit.OK, [False, True]), ("n\n", Exit.FAILED, [False]), ("\n", Exit.FAILED, [False])],
)
def test_at_a_terminal_it_is_asked_and_starts_with_a_yes_alone(
    started: list[bool],
    typed: str,
    status: int,
    asked: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert cli.run(["start", GOAL]) == status
    told = capsys.readouterr()
    assert "Not used: train.py, docker image pytorch/pytorch." in told.err
    assert started == asked
    assert ("Started run run_1" in told.out) is asked[-1]


def test_a_yes_on_the_command_line_starts_it_and_says_what_is_left_out(
    started: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["start", GOAL, "--yes"]) == Exit.OK
    assert "Not used: train.py, docker image pytorch/pytorch." in capsys.readouterr().out
    assert started == [True]
