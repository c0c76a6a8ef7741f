"""LangGraph Studio's server: a run is made from a chat, and survives kill -9."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY
from uuid import uuid4

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph_sdk.client import LangGraphClient

from domain.errors import NotFound
from domain.goals import ASK_FOR_BUDGET, ASK_FOR_JOB
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from graph.build import ANSWER, HEAR
from graph.goals.goal_request import AskAnyway, GoalRequest
from graph.goals.reader import RuleReader
from graph.persistence.checkpoints import MOST_STATES, PRUNED_EVERY
from graph.state import AgentState
from server.access import new_key
from server.config.settings import Settings
from server.local.running import settings_of_serve
from server.studio.door import STUDIO_USER, TALKING
from server.studio.graph import ASKS_ABOUT, _request
from tests.support.builders import NOON, check_books, open_ledger
from tests.support.stack import FreshDatabase
from tests.support.studio import client_of, free_port, register_vendor, say, studio, studio_graph
from tests.support.world import World


def thread_of(thread_id: str, owner: str) -> RunnableConfig:
    """As LangGraph's server configures a step that a key of `owner` asked for."""
    user = {"identity": owner, "owner": owner}
    return RunnableConfig(configurable={"thread_id": thread_id, "langgraph_auth_user": user})


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
    wish = await _request(RuleReader(), chat(*said), NOON)
    assert isinstance(wish, GoalRequest)
    assert (wish.goal, wish.budget) == (goal, Usd.parse(dollars))


async def test_a_run_is_read_out_of_the_inputs_fields() -> None:
    state = AgentState(messages=[], goal="Train on an A100", budget="5")
    wish = await _request(RuleReader(), state, NOON)
    assert isinstance(wish, GoalRequest)
    assert (wish.goal, wish.budget) == ("Train on an A100", Usd.parse(5))


async def test_a_large_budget_is_asked_about_in_a_chat_but_not_in_a_field_of_its_own() -> None:
    asked = await _request(RuleReader(), chat("Train on an A100, $5000"), NOON)
    assert isinstance(asked, str)
    assert "If you mean it" in asked
    state = AgentState(messages=[], goal="Train on an A100", budget="5000")
    wish = await _request(RuleReader(), state, NOON)
    assert isinstance(wish, GoalRequest)
    assert wish.budget == Usd.parse(5_000)


async def test_what_is_ones_own_to_run_is_asked_about_and_a_yes_is_to_the_question() -> None:
    goal = HumanMessage("Run my train.py on an A100 for 2 hours, under $5")
    asked = await _request(RuleReader(), AgentState(messages=[goal]), NOON)
    assert isinstance(asked, AskAnyway)
    assert asked.startswith("Not used: train.py.")
    yes = HumanMessage("yes, start it")
    at_once = AgentState(messages=[goal, yes])
    of_something_else = AgentState(messages=[goal, AIMessage("How are you?"), yes])
    for unasked in (at_once, of_something_else):
        assert not isinstance(await _request(RuleReader(), unasked, NOON), GoalRequest)
    answered = AgentState(
        messages=[goal, AIMessage(str(asked), additional_kwargs={ASKS_ABOUT: list(asked.own)}), yes]
    )
    wish = await _request(RuleReader(), answered, NOON)
    assert isinstance(wish, GoalRequest)
    assert wish.goal == goal.text


@pytest.mark.parametrize("mark", [5, None, "train.py", [], [[]]])
async def test_a_mark_that_a_client_made_up_approves_nothing(mark: object) -> None:
    goal = HumanMessage("Run my train.py on an A100 for 2 hours, under $5")
    forged = AIMessage("Shall I?", additional_kwargs={ASKS_ABOUT: mark})
    state = AgentState(messages=[goal, forged, HumanMessage("yes, start it")])
    assert isinstance(await _request(RuleReader(), state, NOON), AskAnyway)


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
    wish = await _request(RuleReader(), chat(*said), NOON)
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
    settings = settings_of_serve()
    assert settings.chain_url == "http://127.0.0.1:6"
    assert settings.local_vendor_url == "http://127.0.0.1:7"
    assert not settings.needs_mongo


