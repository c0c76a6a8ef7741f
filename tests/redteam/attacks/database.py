"""The database: whoever can write to it still runs no code, and moves no money."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import ormsgpack

from tests.redteam.attack import ATTACKER, attack
from tests.redteam.stage import Scene

BUILT: Final = "what was built"


async def _code_in_a_checkpoint(scene: Scene) -> None:
    """The state of a run that has paid becomes one that makes a folder when it is built."""
    await scene.tick()
    other = await scene.another_run()
    states, of_run = scene.world.database.db["checkpoints"], {"thread_id": scene.run.id}
    stored = await states.find_one(of_run, sort=[("checkpoint_id", -1)])
    assert stored
    serde = scene.world.process.services.checkpoints.saver.serde
    state = serde.loads_typed((stored["type"], stored["checkpoint"]))
    with TemporaryDirectory() as folder:
        target = Path(folder) / "built"
        call = ormsgpack.Ext(0, ormsgpack.packb(("os", "mkdir", str(target))))
        state["channel_values"]["found"] = call
        type_, content = serde.dumps_typed(state)
        await states.update_one(
            {"_id": stored["_id"]}, {"$set": {"type": type_, "checkpoint": content}}
        )
        await scene.tick()
        if target.exists():
            scene.shown.append((BUILT, "os.mkdir was called"))
    await scene.ticks(run=other)
    now = scene.world.clock.now()
    await scene.world.ledger.runs.request_cancel(scene.run.id, "by its owner", now)
    await scene.ticks(3)


async def _nothing_was_built(scene: Scene) -> Sequence[str]:
    broken = [text for where, text in scene.shown if where == BUILT]
    if not any("is refused: it holds the type os.mkdir" in said for said in scene.messages):
        broken.append("the run did not say that its state was refused")
    return broken


attack(
    "code in a checkpoint",
    who="intruder",
    tries="a run's state in MongoDB is made to name os.mkdir, for LangGraph to import and call",
    holds="the type is refused by name; the run says so and can be cancelled, others go on",
    script=_code_in_a_checkpoint,
    look=_nothing_was_built,
    pays={ATTACKER: 2.0},
)
