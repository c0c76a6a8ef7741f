"""Whoever can write the database runs no code here: a checkpoint holds values and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.types import Interrupt, Send

from domain.errors import StateRefused
from graph.persistence.strict_serializer import TYPES, ForeignType, StrictSerializer
from ledger.run import Run
from tests.support.stack import FreshDatabase
from tests.support.world import World

PLACES = ("checkpoint", "metadata", "pending write")


class Touch:
    """Makes a folder while it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


def constructor(module: str, name: str, *arguments: object, code: int = 0) -> ormsgpack.Ext:
    """How LangGraph's serializer stores an object."""
    return ormsgpack.Ext(code, ormsgpack.packb((module, name, *arguments)))


def makes_a_folder(folder: Path) -> tuple[str, bytes]:
    """A value that calls os.mkdir where its type is not looked at."""
    return "msgpack", ormsgpack.packb({"deep": [constructor("os", "mkdir", str(folder))]})


def test_what_a_state_is_made_of_comes_back_as_it_was() -> None:
    serializer = StrictSerializer()
    state = {
        "messages": [HumanMessage("hi"), AIMessage("yes"), SystemMessage("be brief")],
        "planning": [ToolMessage("12", tool_call_id="call_1", name="quote")],
        "amount": Decimal("1.20"),
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "asked": (Interrupt(value={"approvalId": "apr_1"}, id="i"),),
        "next": Send("pay", {"messages": [HumanMessage("hi")]}),
        "kinds": {"a", "b"},
        "nothing": None,
    }
    read = serializer.loads_typed(serializer.dumps_typed(state))
    assert read == state | {"asked": list(state["asked"])}  # type: ignore[call-overload]
    assert serializer.loads_typed(serializer.dumps_typed(None)) is None
    assert serializer.loads_typed(serializer.dumps_typed(b"raw")) == b"raw"


def test_every_type_that_is_built_is_one_that_langgraph_holds_for_safe() -> None:
    assert TYPES <= SAFE_MSGPACK_TYPES


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (makes_a_folder, "the type os.mkdir"),
        (
            lambda folder: (
                "msgpack",
                ormsgpack.packb(
                    constructor(
                        "langgraph.types",
                        "Interrupt",
                        {"value": constructor("os", "mkdir", str(folder))},
                        code=2,
                    )
                ),
            ),
            "the type os.mkdir",
        ),
        (
            lambda folder: (
                "msgpack",
                ormsgpack.packb(constructor("pathlib", "Path", str(folder), "mkdir", code=3)),
            ),
            "the type pathlib.Path",
        ),
        (
            lambda folder: (
                "json",
                json.dumps(
                    {
                        "lc": 2,
                        "type": "constructor",
                        "id": ["os", "mkdir"],
                        "args": [str(folder)],
                    }
                ).encode(),
            ),
            "the encoding json",
        ),
        (lambda folder: ("pickle", pickle.dumps(Touch(folder))), "the encoding pickle"),
        (lambda _: ("msgpack", b"\x91"), "data that cannot be read"),
        (lambda _: 5, "data that cannot be read"),
    ],
    ids=["constructor", "within one of ours", "method", "json", "pickle", "cut short", "no pair"],
)
def test_a_foreign_type_is_refused_by_its_name_and_never_built(
    tmp_path: Path, planted: Callable[[Path], Any], said: str
) -> None:
    with pytest.raises(ForeignType, match=said):
        StrictSerializer().loads_typed(planted(tmp_path / "built"))
    assert not os.listdir(tmp_path)


async def plant(world: World, run: Run, place: str, folder: Path) -> None:
    """Write into the collections of the checkpoints what makes a folder once it is built."""
    type_, content = makes_a_folder(folder)
    states = world.database.db["checkpoints"]
    newest = [s async for s in states.find({"thread_id": run.id}).sort("checkpoint_id", -1)]
    of_run = {"thread_id": run.id, "checkpoint_id": newest[0]["checkpoint_id"]}
    if place == "checkpoint":
        await states.update_one(of_run, {"$set": {"type": type_, "checkpoint": content}})
    elif place == "metadata":
        await states.update_one(of_run, {"$set": {"metadata.step": [type_, content]}})
    else:
        # They are read where a step is pending, as in the state before the tick's last.
        await states.delete_one(of_run)
        await world.database.db["checkpoint_writes"].insert_one(
            {
                "thread_id": run.id,
                "checkpoint_ns": "",
                "checkpoint_id": newest[1]["checkpoint_id"],
                "task_id": "t",
                "idx": 0,
                "channel": "decision",
                "type": type_,
                "value": content,
            }
        )


@pytest.mark.parametrize("place", PLACES)
async def test_a_run_whose_state_was_tampered_with_says_so_and_no_other_is_affected(
    database: FreshDatabase, tmp_path: Path, place: str
) -> None:
    async with World.open(database) as world:
        run, other = await world.start(), await world.start()
        await world.tick(run)
        await plant(world, run, place, tmp_path / "built")
        with pytest.raises(StateRefused, match=f"{run.id} is refused: .* os.mkdir"):
            await world.tick(run)
        (told,) = await world.told(run, "tick_failed")
        assert f"gpu-renter cancel {run.id}" in told
        assert (await world.ticks(other))[-1] == "Job completed"
        assert not os.listdir(tmp_path)


async def test_a_run_whose_state_is_refused_can_be_cancelled_from_the_ledger(
    database: FreshDatabase, tmp_path: Path
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        await plant(world, run, "checkpoint", tmp_path / "built")
        with pytest.raises(StateRefused):
            await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, "by its owner", world.clock.now())
        await world.ticks(run)
        assert await world.status(run) == "cancelled"
        assert [status.value for _, status in await world.jobs(run)] == ["cancelled"]
        assert len(await world.told(run, "state_forgotten")) == 1
        assert not os.listdir(tmp_path)