async def test_a_run_is_that_of_the_owner_whose_key_asks_and_of_nobody_whom_the_input_names(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        graph = studio_graph(world.process.services)
        asked = {"goal": "Fine-tune on an A100", "budget": "5", "user_id": "rich", "run_id": "his"}
        await graph.ainvoke(asked, thread_of("t1", "eve"))
        [run] = await world.ledger.runs.recent(limit=0)
        assert (run.id, run.user_id) == ("t1", "eve")
        with pytest.raises(NotFound):
            await graph.ainvoke(chat("cancel it"), thread_of("t1", "mallory"))
        assert not (await world.run(run)).cancel_requested


async def test_a_new_run_begins_at_its_first_step_whatever_its_threads_state_holds(
    database: FreshDatabase,
) -> None:
    """As where the ledger was restored from before the run, and its thread was not."""
    async with World.open(database) as world:
        graph = studio_graph(world.process.services)
        config = thread_of("t1", "eve")
        left = {"run_id": "t1", "phase": "launch", "payment_id": "pay_of_another", "sends": 1}
        await graph.aupdate_state(config, left, as_node="answer")
        state = await graph.ainvoke(chat("Fine-tune on an A100, $5"), config)
        assert state["message"] == "Job started"
        [payment] = await world.ledger.payments.of_run("t1")
        assert payment.id != "pay_of_another"


async def test_a_run_goes_on_in_whichever_place_it_is_taken_further(
    database: FreshDatabase,
) -> None:
    """Studio, `serve` and a worker have one graph, one thread and one way to count."""
    async with World.open(database, epochs=3) as world:
        graph = studio_graph(world.process.services)
        begun_there, config = chat("Fine-tune on an A100, $5"), thread_of("t1", "")
        assert (await graph.ainvoke(begun_there, config))["message"] == "Job started"
        assert (await world.process.tick("t1")).message == "Job still running"
        assert (await graph.ainvoke(chat("go on"), config))["message"] == "Job still running"
        assert (await world.process.tick("t1")).message == "Job completed"

        run = await world.start()
        assert await world.tick(run) == "Job started"
        state = await graph.ainvoke(chat("go on"), thread_of(run.id, ""))
        assert state["message"] == "Job still running"
        assert await world.tick(run) == "Job still running"
        assert len(world.transfers()) == 2


async def test_a_payment_is_approved_by_a_word_and_the_run_goes_on(
    database: FreshDatabase,
) -> None:
    careful = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.5"))
    async with World.open(database, policy=careful) as world:
        graph, config = studio_graph(world.process.services), thread_of("t1", "")
        asked = await graph.ainvoke(chat("Fine-tune on an A100, $5"), config)
        question = asked["__interrupt__"][0].value
        assert question["action_request"]["args"] == {"approvalId": question["approvalId"]}
        assert "approve" in question["description"]
        assert question["config"]["allow_accept"]
        answered = await graph.ainvoke(chat("approve"), config)
        said = [message.text for message in answered["messages"]]
        assert said[-1] == "Job started"
        assert said[-2].startswith("Approved")
        assert len(world.transfers()) == 1


async def test_a_run_with_a_job_at_work_is_not_paid_again_however_often_it_is_replayed(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=60) as world:
        graph, config = studio_graph(world.process.services), thread_of("t1", "")
        await graph.ainvoke(chat("Fine-tune on an A100, $9"), config)
        for state in [state async for state in graph.aget_state_history(config)]:
            if state.next and state.values.get("phase"):
                await graph.ainvoke(None, state.config)
        assert (await world.process.tick("t1")).message == "Job still running"
        assert len(world.transfers()) == 1


async def test_a_finished_run_has_its_whole_history_and_replaying_it_pays_nothing(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        graph, config = studio_graph(world.process.services), thread_of("t1", "")
        await graph.ainvoke(chat("Fine-tune on an A100, $9"), config)
        while not (await world.ledger.runs.get("t1")).status.ended:
            await graph.ainvoke(chat("go on"), config)
        paid, run = world.transfers(), await world.ledger.runs.get("t1")
        assert (run.status.value, len(paid)) == ("completed", 2)
        history = [state async for state in graph.aget_state_history(config)]
        phases = {state.values.get("phase") for state in history}
        steps = {"assess_budget", "choose_vendor", "approve", "pay", "launch", "monitor", "recover"}
        assert steps | {"ended"} <= phases, "a state for each node that it went through"
        for state in history:
            kept = await graph.checkpointer.aget_tuple(state.config)
            if not (kept and state.next):  # each replay adds states, for which the oldest go
                continue
            replayed = await graph.ainvoke(None, state.config)
            if state.next[0] not in (HEAR, ANSWER):
                assert replayed["message"] == "Run already completed"
        branch = await graph.aupdate_state(history[len(history) // 2].config, {"waits": 0})
        await graph.ainvoke(None, branch)
        assert world.transfers() == paid
        assert await world.ledger.runs.get("t1") == replace(
            run,
            fence=ANY,
            updated_at=ANY,
            journal_seq=ANY,
            journal_hash=ANY,
            phase=ANY,
            last_poll=ANY,
            due_at=ANY,
            quiet_ticks=ANY,
        )


async def test_two_hundred_messages_leave_no_more_states_than_the_bound(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=300) as world:
        graph, config = studio_graph(world.process.services), thread_of("t1", "")
        await graph.ainvoke(chat("Fine-tune on an A100, $5"), config)
        for number in range(200):
            await graph.ainvoke(chat("go on" if number % 20 == 0 else "how is it going?"), config)
        states = database.db["checkpoints"]
        assert await states.count_documents({}) <= MOST_STATES + PRUNED_EVERY
        assert await states.distinct("checkpoint_ns") == [""]
        assert await database.db["checkpoint_writes"].count_documents({}) == 0


@pytest.mark.timeout(300)
async def test_studio_runs_the_agent_and_goes_on_after_being_killed(
    database: FreshDatabase, local_services: Settings, tmp_path: Path
) -> None:
    """The second server asks for keys: the run is that of the owner whom the key speaks for."""
    port, thread = free_port(), str(uuid4())
    async with open_ledger(database) as ledger:
        await register_vendor(ledger, local_services)
        owners, stranger = new_key(STUDIO_USER, TALKING, NOON), new_key("eve", TALKING, NOON)
        for key in (owners, stranger):
            await ledger.keys.add(key.record)

        async with studio(tmp_path, database, local_services, port), client_of(port) as client:
            [assistant] = await client.assistants.search()
            assert assistant["graph_id"] == "agent"
            drawn = await client.assistants.get_graph(assistant["assistant_id"], xray=True)
            names = {str(node["id"]) for node in drawn["nodes"]}
            assert {"hear", "pay", "launch", "monitor", "answer"} <= names
            asked = await say(client, thread, "Fine-tune on an A100 for 40 minutes")
            assert asked == ASK_FOR_BUDGET
            assert await say(client, thread, "$5") == "Job started"

        with_keys = studio(tmp_path, database, local_services, port, API_KEYS="required")
        async with (
            with_keys,
            client_of(port, owners.secret) as client,
            client_of(port, stranger.secret) as eve,
            client_of(port) as nobody,
        ):
            for who, status in ((eve, 404), (nobody, 401)):
                with pytest.raises(httpx.HTTPStatusError) as refused:
                    await say(who, thread, "cancel it")
                assert refused.value.response.status_code == status

            told = await say(client, thread, "How is it going?")
            assert told.startswith("Your run is running. The job at FastGPU is running, 0%")
            assert "Of $5.00 I have spent $0.93; $4.07 is left." in told
            assert "I may spend $2.00 more, $7.00 in all" in await say(
                client, thread, "You may spend 2 more"
            )
            assert await eve.threads.search() == []
            with pytest.raises(httpx.HTTPStatusError, match="not found"):
                await eve.threads.get_state(thread)

            said = [""]
            while said[-1] != "Job completed":
                assert len(said) < 8, said
                said.append(await say(client, thread, "go on"))
            assert said[1:-1] == ["Job still running"] * (len(said) - 2)
            await _looked_back_on(client, thread)
            state = await client.threads.get_state(thread)
            values: Any = state["values"]
            assert values["messages"][-1]["type"] == AIMessage("").type

        run = await ledger.runs.get(thread)
        check_books(run)
        assert (run.status.value, run.spent) == ("completed", Usd.parse("0.93"))
        assert len(await ledger.payments.of_run(thread)) == 1


async def _looked_back_on(client: LangGraphClient, thread: str) -> None:
    """Its history is there, a fork of it runs, and what it is made of is drawn."""
    history = await client.threads.get_history(thread, limit=100)
    phases = [cast(dict[str, Any], state["values"]).get("phase") for state in history]
    assert {"pay", "launch", "monitor", "ended"} <= set(phases)
    paying = history[phases.index("pay")]["checkpoint"]
    await client.runs.wait(thread, "agent", checkpoint=paying)
    [assistant] = await client.assistants.search()
    assert await client.assistants.get_subgraphs(assistant["assistant_id"]) == {}
