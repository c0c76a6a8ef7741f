"""`gpu-renter plan`: what is understood, what is on offer, and what would be rented; no payment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from domain.goals import ASK_FOR_BUDGET
from domain.money import Usd
from domain.reliability import Trouble
from domain.utterance import Utterance
from graph.goals.reader import RuleReader
from graph.planner.dry_run import Market, Plan, understand_goal, with_offers
from ledger.vendors import End
from server import cli
from server.commands.plan import NO_MARKET
from server.dashboard.journal_view import choices
from server.reports.plan import plan_view, show
from server.terminal.output import Exit
from tests.support.builders import status_view
from tests.support.stack import FreshDatabase
from tests.support.world import World

GOAL = (
    "Fine-tune Llama 8B on an A100 for about two hours, keep it under $5, cheapest you can find by "
    "tonight"
)


async def planned(world: World, goal: str, budget: Usd | None = None) -> Plan:
    deps = world.process.deps
    made = await understand_goal(RuleReader(), Utterance(goal, deps.now()), budget)
    vendors = await deps.ledger.vendors.all()
    market = Market(vendors, deps.vendors, deps.planner, deps.limits)
    return await with_offers(made, market, goal, deps.now())


async def everything(world: World) -> dict[str, list[Any]]:
    """All documents of the database, but for the registry."""
    db = world.database.db
    names = set(await db.list_collection_names()) - {"vendors"}
    return {name: [d async for d in db[name].find()] for name in sorted(names)}


async def test_the_plan_is_what_the_run_then_does_and_leaves_no_trace(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        before = await everything(world)
        view = plan_view(await planned(world, GOAL), "")
        assert await everything(world) == before
        assert world.transfers() == []
        assert view["jobSpec"] == {
            "jobType": "fine-tune",
            "gpuType": "A100",
            "gpuCount": 1,
            "maxHours": 2.0,
            "budgetTotal": 5.0,
            "deadline": "2026-01-01T23:59:00+00:00",
            "preference": "cheapest",
            "excludedVendors": [],
            "onlyVendors": [],
            "gpuTypes": [],
            "maxHourly": None,
            "missing": [],
        }
        assert {o["vendorId"] for o in view["offers"]} == {"gpu_vendor_1", "gpu_vendor_2"}
        assert [o["verdict"] for o in view["offers"]].count("taken") == 1
        decision = view["decision"]
        assert decision["action"] == "rent"

        run = await world.start(GOAL, 5)
        await world.tick_until(run, "Job started")
        [payment] = await world.payments(run)
        assert (decision["vendorId"], decision["price"]) == (
            payment.vendor_id,
            payment.amount.dollars(),
        )


async def test_the_plan_asks_for_the_slices_that_the_run_would_ask_for(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        now, vendors = world.clock.now(), world.ledger.vendors
        for number in range(6):  # good and bad jobs, so that the plain count is not the trust
            trouble = Trouble.NEVER_BOOTED if number % 2 else None
            for vendor in ("gpu_vendor_1", "gpu_vendor_2"):
                await vendors.record(vendor, End(f"job_{number}", "A100", trouble, 60, 60), now)
        goal = "Train on an A100 for 20 hours, budget $100"
        minutes = {
            offer.vendor.vendor_id: offer.quote.minutes
            for offer, _ in (await planned(world, goal)).offers
        }
        run = await world.start(goal, 100)
        await world.tick(run)
        offers = (await world.ledger.runs.get(run.id)).offers
        assert minutes == {offer.quote.vendor_id: offer.quote.minutes for offer in offers}


async def test_a_first_slice_is_shown_beside_the_price_of_the_whole_job(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start("Train on an A100 for 9 hours, budget $50", 50)
        await world.tick(run)
        kept = await world.ledger.runs.get(run.id)
        entries = await world.ledger.observations.of_run(run.id)
        [choice] = choices(entries)
        status = status_view(kept, [], [], entries)
        assert kept.offers
        for quoted, offer in zip(choice.quotes, status["offers"], strict=True):
            assert (quoted.vendor_id, quoted.price) == (
                offer["vendorId"],
                Usd.parse(offer["price"]),
            )
            assert quoted.whole == Usd.parse(offer["wholeJob"]) > Usd.parse(offer["price"])
            assert quoted.minutes == offer["minutes"]
        taken = next(quoted for quoted in choice.quotes if quoted.taken)
        assert f"at {taken.whole} for the whole job" in choice.reason


async def test_a_vendor_that_is_left_out_by_name_is_not_asked(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        made = await planned(world, "Train on an A100 for $5, not FastGPU")
        assert [offer.vendor.vendor_id for offer, _ in made.offers] == ["gpu_vendor_2"]
        assert plan_view(made, "")["jobSpec"]["excludedVendors"] == ["gpu_vendor_1"]


async def test_without_a_budget_there_are_offers_and_a_question(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        view = plan_view(await planned(world, "Train on an A100"), "")
        assert len(view["offers"]) == 2
        assert (view["decision"], view["question"]) == (None, ASK_FOR_BUDGET)
        assert view["jobSpec"]["missing"] == ["budgetTotal"]
        assert view["guessed"] == {"maxHours": 1.0}
        given = plan_view(await planned(world, "Train on an A100", Usd.parse(5)), "")
        assert given["jobSpec"]["budgetTotal"] == 5
        assert given["decision"]["action"] == "rent"


@pytest.mark.parametrize(
    ("goal", "asks"),
    [
        ("Train on an A100 for 1 hour by yesterday, $5", "By when must it be done?"),
        ("Train on anything but an A100, $5", "Which GPU shall I rent?"),
    ],
)
async def test_what_the_agent_would_ask_first_is_asked_and_nothing_is_said_to_be_paid(
    goal: str, asks: str, database: FreshDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    async with World.open(database) as world:
        made = await planned(world, goal)
        assert plan_view(made, "")["decision"] is None
        show(made, "")
        shown = " ".join(capsys.readouterr().out.split())
        assert "It would ask first: " in shown
        assert asks in shown
        assert "would pay" not in shown


async def test_a_deadline_that_the_job_cannot_keep_is_given_up_as_the_run_would(
    database: FreshDatabase,
) -> None:
    goal = "Train on an A100 for 2 hours, within 119 minutes, $5"
    async with World.open(database) as world:
        decision = plan_view(await planned(world, goal), "")["decision"]
        run = await world.start(goal, 5)
        await world.tick_until(run, "Run failed")
        assert decision["action"] == "abort"
        assert decision["reason"] == (await world.run(run)).reason


async def test_a_person_reads_the_plan_in_words_and_the_vendors_by_name(
    database: FreshDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    async with World.open(database) as world:
        show(await planned(world, "Train for 2 hours on an A100, by tonight, $5"), "")
        shown = capsys.readouterr().out
        for line in (
            "Job       training",
            "GPU       1 × A100",
            "Time      2 h",
            "Budget    $5.00",
            "Deadline  2026-01-01 23:59 UTC",
            "Offers ",
            "It would pay $",
        ):
            assert line in shown
        assert {"FastGPU", "ReliableGPU"} <= set(shown.split())

        show(await planned(world, "Use an A100, not FastGPU, $5"), "")
        left_out = capsys.readouterr().out
        assert "Job       training (not said, so assumed)" in left_out
        assert "Time      1 h (not said, so assumed)" in left_out
        assert "Not from  FastGPU" in left_out

        show(await planned(world, "Use an A100 but not FastGPU or ReliableGPU"), "")
        nobody = capsys.readouterr().out
        assert "Budget    not clear yet" in nobody
        assert "It would rent nothing: no registered vendor has A100 beside FastGPU" in nobody
        for key in ("jobType", "maxHours", "gpuCount", "excludedVendors", "missing", "gpu_vendor"):
            assert key not in shown + left_out + nobody


async def test_a_budget_that_holds_nothing_is_given_up(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        view = plan_view(await planned(world, "Train on an A100 for 8 hours, $1"), "")
        assert view["decision"]["action"] == "abort"
        assert {o["verdict"] for o in view["offers"]} == {"over the budget"}


async def test_a_gpu_that_no_vendor_has_is_given_up_as_the_run_would(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        decision = plan_view(await planned(world, "Train on an H100 for 2 h, $50"), "")["decision"]
        assert decision["action"] == "abort"
        assert decision["reason"] == "no registered vendor has H100; on offer: A10, A100"


def test_the_command_prints_the_spec_where_nothing_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["plan", "Train a CNN on 2 T4s, $3/hour", "--budget", "4", "--json"]) == Exit.OK
    view = json.loads(capsys.readouterr().out)
    assert view["jobSpec"]["budgetTotal"] == 4
    assert (view["offers"], view["decision"], view["note"]) == ([], None, NO_MARKET)

    assert cli.run(["plan", GOAL]) == Exit.OK
    shown = capsys.readouterr().out
    assert "Nothing was rented or paid." in shown
    assert "cheapest" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", " "], "goal: it is empty"),
        (
            ["plan", "hello"],
            "it says neither what to run nor on what. What shall I run, and on which "
            "GPU? For example: Fine-tune a 7B model on an A100",
        ),
        (["plan", "What did my run cost?"], "it is a question"),
        (["plan", "Train for 100 days"], "usable duration"),
        (["plan", "Train", "--budget", "0"], "--budget: it must be above 0"),
        (["plan", "Train", "--budget", "lots"], "is not an amount"),
    ],
)
def test_wrong_usage_is_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == Exit.USAGE
    assert said in capsys.readouterr().err


async def test_a_question_is_answered_with_what_it_would_cost(
    database: FreshDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    async with World.open(database) as world:
        made = await planned(world, "how much would 4h of A100 cost?")
        view = plan_view(made, "")
        assert {o["wholeJob"] for o in view["offers"]} == {5.6, 7.2}
        assert (view["decision"], view["question"], view["notUsed"]) == (None, None, [])
        show(made, "")
        shown = capsys.readouterr().out
        assert "$5.60" in shown
        assert "It would ask first" not in shown


async def test_the_plan_says_what_is_left_out_and_asks_about_ones_own(
    database: FreshDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    async with World.open(database) as world:
        made = await planned(world, "Run train.py on an A100 for 1 h in Europe, $5")
        view = plan_view(made, "")
        assert view["notUsed"] == ["train.py", "Europe"]
        assert view["decision"] is None
        show(made, "")
        shown = " ".join(capsys.readouterr().out.split())
        assert "Not used: train.py, Europe." in shown
        assert "It would ask first: Not used: train.py" in shown
        assert plan_view(await planned(world, "Train on an A100, spot, $5"), "")["decision"]
