"""Jobs that are not what they seem: what is paid once is not paid twice for it."""

from __future__ import annotations

from tests.redteam.attack import ATTACKER, HONEST, attack
from tests.redteam.hostile import GONE, answers, fails, says
from tests.redteam.stage import Scene

NOBODYS_TX = "0x" + "ab" * 32
MOVED_ON = {ATTACKER: 1.0, HONEST: 1.8}
"""Its first hour is lost, as with any vendor that fails, and the job is done elsewhere."""

attack(
    "fake progress",
    tries="progress creeps on for ever and nothing is ever done",
    holds="the paid hour is all that it gets",
    vendor=[
        says(
            "/job-status",
            status="running",
            artifactUrl=None,
            usedMinutes=0,
            progress=lambda _, n: min(0.99, 0.01 * n),
        )
    ],
    ticks=8,
    pays={ATTACKER: 1.0},
)


async def _no_artifact(scene: Scene) -> list[str]:
    job = await scene.world.job(scene.run)
    problems = [f"an artifact is on record: {job.artifact_sha256}"] if job.artifact_sha256 else []
    left = [path for path in scene.world.artifacts.rglob("*") if path.is_file()]
    return problems + [f"a file was left behind: {path.name}" for path in left]


attack(
    "fake completion, no artifact",
    tries="it says completed at once; there is nothing to download",
    holds="paid once; the journal says that the artifact is missing",
    vendor=[
        says("/job-status", status="completed", progress=1, artifactUrl="/artifacts/none/x.bin")
    ],
    look=_no_artifact,
    epochs=5,
    pays={ATTACKER: 1.0},
)
attack(
    "fake completion, another file",
    tries="the artifact's bytes are not those of its sha256",
    holds="the file is not kept",
    vendor=[answers("/artifacts", 200, b"something else", headers={"etag": f'"{"0" * 64}"'})],
    look=_no_artifact,
    pays={ATTACKER: 1.0},
)
attack(
    "ghost job",
    tries="it takes the payment, names a job, and knows of none when asked",
    holds="the job is given up and its vendor left",
    vendor=[
        answers("/job-status", 404, {"error": "unknown job"}),
        answers("/cancel-job", 404, {"error": "unknown job"}),
    ],
    pays=MOVED_ON,
)


async def _two_runs(scene: Scene) -> None:
    """Another user's run is at the same vendor, which gives both runs the same job."""
    other = await scene.another_run()
    await scene.tick(other)
    await scene.ticks()
    await scene.ticks(run=other)


attack(
    "a job that belongs to another",
    tries="it gives a second run the first run's job id instead of a job of its own",
    holds="each run pays once for its own purchase, and never for the other's",
    vendor=[says("/submit-job", vendorJobId="job_of_somebody")],
    script=_two_runs,
    pays={ATTACKER: 2.0, HONEST: 3.6},
)
attack(
    "eviction to be rented again",
    tries="it cancels each job right after it was paid, and is cheapest again",
    holds="a vendor that fails a run comes last in it",
    vendor=[says("/job-status", status="cancelled", artifactUrl=GONE, errorMessage="preempted")],
    pays=MOVED_ON,
)
attack(
    "eviction by the only vendor that is left",
    tries="the same with the other vendor silent, so that it is rented again and again",
    holds="never beyond the budget, nor the attempts",
    vendor=[
        says("/job-status", status="cancelled", artifactUrl=GONE, errorMessage="preempted"),
    ],
    budget=1.7,
    pays={ATTACKER: 1.0},
)
attack(
    "a receipt out of thin air",
    tries="it starts the job, and its receipt names a transaction that never was",
    holds="what was paid is what the chain shows",
    vendor=[says("/submit-job", paymentTxId=NOBODYS_TX)],
    pays={ATTACKER: 1.0},
)


async def _nothing_back(scene: Scene) -> list[str]:
    payments = await scene.world.payments(scene.run)
    return [f"{p.id} counts {p.refunded} as refunded" for p in payments if p.refunded.micros]


attack(
    "a refund that is not there",
    tries="the job fails, and it claims to have paid $100 back in a transaction that never was",
    holds="a refund counts when the chain shows its transfer",
    vendor=[fails(refund={"amount": 100, "txHash": NOBODYS_TX})],
    look=_nothing_back,
    pays=MOVED_ON,
)


async def _refund_of_the_other(scene: Scene) -> None:
    """The honest vendor pays something back; the attacker names that very transaction first."""
    chain, profiles = scene.world.chain, scene.world.vendor._vendors
    payer = scene.world.process.deps.wallet.address
    await scene.tick()
    chain.mint(profiles[HONEST].pay_to, 1)
    tx = chain.transfer(profiles[HONEST].pay_to, payer, 1)
    scene.vendor.twists = [fails(refund={"amount": 100, "txHash": tx})]
    await scene.ticks()
    chain.transfers[:] = [t for t in chain.transfers if t.tx_hash != tx]


attack(
    "another's refund claimed",
    tries="it names a transfer of another vendor as its own refund",
    holds="a refund comes from the address that was paid",
    vendor=[fails()],
    script=_refund_of_the_other,
    look=_nothing_back,
    pays=MOVED_ON,
)


async def _refund_of_nothing(scene: Scene) -> None:
    """Anybody may have the token emit a transfer of nothing, from the vendor's address to ours."""
    chain, profile = scene.world.chain, scene.world.vendor._vendors[ATTACKER]
    await scene.tick()
    wallet = scene.world.process.deps.wallet.address
    tx = chain.transfer(profile.pay_to, wallet, 0)
    scene.vendor.twists = [fails(refund={"amount": 1.0, "txHash": tx})]
    await scene.ticks()
    chain.transfer(profile.pay_to, wallet, 0)


async def _still_owed(scene: Scene) -> list[str]:
    report = await scene.world.process.deps.reconciler.reconcile()
    states = [p.state.value for p in await scene.world.payments(scene.run)]
    closed = [f"a payment is {state} by nothing" for state in states if state == "refunded"]
    return closed + [f"{t.amount} is unclaimed" for t in report.unclaimed]


attack(
    "a refund of nothing",
    tries="transfers of $0 from its address to ours, which anybody can emit, and one as its refund",
    holds="a transfer of nothing is none: what is owed stays owed, and the books agree",
    vendor=[fails()],
    script=_refund_of_nothing,
    look=_still_owed,
    pays=MOVED_ON,
)


async def _refund_inflated(scene: Scene) -> None:
    chain, profile = scene.world.chain, scene.world.vendor._vendors[ATTACKER]
    await scene.tick()
    tx = chain.transfer(profile.pay_to, scene.world.process.deps.wallet.address, 10_000)
    scene.vendor.twists = [fails(refund={"amount": 1.0, "txHash": tx})]
    await scene.ticks()


async def _a_cent_back(scene: Scene) -> list[str]:
    refunded = [p.refunded.micros for p in await scene.world.payments(scene.run)]
    return [] if sum(refunded) == 10_000 else [f"{refunded} are counted as refunded"]


attack(
    "a refund inflated",
    tries="it pays one cent back and claims a dollar",
    holds="what arrived is what counts",
    vendor=[fails()],
    script=_refund_inflated,
    look=_a_cent_back,
    pays=MOVED_ON,
)
