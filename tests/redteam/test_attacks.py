"""Attacks in both modes: nothing moves against policy, and no secret gets out.

Each run of the tests plays a sample: of each kind half of the attacks whose orders reach the model,
with one that obeys, and a third of the others, without a model. `REDTEAM=all` plays all, in both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.redteam.attack import ATTACKS, LLM, MODES, STUB
from tests.redteam.attacks import __all__ as kinds
from tests.redteam.leaks import ENVIRONMENT
from tests.redteam.planted import FOUND_BY, PLANTS, planted
from tests.redteam.stage import Stage
from tests.redteam.table import PAGE, page
from tests.support.fireworks_stand_in import Fireworks, fireworks, says
from tests.support.stack import FreshDatabase


@pytest.fixture(scope="module")
def model_server() -> Iterator[Fireworks]:
    with fireworks(says("nothing yet")) as server:
        yield server


@pytest.fixture
def stage(
    database: FreshDatabase,
    model_server: Fireworks,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    caplog.set_level("INFO")
    for house in ("domain", "ledger", "tools", "graph", "server", "langchain_fireworks"):
        caplog.set_level("DEBUG", house)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return Stage(database, model_server, caplog.records)


@pytest.mark.parametrize(
    ("name", "mode"), ATTACKS.plays(everything=os.environ.get("REDTEAM") == "all")
)
async def test_nothing_moves_against_policy_and_no_secret_gets_out(
    stage: Stage, name: str, mode: str
) -> None:
    outcome = await stage.play(ATTACKS.attacks[name], mode)
    assert not outcome.broken, f"\n{outcome}"


def test_there_are_more_than_forty_attacks_of_every_kind() -> None:
    attacks = ATTACKS.attacks.values()
    assert len(attacks) >= len(ATTACKS.chosen(everything=False)) >= 40
    assert {attack.kind for attack in attacks} == set(kinds)
    assert {attack.who for attack in attacks} == {"vendor", "user", "intruder"}
    assert (STUB, LLM) == MODES


@pytest.mark.parametrize("weakness", PLANTS)
async def test_each_planted_weakness_is_found(stage: Stage, weakness: str) -> None:
    name, mode, kind = FOUND_BY[weakness]
    with planted(weakness):
        outcome = await stage.play(ATTACKS.attacks[name], mode)
    assert any(sentence.startswith(kind) for sentence in outcome.broken), f"\n{outcome}"


def test_the_page_of_attacks_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.redteam"
