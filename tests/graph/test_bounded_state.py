"""What a checkpoint and a prompt hold stays bounded, however long a run is ticked and talked to.

Tokens are counted from above: a byte-level tokenizer never makes more tokens of a text than it
has bytes in UTF-8, and the frame around a message is taken as 16 tokens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import cast

import bson
import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig

from domain.goals import LONGEST_GOAL
from domain.utterance import Utterance
from graph.context import TickContext
from graph.goals.goal_request import understand
from graph.goals.reader import goal_prompt, question_prompt
from graph.persistence.checkpoints import MOST_STATES, PRUNED_EVERY
from graph.persistence.transcripts import Transcripts, session_of
from graph.persistence.window import MOST_BYTES, MOST_MESSAGES, window
from graph.state import AgentState
from ledger.drafts import MOST_SAID
from mock_vendor.vendor.workload import MAX_EPOCHS
from tests.support.chatting import person
from tests.support.stack import FreshDatabase
from tests.support.world import World
from tools.vendors.base import JobReport, VendorClient

LONG = os.environ.get("LONG") == "1"
"""`make chaos` goes the whole way; an ordinary run goes far enough to see that nothing grows."""
TICKS = 500 if LONG else 120
CHATS = 200 if LONG else 40
MOST_STATE = 32 * 1024
MOST_TOKENS = 8_000
FRAME_TOKENS = 16
NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)


def most_tokens(prompt: Sequence[BaseMessage]) -> int:
    return sum(len(str(message.content).encode()) + FRAME_TOKENS for message in prompt)


class TalkativeVendor:
    """Answers each poll at once: the job still runs, and has written one more long line."""

    def __init__(self, report: JobReport) -> None:
        self.report = report
        self.polls = 0

    async def job_status(self, *_: object) -> JobReport:
        self.polls += 1
        lines = (*self.report.logs, "epoch done, loss=1.5 " * 40)
        self.report = replace(self.report, progress=min(0.5, self.polls / 1000), logs=lines)
        return self.report


@pytest.mark.timeout(300)
async def test_many_ticks_and_messages_leave_the_checkpoint_small(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=MAX_EPOCHS) as world:
        run, me = await world.start("Train on an A100 for 1 hour", 100), person(world)
        await world.tick_until(run, "Job started")
        sizes = [await _monitored(world, run.id, n) for n in (20, TICKS - 20)]
        for number in range(CHATS):
            words = "how is it going? " + "and why? " * (number % 200)
            assert "Of $100.00 I have spent" in await me.told(words, run.id)
        sizes.append(await _monitored(world, run.id, 1))

        transcripts = Transcripts.beside(world.process.services.checkpoints.saver)
        kept = await transcripts.last(session_of("user_1", run.id), 10 * CHATS)
        assert len(kept) == 2 * CHATS, "the transcript has all that the window forgets"
        prompt = question_prompt("how is it going? " * 200, kept)
    print(
        f"\ncheckpoint after 20 ticks, {TICKS} ticks, and {CHATS} messages: {sizes} bytes; "
        f"prompt at most {most_tokens(prompt)} tokens"
    )
    assert max(sizes) < MOST_STATE
    assert sizes[1] < sizes[0] + 500, "it does not grow with the ticks"
    assert most_tokens(prompt) < MOST_TOKENS


async def _monitored(world: World, run_id: str, ticks: int) -> int:
    """Tick through the graph alone, under one lease, and at last in full, as every tick is; what
    MongoDB keeps of the thread then.
    """
    services = world.process.services
    job = await world.job(await world.ledger.runs.get(run_id))
    report = await services.deps.vendors.job_status(job, job.vendor_job_id)
    vendor = TalkativeVendor(report)
    deps = replace(services.deps, vendors=cast(VendorClient, vendor))
    run, lease = await deps.ledger.runs.acquire(run_id, deps.now, 3600)
    context = TickContext(deps, run, lease)
    config = RunnableConfig(configurable={"thread_id": run_id})
    chatter = Random(ticks)  # words that no storage can make smaller
    for tick in range(1, ticks + 1):
        said: list[AnyMessage] = [
            HumanMessage(chatter.randbytes(800).hex()),
            AIMessage("Job still running"),
        ]
        begin = AgentState(run_id=run_id, cancel=False, messages=said)
        state = await services.graph.ainvoke(begin, config, context=context, durability="sync")
        assert state["message"] == "Job still running", (tick, state)
    assert vendor.polls == ticks
    assert any("Job still running" in m.text for m in state["messages"])
    await deps.ledger.runs.release(lease, deps.now(), context.last_fields())
    assert await world.tick(run) == "Job still running"
    return await _stored(world, run_id)


async def _stored(world: World, run_id: str) -> int:
    """The bytes of the largest state that MongoDB keeps for the run's thread."""
    db, thread = world.database.db, {"thread_id": run_id}
    states = [len(bson.encode(state)) async for state in db["checkpoints"].find(thread)]
    assert len(states) <= MOST_STATES + PRUNED_EVERY
    assert await db["checkpoint_writes"].count_documents(thread) == 0
    return max(states)


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀", "<", "\u202e", '"'])
def test_the_longest_words_make_no_longer_prompt(letter: str) -> None:
    longest = letter * LONGEST_GOAL
    goal = goal_prompt([Utterance(longest, NOW)] * MOST_SAID)
    question = question_prompt(longest, [HumanMessage(longest), AIMessage(longest)] * CHATS)
    assert max(most_tokens(goal), most_tokens(question)) < MOST_TOKENS


@pytest.mark.parametrize("letter", ["x", "😀"])
def test_the_window_keeps_the_newest_messages_that_fit(letter: str) -> None:
    kept: list[BaseMessage] = []
    for number in range(CHATS):
        kept = list(window(kept, [HumanMessage(f"{number} {letter * (number * 20)}")]))
        assert len(kept) <= MOST_MESSAGES
        assert sum(len(m.text.encode()) for m in kept) <= MOST_BYTES
        assert kept[-1].text.startswith(f"{number} ")
    assert window(kept, [RemoveMessage(id=kept[-1].id or "")]) == kept[:-1]


async def test_a_window_holds_a_whole_goal() -> None:
    from graph.goals.reader import RuleReader

    [said] = window([], [HumanMessage("Train on an A100, $5. " + "x" * (LONGEST_GOAL - 40))])
    assert not isinstance(await understand(RuleReader(), [Utterance(said.text, NOW)]), str)
