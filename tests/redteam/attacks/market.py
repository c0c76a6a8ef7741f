"""Prices and names in the market: to be ranked first, and then to be paid more."""

from __future__ import annotations

from domain.money import Usd
from domain.slices import SliceRule
from graph.deps import Limits
from tests.redteam.attack import ATTACKER, HONEST, attack
from tests.redteam.hostile import answers, at, fails, says, terms

PASSED_OVER = {HONEST: 1.8}
THREE_HOURS = "Fine-tune on an A100 for 3 hours"
ONE_HOUR_AHEAD = Limits(
    slices=SliceRule(first_minutes=60, exposure=Usd.parse(2)), vendors_clock=False
)

attack(
    "absurdly low price, then the real one",
    tries="it quotes $0.000001 to be chosen, and its 402 asks for the real price",
    holds="the quote binds",
    vendor=[says("/quote", priceEstimate=0.000001)],
    pays=PASSED_OVER,
)
for name, price in (
    ("a price of zero", 0),
    ("a negative price", -5),
    ("a price beyond all numbers", 10**400),
    ("a price in words", "1.0 OR 1=1"),
):
    attack(
        name,
        tries=f"it quotes {str(price)[:20]} to be ranked first, or to break the arithmetic",
        holds="no offer, and the market goes on without it",
        vendor=[says("/quote", priceEstimate=price)],
        pays=PASSED_OVER,
    )
attack(
    "a price that is not a number",
    tries="it quotes NaN, which is neither cheaper nor dearer than anything",
    holds="no offer, and the market goes on without it",
    vendor=[
        answers(
            "/quote",
            body=b'{"vendorJobTemplateId":"q1","priceEstimate":NaN,"currency":"USD",'
            b'"etaMinutes":-Infinity}',
        )
    ],
    pays=PASSED_OVER,
)
attack(
    "reliability that it claims itself",
    tries="its quote says that it is reliable and has completed a million jobs, and it fails",
    holds="only the registry and our own record count",
    vendor=[
        says("/quote", reliability=1.0, completed=10**6, failed=0, failuresInThisRun=-9),
        fails(errorMessage="out of luck"),
    ],
    pays={ATTACKER: 1.0, HONEST: 1.8},
)
attack(
    "sybils",
    tries="twelve vendors of one owner take the money for a job and let it fail, each in turn",
    holds="the run gives up after its five attempts: a bound on what a crowd can take",
    vendor=[fails(errorMessage="out of luck")],
    sybils=12,
    pays={f"sybil_{n}": 0.5 for n in (0, 1, 10, 11, 2)},
)
attack(
    "slow step-ups",
    tries="each further slice of a running job costs a cent more than the last",
    holds="the launch's rate binds for the whole job",
    vendor=[
        says("/job-status", status="running", usedMinutes=50, progress=0.3, artifactUrl=None),
        at("/extend-job", terms(amount=lambda e, n: str(int(e["amount"]) + 10_000 * n))),
    ],
    goal=THREE_HOURS,
    ticks=10,
    pays={ATTACKER: 1.0},
)
attack(
    "a clock that runs fast",
    tries="it reports all paid minutes as used at once, to be prepaid slice after slice",
    holds="no more is ahead of the real clock than the exposure limit",
    vendor=[
        says(
            "/job-status",
            status="running",
            artifactUrl=None,
            progress=0.5,
            usedMinutes=lambda body, _: body["paidMinutes"],
        )
    ],
    goal="Fine-tune on an A100 for 8 hours",
    budget=10,
    limits=ONE_HOUR_AHEAD,
    ticks=12,
    pays={ATTACKER: 1.0},
)
attack(
    "quotes that are stale when they arrive",
    tries="its quotes have expired already, so that the price can be set anew each time",
    holds="a stale quote is no offer",
    vendor=[says("/quote", expiresAt="2020-01-01T00:00:00Z", priceEstimate=0.01)],
    pays=PASSED_OVER,
)
attack(
    "another vendor's quote",
    tries="it answers with a quote id that it has seen at another vendor, at a lower price",
    holds="a quote belongs to the vendor that gave it; the other one is asked for its own",
    vendor=[says("/quote", vendorJobTemplateId="quote_of_another", priceEstimate=0.02)],
    pays=PASSED_OVER,
)
