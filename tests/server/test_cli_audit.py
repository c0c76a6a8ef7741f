"""`gpu-renter audit`: a run's journal, and every way of tampering with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.jobs import RunStatus
from domain.journal import Entry, Note, NoteType
from domain.money import Usd
from ledger.ledger import Ledger
from ledger.observations import Head
from server.reports.audits import unapproved
from tests.server.money_cli import MoneyCli, money_cli
from tests.server.test_cli_terminal import DECIDED, HOW_DECIDED
from tests.support.builders import NOON, at

RUN = "run_1"
NOTES = [
    Note(NoteType.JOB_SPEC, "Understood: training on an A100", key="job_spec"),
    Note(
        NoteType.PAYMENT_AUTHORIZED,
        "Authorized $1.40",
        {"amountMicros": 1_400_000, "vendorId": "v1"},
    ),
    Note(
        NoteType.PAYMENT_SETTLED, "$1.40 settled", {"amountMicros": 1_400_000, "x402TxId": "0xab"}
    ),
    Note(NoteType.RUN_COMPLETED, "Done"),
]


async def _write(ledger: Ledger) -> None:
    await ledger.runs.create(RUN, "user_1", "Train on an A100", Usd.parse(5), NOON)
    _, lease = await ledger.runs.acquire(RUN, at(NOON), 60)
    head = await ledger.observations.append(RUN, Head(), NOTES, NOON)
    await ledger.runs.release(lease, NOON, {"journal": {"seq": head.seq, "hash": head.hash}})


@pytest.fixture
def cli(
    mongodb_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MoneyCli]:
    """The command line, on a ledger with one journal of four entries."""
    with money_cli(mongodb_uri, capsys, monkeypatch) as cli:
        cli.with_ledger(_write)
        yield cli


def seq(number: int) -> dict[str, object]:
    return {"runId": RUN, "seq": number}


def test_the_journal_is_shown_in_order_with_amounts_and_reasons(cli: MoneyCli) -> None:
    ran = cli("audit", RUN)
    assert ran.status == 0
    shown = [ran.out.index(note.content) for note in NOTES]
    assert shown == sorted(shown)
    assert "$1.40" in ran.out
    assert "The journal is whole: 4 entries" in ran.out


def test_a_refund_is_shown_beside_what_was_paid(cli: MoneyCli) -> None:
    """And where a journal of an older version has it in its words only, no amount misleads."""
    paid = {"amountMicros": 1_400_000, "vendorId": "v1"}
    notes = [
        Note(NoteType.PAYMENT_REFUNDED, "$0.73 came back", paid | {"refundedMicros": 730_000}),
        Note(NoteType.PAYMENT_REFUNDED, "$0.72 came back", paid),
    ]

    async def add(ledger: Ledger) -> None:
        [last] = await ledger.observations.newest(RUN, 1)
        await ledger.observations.append(RUN, Head(last.seq, last.hash), notes, NOON)

    cli.with_ledger(add)
    lines = cli("audit", RUN).out.splitlines()
    [new] = [n for n, line in enumerate(lines) if "$0.73 came back" in line]
    assert "$1.40, $0.73 back" in lines[new - 1]
    [old] = [n for n, line in enumerate(lines) if "$0.72 came back" in line]
    assert "$1.40" not in lines[old - 1] + lines[old]
    assert cli("audit", RUN, "--json").json()["entries"][4]["data"]["refundedMicros"] == 730_000


def test_a_decision_is_shown_with_what_the_model_asked_and_why_it_was_not_followed(
    cli: MoneyCli,
) -> None:
    async def add(ledger: Ledger) -> None:
        [last] = await ledger.observations.newest(RUN, 1)
        note = Note(NoteType.AGENT_REASONING, "Proceeding", DECIDED)
        await ledger.observations.append(RUN, Head(last.seq, last.hash), [note], NOON)

    cli.with_ledger(add)
    out = cli("audit", RUN).out
    assert all(line.replace("FastGPU", "gpu_vendor_1") in out for line in HOW_DECIDED)


def test_the_journal_is_exported_as_json(cli: MoneyCli, tmp_path: Path) -> None:
    ran = cli("audit", RUN, "--output", str(tmp_path / "audit.json"))
    document = json.loads((tmp_path / "audit.json").read_text())
    assert ran.status == 0
    assert document == cli("audit", RUN, "--json").json()
    assert [e["seq"] for e in document["entries"]] == [1, 2, 3, 4]
    assert document["entries"][1]["who"] == "user_1 → v1"
    assert document["entries"][2]["data"]["x402TxId"] == "0xab"
    assert document["whole"] is True
    assert document["head"] == {"seq": 4, "hash": document["entries"][-1]["hash"]}


def test_verify_says_only_whether_it_is_whole(cli: MoneyCli) -> None:
    ran = cli("audit", RUN, "--verify")
    assert ran.status == 0
    assert "Understood" not in ran.out
    assert "entries" not in cli("audit", RUN, "--verify", "--json").json()


@pytest.mark.parametrize(
    "change",
    [{"content": "Authorized $9.99"}, {"data.amountMicros": 1}, {"type": "note"}, {"hash": "0"}],
)
def test_changed_content_is_named(cli: MoneyCli, change: dict[str, object]) -> None:
    cli.db["observations"].update_one(seq(2), {"$set": change})
    ran = cli("audit", RUN, "--verify")
    assert ran.status == 1
    assert "broken at entry 2" in ran.err


def test_a_removed_entry_is_named(cli: MoneyCli) -> None:
    cli.db["observations"].delete_one(seq(3))
    ran = cli("audit", RUN, "--json")
    assert ran.status == 1
    assert ran.json()["brokenSeq"] == 3


@pytest.mark.parametrize("last", [1, 3, 4])
def test_a_removed_tail_is_named(cli: MoneyCli, last: int) -> None:
    cli.db["observations"].delete_many({"runId": RUN, "seq": {"$gte": last}})
    ran = cli("audit", RUN, "--verify", "--json")
    assert ran.status == 1
    assert ran.json()["brokenSeq"] == last
    assert "the run names 4 entries" in ran.json()["problem"]


def test_swapped_entries_are_named(cli: MoneyCli) -> None:
    observations = cli.db["observations"]
    second, third = observations.find_one(seq(2)), observations.find_one(seq(3))
    assert second is not None
    assert third is not None
    observations.delete_many({"_id": {"$in": [second["_id"], third["_id"]]}})
    observations.insert_many([third | {"seq": 2}, second | {"seq": 3}])
    assert "broken at entry 2" in cli("audit", RUN, "--verify").err


def test_an_end_that_was_written_anew_is_named(cli: MoneyCli) -> None:
    cli.db["observations"].delete_many({"runId": RUN, "seq": {"$gte": 4}})
    forged = [Note(NoteType.RUN_COMPLETED, "Done, and $3 were lost")]

    async def forge(ledger: Ledger) -> None:
        [last] = await ledger.observations.newest(RUN, 1)
        await ledger.observations.append(RUN, Head(last.seq, last.hash), forged, NOON)

    cli.with_ledger(forge)
    ran = cli("audit", RUN, "--verify")
    assert ran.status == 1
    assert "broken at entry 4" in ran.err


def test_an_entry_put_in_is_named(cli: MoneyCli) -> None:
    observations = cli.db["observations"]
    last = observations.find_one(seq(4))
    assert last is not None
    observations.insert_one(last | {"_id": "forged", "seq": 5, "content": "put in", "key": "k"})
    assert "broken at entry 5" in cli("audit", RUN, "--verify").err


def test_an_entry_without_its_fields_is_named(cli: MoneyCli) -> None:
    cli.db["observations"].update_one(seq(3), {"$unset": {"prevHash": ""}})
    ran = cli("audit", RUN)
    assert ran.status == 1
    assert "broken at entry 3: it lacks prevHash" in ran.err


def test_an_entry_whose_type_is_none_is_named(cli: MoneyCli) -> None:
    cli.db["observations"].update_one(seq(3), {"$set": {"type": None}})
    assert "broken at entry 3: it lacks type" in cli("audit", RUN).err


def test_entries_after_the_heads_last_note_are_no_break(cli: MoneyCli) -> None:
    """A crash between writing entries and noting the head leaves the note behind."""
    first = cli.db["observations"].find_one(seq(2))
    assert first is not None
    cli.db["runs"].update_one({}, {"$set": {"journal": {"seq": 2, "hash": first["hash"]}}})
    assert cli("audit", RUN, "--verify").status == 0


def test_a_run_that_is_not_there_is_not_found(cli: MoneyCli) -> None:
    assert cli("audit", "nobody").status == 4


def test_hostile_words_reach_no_terminal(cli: MoneyCli) -> None:
    evil = [Note(NoteType("vendor_log"), "[bold]\x1b]0;owned\x07 ‮evil")]

    async def add(ledger: Ledger) -> None:
        [last] = await ledger.observations.newest(RUN, 1)
        await ledger.observations.append(RUN, Head(last.seq, last.hash), evil, NOON)

    cli.with_ledger(add)
    ran = cli("audit", RUN)
    assert ran.status == 0
    assert "[bold]" in ran.out
    assert "\x07" not in ran.out
    assert "‮" not in ran.out


def test_an_output_that_cannot_be_written_is_named(cli: MoneyCli) -> None:
    ran = cli("audit", RUN, "--output", "/nowhere/audit.json")
    assert ran.status == 2
    assert "--output" in ran.err


PAYEE = "0xAbC"
YES = {
    "approvalId": "apr_1",
    "vendorId": "v1",
    "payTo": PAYEE,
    "amountMicros": 4_200_000,
    "paidMicros": 0,
}


def paid(slot: int = 0, micros: int = 1_400_000, **changes: object) -> Note:
    data = {
        "paymentId": f"pay_{slot}",
        "vendorId": "v1",
        "payTo": PAYEE.lower(),
        "amountMicros": micros,
        "thresholdMicros": 1_000_000,
        "atStakeMicros": 4_200_000,
        "approvalId": "apr_1",
    }
    return Note(NoteType.PAYMENT_AUTHORIZED, "Authorized", data | changes)


def judged(*notes: Note) -> int | None:
    """The number of the first payment that is not approved."""
    entries = [Entry("run_1", n, note, NOON, "", "") for n, note in enumerate(notes, start=1)]
    return unapproved(entries)[0]


def test_payments_with_an_approval_before_them_are_whole() -> None:
    used = Note(NoteType.APPROVAL_USED, "", YES)
    assert judged(used, paid(0), paid(1), paid(2)) is None
    vain = Note(NoteType.PAYMENT_EXPIRED, "", {"paymentId": "pay_2"})
    assert judged(used, paid(0), paid(1), paid(2), vain, paid(3)) is None
    assert judged(paid(thresholdMicros=None)) is None
    assert judged(paid(thresholdMicros=5_000_000, approvalId=None)) is None
    assert (
        judged(Note(NoteType.PAYMENT_AUTHORIZED, "", {"amountMicros": 9, "vendorId": "v"})) is None
    )
    assert judged(Note(NoteType.APPROVAL_USED, "", {"approvalId": "apr_1"}), paid()) is None, (
        "older"
    )


def test_a_payment_without_a_covering_approval_before_it_is_named() -> None:
    used = Note(NoteType.APPROVAL_USED, "", YES)
    assert judged(paid(approvalId=None)) == 1
    assert judged(paid(), used) == 1
    assert judged(used, paid(approvalId="apr_2")) == 2
    assert judged(used, paid(payTo="0xdef")) == 2
    assert judged(used, paid(vendorId="v2")) == 2
    assert judged(used, paid(0), paid(1), paid(2), paid(3)) == 5
    assert judged(Note(NoteType.PAYMENT_BOOKED, "", dict(paid(approvalId=None).data))) == 1


def test_an_unapproved_payment_fails_the_audit(cli: MoneyCli) -> None:
    async def add(ledger: Ledger) -> None:
        [last] = await ledger.observations.newest(RUN, 1)
        head = Head(last.seq, last.hash)
        await ledger.observations.append(RUN, head, [paid(approvalId=None)], NOON)

    cli.with_ledger(add)
    ran = cli("audit", RUN, "--json")
    assert (ran.status, ran.json()["whole"], ran.json()["brokenSeq"]) == (1, False, 5)
    said = cli("audit", RUN, "--verify").err
    assert "needed an approval, for $4.20 is above $1.00, and there is none before it" in said


def test_of_a_removed_run_it_shows_the_last_hash_and_when_it_went(cli: MoneyCli) -> None:
    async def end(ledger: Ledger) -> str:
        _, lease = await ledger.runs.acquire(RUN, at(NOON), 60)
        await ledger.runs.end(lease, RunStatus.COMPLETED, "", NOON)
        await ledger.runs.release(lease, NOON, {"dueAt": None})
        return (await ledger.observations.of_run(RUN))[-1].hash

    last = cli.with_ledger(end)
    assert cli("prune", "--older-than", "1").status == 2
    assert "--yes" in cli("prune", "--older-than", "1d").err
    assert cli("prune", "--older-than", "1d", "--dry-run", "--json").json()["removed"] == [RUN]
    assert cli("audit", RUN, "--verify").status == 0
    pruned = cli("prune", "--older-than", "1d", "--yes")
    assert (pruned.status, pruned.out) == (0, "1 runs removed; 0 stay\n")
    shown = cli("audit", RUN)
    assert shown.status == 0
    assert "It was removed on 20" in shown.out
    assert f"had 4 entries, the last was {last}" in shown.out
    assert cli("audit", RUN, "--json").json()["head"] == {"seq": 4, "hash": last}
    assert cli("audit", "run_2").status == 4
