"""The command line on a terminal and off it: help, completion, colour, what `watch` draws."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from server import cli
from server.commands.chat import say
from server.terminal.output import Exit, working
from server.terminal.run_picture import picture, run_list
from tests.conftest import ROOT
from tests.support.served import COMMAND, free_ports

COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;)[0-9;]*m")


def commands(group: typer.Typer = cli.app, *above: str) -> Iterator[tuple[str, ...]]:
    """Every command with the groups that it is in."""
    for one in group.registered_commands:
        assert one.callback is not None
        yield (*above, (one.name or one.callback.__name__).replace("_", "-"))
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, *above, str(inner.name))


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_each_commands_help_has_an_example_and_its_exit_statuses(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "200"})

    assert shown.exit_code == 0
    assert "gpu-renter " + " ".join(command) in shown.output.partition("$ ")[2]
    assert "Exit status" in shown.output


@pytest.mark.parametrize("command", [(), *commands()], ids=lambda c: " ".join(c) or "gpu-renter")
def test_a_help_flows_at_eighty_columns(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "80"}).output
    words = shown.partition("Usage:")[2].partition("\n")[2].partition("╭")[0]
    lines = [line.strip() for line in words.splitlines()]

    for line, below in pairwise(lines):
        if line and below and not line.startswith("$") and not line.endswith("\\"):
            first = below.split()[0]
            assert len(f" {line} {first}") > 79, f"{line!r} is broken before {first!r}"
    for example, below in pairwise([*lines, ""]):
        if example.startswith("$"):
            broken = below and not below.startswith("$") and not example.endswith("\\")
            assert not broken, f"{example!r} goes on with {below!r}"


def test_what_the_environment_gives_by_default_is_in_the_help() -> None:
    shown = CliRunner().invoke(cli.app, ["status", "--help"], env={"COLUMNS": "200"}).output

    assert "[default: GPU_RENTER_URL, else this machine's, at PORT or 3000]" in shown


def test_the_page_about_the_command_line_knows_every_command_and_exit_status() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()

    for *_, name in commands():
        assert re.search(rf"^\| .*`(?:[a-z]+ )*{name}`", page, re.MULTILINE), name
    for status in Exit:
        assert re.search(rf"^\| (?:\d+, )?{status.value}\b", page, re.MULTILINE), status


def test_the_version_is_printed_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == Exit.OK
    assert re.fullmatch(r"gpu-renter \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(("typed", "offered"), [("st", {"start", "status"}), ("wal", {"wallet"})])
def test_a_shell_completes_commands(typed: str, offered: set[str]) -> None:
    asked = {
        "_GPU_RENTER_COMPLETE": "complete_bash",
        "COMP_WORDS": f"gpu-renter {typed}",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        COMMAND, env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) == offered


def on_a_terminal(*arguments: str, **env: str) -> bytes:
    """What a person sees: both streams on one pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        given = {**os.environ, "TERM": "xterm-256color", **env}
        given.pop("COLUMNS", None)
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=given, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # Linux's word for the end
                break
            if not more:
                break
            seen += more
        process.wait()
        return seen
    finally:
        os.close(ours)


def test_colours_are_for_terminals_and_not_with_no_color() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    asked = ("status", "some-run", "--url", url)

    assert COLOUR.search(on_a_terminal(*asked))
    plain = on_a_terminal(*asked, NO_COLOR="1")

    assert b"There is no server" in plain
    assert not COLOUR.search(plain)


def test_a_pipe_gets_no_control_codes_at_all() -> None:
    env = {**os.environ, "TERM": "xterm-256color"}
    for arguments in (["--help"], ["runs", "--url", f"http://127.0.0.1:{free_ports(1)[0]}"]):
        done = subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, check=False)
        assert b"\x1b" not in done.stdout + done.stderr


def test_progress_is_shown_to_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with working("Waiting"):
        pass
    assert capsys.readouterr() == ("", "")

    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with working("Waiting"):
        pass
    assert "Waiting …" in screen.getvalue()


def a_run(**changes: Any) -> dict[str, Any]:
    return {
        "_id": "514d02d5b059c94c0c191c22",
        "userId": "u1",
        "goal": "Fine-tune on an A100",
        "status": "running",
        "phase": "monitor",
        "budgetTotal": 5,
        "budgetRemaining": 3.6,
        "spent": 1.4,
        "createdAt": "2026-11-22T20:28:27.100Z",
        **changes,
    }


def drawn(renderable: Any, width: int = 100) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width).print(renderable)
    return screen.getvalue()


@pytest.mark.parametrize(
    ("phase", "here"),
    [("intake", "goal"), ("pay", "payment"), ("recover", "job"), ("monitor", "job")],
)
def test_a_running_runs_place_in_the_graph_is_marked(phase: str, here: str) -> None:
    shown = drawn(picture({"run": a_run(phase=phase), "jobs": [], "payments": []}))

    way = next(line for line in shown.splitlines() if "market" in line)
    assert f" {here} " in way
    assert ("recover" in way) is (phase == "recover")


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_runs_state_is_in_its_frame_however_long_its_goal(width: int) -> None:
    run = a_run(phase="approve") | {"goal": "Run my train.py " * 9}
    frame = drawn(picture({"run": run}), width).splitlines()[0]

    assert "  running · waiting for you " in frame
    assert "Run" in frame
    assert "…" in frame


