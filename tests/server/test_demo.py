"""The demo: what it shows is so, and when it is not, it says that."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from domain.jobs import JobStatus, RunStatus
from domain.money import ZERO, Usd
from domain.payments import PaymentState, PurchaseKind
from domain.quotes import Rail
from ledger.jobs import Job
from ledger.payments import Payment
from ledger.run import Reservation, Run
from server.demo.claims import claims
from server.demo.story import StoryOutcome
from tests.support.served import gpu_renter
from tools.payments.chain import Transfer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = (Usd.parse("1.4"), Usd.parse("1.8"))
SHA256 = sha256(b"model").hexdigest()


def run(**changes: Any) -> Run:
    given: dict[str, Any] = {
        "id": "r1",
        "user_id": "demo",
        "goal": "Train",
        "status": RunStatus.COMPLETED,
        "phase": "ended",
        "budget_total": Usd.parse(5),
        "budget_remaining": Usd.parse("1.8"),
        "spent": Usd.parse("3.2"),
        "next_slot": 2,
        "reservations": (),
        "spec": None,
        "job_id": "job2",
        "fence": 1,
        "journal_seq": 1,
        "journal_hash": "",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Run(**{**given, **changes})


def job(number: int, status: JobStatus, progress: float) -> Job:
    return Job(
        id=f"job{number}",
        run_id="r1",
        vendor_id=f"gpu_vendor_{number}",
        endpoint="",
        vendor_job_id=f"v{number}",
        payment_id=f"pay{number}",
        status=status,
        gpu_type="A100",
        minutes=60,
        needed_minutes=60,
        created_at=NOW,
        updated_at=NOW,
        progress_at=NOW,
        progress=progress,
        artifact_url="/artifacts/v2/model.json" if number == 2 else None,
        artifact_sha256=SHA256 if number == 2 else None,
    )


def payment(number: int, amount: Usd) -> Payment:
    return Payment(
        id=f"pay{number}",
        run_id="r1",
        slot=number - 1,
        kind=PurchaseKind.LAUNCH,
        vendor_id=f"gpu_vendor_{number}",
        amount=amount,
        state=PaymentState.SETTLED,
        rail=Rail.X402,
        created_at=NOW,
        order={},
        pay_to=f"0xpayee{number}",
        tx_id=f"0xtx{number}",
    )


def transfer(number: int, amount: Usd) -> Transfer:
    return Transfer(f"0xtx{number}", 0, number, "0xpayer", f"0xpayee{number}", amount)


def outcome(**changes: Any) -> StoryOutcome:
    moved = [transfer(n, price) for n, price in enumerate(PRICES, start=1)]
    given: dict[str, Any] = {
        "run": run(),
        "jobs": [job(1, JobStatus.FAILED, 1 / 3), job(2, JobStatus.COMPLETED, 1.0)],
        "payments": [payment(n, price) for n, price in enumerate(PRICES, start=1)],
        "broken_entry": None,
        "balance_before": Usd.parse(1000),
        "balance_after": Usd.parse("996.8"),
        "transfers": moved,
        "known": {t.tx_hash: t for t in moved},
        "artifact": Path("model.json"),
        "artifact_sha256": SHA256,
        "seconds": 1.0,
        "status": {},
    }
    return StoryOutcome(**{**given, **changes})


def test_every_claim_holds_for_a_run_as_it_should_be() -> None:
    assert all(claim.holds for claim in claims(outcome()))


A, B = outcome().payments
T1, T2 = outcome().transfers


@pytest.mark.parametrize(
    "lie",
    [
        {"run": run(status=RunStatus.FAILED)},
        {"run": run(budget_remaining=Usd(1_800_001))},
        {"run": run(spent=Usd(3_200_001))},
        {"run": run(reservations=(Reservation(2, Usd(1)),))},
        {"jobs": outcome().jobs[1:]},
        {"jobs": [outcome().jobs[0], replace(outcome().jobs[1], artifact_url=None)]},
        {"jobs": [replace(outcome().jobs[0], progress=0.0), outcome().jobs[1]]},
        {"payments": [A]},
        {"payments": [A, replace(B, state=PaymentState.AUTHORIZED)]},
        {"payments": [A, replace(B, tx_id="0xelsewhere")]},
        {"payments": [A, replace(B, tx_id=None)]},
        {"known": {T1.tx_hash: T1, T2.tx_hash: None}},
        {"known": {T1.tx_hash: T1, T2.tx_hash: replace(T2, amount=Usd(1_800_001))}},
        {"transfers": [T1, T2, replace(T2, tx_hash="0xtx3")]},
        {"transfers": [T1]},
        {"transfers": [T1, replace(T2, recipient="0xthief")]},
        {"balance_after": Usd(996_799_999)},
        {"balance_before": ZERO},
        {"artifact_sha256": None},
        {"artifact_sha256": sha256(b"other").hexdigest()},
        {"broken_entry": 7},
    ],
)
def test_no_lie_passes_for_a_claim(lie: dict[str, Any]) -> None:
    assert not all(claim.holds for claim in claims(outcome(**lie)))


def test_the_demo_completes_with_its_model_down_and_its_json_is_the_apis_status(
    tmp_path: Path,
) -> None:
    down = {"FIREWORKS_API_KEY": "fw_nobody", "FIREWORKS_API_BASE": "http://127.0.0.1:1/inference"}
    done = gpu_renter("demo", "--llm", "--json", "--svg", "demo.svg", folder=tmp_path, env=down)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {
        "run",
        "jobs",
        "payments",
        "observations",
        "offers",
        "noQuotes",
        "approvals",
        "vendorNames",
    }
    told = [o["data"] for o in answer["observations"] if "planner" in o["data"]]
    assert [(data["planner"], data["fallback"]) for data in told] == [("ranking", True)] * 2
    assert all("the model failed" in data["fallbackReason"] for data in told)
    assert answer["run"]["model"] == {"calls": 3, "tokensIn": 0, "tokensOut": 0, "cost": None}
    assert answer["run"]["status"] == "completed"
    assert [j["status"] for j in answer["jobs"]] == ["failed", "completed"]
    assert answer["jobs"][1]["artifactUrl"]
    assert [p["status"] for p in answer["payments"]] == ["completed", "completed"]
    spent = sum(round(p["amount"] * 1_000_000) for p in answer["payments"])
    assert round(answer["run"]["budgetRemaining"] * 1_000_000) == 5_000_000 - spent > 0
    kept = (tmp_path / ".gpu-renter" / "demo" / "model.json").read_bytes()
    assert sha256(kept).hexdigest() == answer["jobs"][1]["artifactSha256"]
    picture = (tmp_path / "demo.svg").read_text()
    assert "All&#160;9&#160;claims&#160;hold" in picture
    assert "url(" not in picture.replace("url(#", ""), "it loads nothing from anywhere"


def test_the_demo_is_plain_and_complete_when_piped_whatever_the_settings_say(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text("NETWORK=base\nX402_PRIVATE_KEY=nonsense\n")
    env = {"NETWORK": "base", "MONGODB_URI": "mongodb://127.0.0.1:1", "COLUMNS": "80"}
    env |= {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}

    done = gpu_renter("demo", folder=tmp_path, env=env)

    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    for shown in (
        "FastGPU at $1.40 is the cheapest offer",
        "GPU node lost after epoch 1/3",
        "Recovery",
        "epoch 3/3",
        "Ledger total    $3.20",
        "Chain total     $3.20",
        "All 9 claims hold",
    ):
        assert shown in done.stdout
    assert "and open the address it prints" in " ".join(done.stdout.split())
    assert ":3000" not in done.stdout, "nothing says that it is served there"
