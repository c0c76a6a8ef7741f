"""LangGraph Studio's server: a run is made from a chat, and survives kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph_sdk import get_client

from domain.goals import ASK_FOR_BUDGET, ASK_FOR_JOB
from domain.money import Usd
from domain.quotes import Vendor
from graph.reader import RuleReader
from graph.settings import Settings
from graph.state import AgentState
from graph.studio import _wish, studio_settings
from graph.wishes import AskAnyway, Wish
from mock_vendor.accounts import dev_address
from tests.conftest import ROOT
from tests.support.builders import NOON, check_books, open_ledger
from tests.support.stack import FreshDatabase

START_S = 25.0


def chat(*texts: str) -> AgentState:
    return AgentState(messages=[HumanMessage(text) for text in texts])


@pytest.mark.parametrize(
    ("said", "goal", "dollars"),
    [
        (
            ["Fine-tune a 7B model on an A100, under $5"],
            "Fine-tune a 7B model on an A100, under $5",
            "5",
        ),
        (["Train on 2 A100 for 3 hours", "12.50"], "Train on 2 A100 for 3 hours", "12.5"),
        (["Train on an A100", "take 7 dollars"], "Train on an A100 take 7 dollars", "7"),
        (["Train on an A100 for $9", "$4"], "Train on an A100 for $9", "4"),
    ],
)
async def test_a_run_is_read_out_of_a_chat(said: list[str], goal: str, dollars: str) -> None:
    wish = await _wish(RuleReader(), chat(*said), NOON)
    assert isinstance(wish, Wish)
    assert (wish.goal, wish.budget) == (goal, Usd.parse(dollars))


async def test_a_run_is_read_out_of_the_inputs_fields() -> None:
    state = AgentState(messages=[], goal="Train on an A100", budget="5")
    wish = await _wish(RuleReader(), state, NOON)
    assert isinstance(wish, Wish)
    assert (wish.goal, wish.budget) == ("Train on an A100", Usd.parse(5))


async def test_a_large_budget_is_asked_about_in_a_chat_but_not_in_a_field_of_its_own() -> None:
    asked = await _wish(RuleReader(), chat("Train on an A100, $5000"), NOON)
    assert isinstance(asked, str)
    assert "If you mean it" in asked
    state = AgentState(messages=[], goal="Train on an A100", budget="5000")
    wish = await _wish(RuleReader(), state, NOON)
    assert isinstance(wish, Wish)
    assert wish.budget == Usd.parse(5_000)


async def test_what_is_ones_own_to_run_is_asked_about_and_a_yes_is_to_the_question() -> None:
    goal = HumanMessage("Run my train.py on an A100 for 2 hours, under $5")
    asked = await _wish(RuleReader(), AgentState(messages=[goal]), NOON)
    assert isinstance(asked, AskAnyway)
    assert asked.startswith("Not used: train.py.")
    yes = HumanMessage("yes, start it")
    at_once = AgentState(messages=[goal, yes])
    of_something_else = AgentState(messages=[goal, AIMessage("How are you?"), yes])
    for unasked in (at_once, of_something_else):
        assert not isinstance(await _wish(RuleReader(), unasked, NOON), Wish)
    answered = AgentState(messages=[goal, AIMessage(str(asked)), yes])
    wish = await _wish(RuleReader(), answered, NOON)
    assert isinstance(wish, Wish)
    assert wish.goal == goal.text


@pytest.mark.parametrize(
    ("said", "question"),
    [
        (["Fine-tune a 7B model on an A100 for 2 hours"], ASK_FOR_BUDGET),
        (["$5"], ASK_FOR_JOB),
        ([], ASK_FOR_JOB),
        (["Train for 100 days, $5"], "I cannot use that: "),
        (["Train on an A100 for $0"], "A budget of $0"),
    ],
)
async def test_what_is_missing_is_asked_for(said: list[str], question: str) -> None:
    wish = await _wish(RuleReader(), chat(*said), NOON)
    assert isinstance(wish, str)
    assert wish.startswith(question)


def test_a_running_local_stack_is_found_through_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".gpu-renter"
    folder.mkdir()
    (folder / "services.json").write_text(
        '{"services": [{"name": "mongodb", "url": "mongodb://127.0.0.1:5", "pid": 1},'
        '{"name": "chain", "url": "http://127.0.0.1:6", "pid": 2},'
        '{"name": "vendor", "url": "http://127.0.0.1:7", "pid": 3}]}'
    )
    monkeypatch.setenv("DATA_DIR", str(folder))
    settings = studio_settings()
    assert settings.chain_url == "http://127.0.0.1:6"
    assert settings.local_vendor_url == "http://127.0.0.1:7"
    assert not settings.needs_mongo


@asynccontextmanager
async def studio(folder: Path, port: int, env: dict[str, str]) -> AsyncIterator[int]:
    """`langgraph dev` as a child, killed with SIGKILL in the end. Yields its process id."""
    command = [
        *(sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"),
        *("--host", "127.0.0.1", "--port", str(port), "--config", str(folder / "langgraph.json")),
    ]
    with (folder / "studio.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        await _answers(port, folder / "studio.log")
        yield child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def _answers(port: int, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(START_S):
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/ok")).status_code == 200:
                    return
            except httpx.TransportError:
                words = await asyncio.to_thread(log.read_text)
                assert "Traceback" not in words, words
            await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_studio_runs_the_agent_and_goes_on_after_being_killed(
    database: FreshDatabase, local_services: Settings, tmp_path: Path
) -> None:
    for name in ("domain", "graph", "ledger", "server", "tools", "langgraph.json"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    env = {
        **os.environ,
        "MONGODB_URI": database.uri,
        "MONGODB_DB_NAME": database.name,
        "RPC_URL": local_services.chain_url,
        "NO_COLOR": "1",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "no_proxy": "127.0.0.1",
    }
    port = free_port()
    async with open_ledger(database) as ledger:
        vendor = Vendor(
            vendor_id="gpu_vendor_1",
            name="FastGPU",
            endpoint=local_services.local_vendor_url,
            price_per_hour=Usd.parse("1.4"),
            reliability=0.9,
            gpu_types=("A100",),
            pay_to=dev_address("gpu_vendor_1"),
        )
        await ledger.vendors.put(vendor, NOON)

        async with studio(tmp_path, port, env), AsyncExitStack() as opened:
            client = await opened.enter_async_context(get_client(url=f"http://127.0.0.1:{port}"))
            [assistant] = await client.assistants.search()
            assert assistant["graph_id"] == "agent"
            drawn = await client.assistants.get_graph(assistant["assistant_id"], xray=True)
            names = {str(node["id"]) for node in drawn["nodes"]}
            assert {"desk", "agent:pay", "agent:launch", "agent:monitor"} <= names
            thread = (await client.threads.create())["thread_id"]
            asked = await say(client, thread, "Fine-tune on an A100 for 40 minutes")
            assert asked == ASK_FOR_BUDGET
            assert await say(client, thread, "$5") == "Job started"

        async with studio(tmp_path, port, env), AsyncExitStack() as opened:
            client = await opened.enter_async_context(get_client(url=f"http://127.0.0.1:{port}"))
            told = await say(client, thread, "How is it going?")
            assert told.startswith("Your run is running. The job at FastGPU is running, 0%")
            assert "Of $5.00 I have spent $0.93; $4.07 is left." in told
            assert "I may spend $2.00 more, $7.00 in all" in await say(
                client, thread, "You may spend 2 more"
            )
            said = [""]
            while said[-1] != "Job completed":
                assert len(said) < 8, said
                said.append(await say(client, thread, "go on"))
            assert said[1:-1] == ["Job still running"] * (len(said) - 2)
            state = await client.threads.get_state(thread)
            values: Any = state["values"]
            assert values["messages"][-1]["type"] == AIMessage("").type

        run = await ledger.runs.get(thread)
        check_books(run)
        assert (run.status.value, run.spent) == ("completed", Usd.parse("0.93"))
        assert len(await ledger.payments.of_run(thread)) == 1


async def say(client: Any, thread: str, text: str) -> str:
    """One chat message, and the agent's answer.

    The server forgets a thread that it made just before it was killed; its checkpoints are kept.
    """
    given = {"messages": [{"role": "user", "content": text}]}
    values = await client.runs.wait(thread, "agent", input=given, if_not_exists="create")
    assert "__error__" not in values, values
    return str(values["messages"][-1]["content"])