def test_a_payment_that_waits_for_a_person_says_how_to_answer() -> None:
    what = "60 minutes of A100 at acme for $1.40 now; the whole job up to $4.20"
    waiting = {"state": "pending", "amount": 4.2, "vendorId": "acme", "what": what}
    job = {"vendorId": "acme", "status": "running", "progress": 0.5, "waitingFor": what}
    shown = drawn(picture({"run": a_run(), "approvals": [waiting], "jobs": [job]}))

    assert f"Waiting for your approval: {what}" in shown
    assert "more time waits for you" in shown
    assert "gpu-renter approve 514d02d5b059c94c0c191c22" in shown


def test_a_refund_is_shown_beside_its_payment() -> None:
    payment = {"vendorId": "acme", "amount": 1.4, "status": "completed", "refunded": 0.73}
    shown = drawn(picture({"run": a_run(), "payments": [payment]}))

    assert "$1.40, $0.73 back" in shown
    assert " back" not in drawn(picture({"run": a_run(), "payments": [payment | {"refunded": 0}]}))


def test_vendors_are_called_by_their_names() -> None:
    answer = {
        "run": a_run(),
        "vendorNames": {"gpu_vendor_1": "FastGPU"},
        "approvals": [{"state": "pending", "amount": 1.4, "vendorId": "gpu_vendor_1"}],
        "jobs": [{"vendorId": "gpu_vendor_1", "status": "running", "progress": 0.5}],
        "payments": [{"vendorId": "gpu_vendor_1", "amount": 1.4, "status": "completed"}],
        "observations": [{"type": "recovery", "content": "gpu_vendor_1 failed"}],
    }
    shown = drawn(picture(answer))

    assert "Waiting for your approval: $1.40 to FastGPU" in shown
    assert shown.count("FastGPU") == 4
    assert "gpu_vendor_1" not in shown


def test_a_run_is_one_line_of_a_usual_terminal() -> None:
    goal = "Fine-tune Llama 8B on an A100 for about two hours\nand keep it under $5, by tonight"
    runs = [
        a_run(goal=goal),
        a_run(goal=goal, phase="approve"),
        a_run(goal=goal, status="completed", spent=1234.5, budgetTotal=5000),
        a_run(goal=goal, waitingFor="60 more minutes of A100 at FastGPU for $1.40 now"),
    ]
    _, *lines = drawn(run_list(runs), 80).splitlines()

    assert len(lines) == len(runs)
    assert all("Fine-tune" in line and " …  " in line for line in lines[:3])
    for line in lines[:3]:
        shown = line.partition("Fine-tune")[2].partition(" …")[0].split()
        assert set(shown) <= set(goal.split()), "no word is broken"
    assert "waits for you" in lines[1]
    assert "$1,234.50 $5,000.00" in lines[2]
    assert "waits for you  60 more minutes" in lines[3]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_runs_are_listed_at_any_width(width: int) -> None:
    runs = [a_run(), a_run(_id="b" * 24, status="failed", goal="[red]x[/]")]
    shown = drawn(run_list(runs), width)

    assert all(len(line) <= width for line in shown.splitlines())
    assert "514d02d5b059c94c0c191c22" in shown
    assert "$1.40 $5.00" in shown
    assert "running" in shown
    assert "[red]" in shown.replace("\n", "")


DECIDED = {
    "planner": "ranking",
    "model": "some-model",
    "fallbackReason": "its choice is over the budget",
    "modelCalls": 2,
    "tokens": 4_321,
    "toolCalls": [
        {"name": "vendor_history", "args": '{"vendor_id": "gpu_vendor_1"}'},
        {"name": "rent", "args": "{}"},
    ],
}
HOW_DECIDED = (
    "Decided by the ranking, as a fallback: its choice is over the budget",
    "Model some-model: 2 calls, 4,321 tokens",
    'Looked up vendor_history {"vendor_id": "FastGPU"}',
)


def test_a_decision_is_shown_with_the_models_calls_tokens_and_fallback() -> None:
    entry = {"type": "agent_reasoning", "content": "Proceeding", "data": DECIDED}
    used = {"calls": 2, "tokensIn": 4_000, "tokensOut": 321, "cost": 0.0042}
    answer = {
        "run": a_run(model=used),
        "observations": [entry],
        "vendorNames": {"gpu_vendor_1": "FastGPU"},
    }

    text = drawn(picture(answer))

    assert all(line in text for line in HOW_DECIDED)
    assert "rent {}" not in text
    assert "Model   2 model calls, 4,000 tokens in, 321 out, $0.0042" in text


SAID = (
    "Of the four registered vendors two have an A100, and the cheaper of them lost a job today.\n"
    "- ReliableGPU: $1.80 an hour for A10, A100, H100, and RTX4090, and has a good record\n"
    "gpu-renter approve 514d02d5b059c94c0c191c22 --some-long-option-that-is-no-word-to-break"
)


def test_what_is_said_in_a_chat_is_broken_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    say(SAID)
    assert capsys.readouterr().out == SAID + "\n", "a pipe gets the lines as they are"

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    say(SAID)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(" ".join(lines).split()) == " ".join(SAID.split())
    assert all(len(line) <= 40 or " " not in line.strip() for line in lines)
    below = lines[lines.index(next(line for line in lines if line.startswith("- "))) + 1]
    assert below.startswith("  ")
