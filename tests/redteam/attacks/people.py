"""People: user 2 reaching for user 1's run, through the API and with a key of their own."""

from __future__ import annotations

from typing import Any

from server.access import EVERY_SCOPE, Scope
from tests.redteam.attack import attack
from tests.redteam.door import Door, open_door
from tests.redteam.stage import Scene

SECOND = "user_2"
EVERYTHING = EVERY_SCOPE - {Scope.ADMIN}


def reaches(
    name: str,
    *,
    tries: str,
    holds: str,
    calls: list[tuple[str, dict[str, Any]]],
    owner: str = SECOND,
    scopes: frozenset[Scope] = EVERYTHING,
    refused: tuple[int, ...] = (403, 404),
    key: str = "",
) -> None:
    """An attack over HTTP while user 1's payment waits for approval. RUN and APPROVAL in the
    bodies stand for its ids. key: sent instead of one that is in force.
    """

    async def look(scene: Scene) -> list[str]:
        return [text for where, text in scene.shown if where == "a door that stood open"]

    async def script(scene: Scene) -> None:
        await scene.tick()
        (asked,) = await scene.world.ledger.approvals.of_run(scene.run.id)
        ids = {"RUN": scene.run.id, "APPROVAL": asked.id}
        async with open_door(scene) as door:
            secret = await door.key(owner, scopes)
            scene.secrets["an API key that was made"] = secret.split("_", 2)[2]
            shown = secret if not key else key.replace("SECRET", secret[:-1])
            for path, body in calls:
                filled = {k: ids.get(v, v) if isinstance(v, str) else v for k, v in body.items()}
                await _call(scene, door, shown, path, filled, refused)
        await scene.tick()

    attack(
        name, who="user", tries=tries, holds=holds, script=script, look=look, threshold=0.5, pays={}
    )


async def _call(
    scene: Scene, door: Door, key: str, path: str, body: dict[str, Any], refused: tuple[int, ...]
) -> None:
    answer = await door.ask(path, body, key)
    scene.shown.append((f"the answer of {path}", answer.text))
    if answer.status_code not in refused:
        scene.shown.append(("a door that stood open", f"{path} {body}: {answer.status_code}"))


reaches(
    "another user's run, ticked",
    tries="user 2 moves user 1's run on with a key of their own",
    holds="there is no such run, for user 2",
    calls=[("/api/agent-tick", {"runId": "RUN"})],
)
reaches(
    "another user's run, read",
    tries="user 2 reads user 1's run, its events, its file, and the list of user 1's runs",
    holds="there is no such run, for user 2",
    calls=[
        ("/api/agent-status?", {"runId": "RUN"}),
        ("/api/agent-events?", {"runId": "RUN"}),
        ("/api/agent-artifact?", {"runId": "RUN"}),
        ("/api/runs?", {"userId": "user_1"}),
    ],
)
reaches(
    "another user's payment, approved",
    tries="user 2 approves user 1's payment",
    holds="it still waits for user 1",
    calls=[("/api/agent-approve", {"runId": "RUN", "approvalId": "APPROVAL", "approve": True})],
)
reaches(
    "another user's run, cancelled",
    tries="user 2 cancels user 1's run",
    holds="it goes on waiting",
    calls=[("/api/agent-cancel", {"runId": "RUN", "reason": "mine now"})],
)
reaches(
    "another user's run, talked about",
    tries="user 2 tells user 1's run in the chat to approve and to spend more, in both names",
    holds="the chat knows the user's own runs only",
    calls=[
        ("/api/chat", {"userId": who, "message": words, "runId": "RUN"})
        for who in (SECOND, "user_1")
        for words in ("approve", "you may spend 5 more", "what did you spend and why?")
    ],
)
reaches(
    "a run in another's name",
    tries="user 2 starts a run that user 1 would pay for",
    holds="a key speaks for its owner only",
    calls=[
        ("/api/agent-start", {"userId": "user_1", "goal": "Train on an A100", "budgetTotal": 5})
    ],
)
reaches(
    "a key that may only read",
    tries="user 1's own reading key ticks, approves, cancels and starts",
    holds="a key does what its scopes say",
    owner="user_1",
    scopes=frozenset({Scope.READ}),
    calls=[
        ("/api/agent-tick", {"runId": "RUN"}),
        ("/api/agent-approve", {"runId": "RUN", "approvalId": "APPROVAL", "approve": True}),
        ("/api/agent-cancel", {"runId": "RUN"}),
        ("/api/agent-start", {"userId": "user_1", "goal": "Train on an A100", "budgetTotal": 5}),
    ],
    refused=(403,),
)
for name, key in (
    ("no key", "-"),
    ("a forged key", "SECRETx"),
    ("a key of operators", '{"$ne":1}'),
):
    reaches(
        name,
        tries="somebody ticks and approves with " + name,
        holds="nobody is let in",
        key=key,
        calls=[
            ("/api/agent-tick", {"runId": "RUN"}),
            ("/api/agent-approve", {"runId": "RUN", "approvalId": "APPROVAL", "approve": True}),
            ("/api/vendor-callback", {"vendorId": "gpu_vendor_1", "vendorJobId": "x"}),
        ],
        refused=(401,),
    )
