"""The 402: what is signed is what was quoted, to the registered address, on the one chain."""

from __future__ import annotations

import httpx

from mock_vendor.accounts import dev_address
from tests.redteam.attack import ATTACKER, HONEST, THIEF, attack
from tests.redteam.hostile import (
    GONE,
    Heard,
    answers,
    asks_for_payment,
    challenge,
    terms,
)

REFUSED = {HONEST: 1.8}
"""The attacker is signed nothing for, and the honest vendor gets the job."""

attack(
    "price raised between quote and challenge",
    tries="the 402 asks for twice what was quoted",
    holds="the quote binds",
    vendor=[terms(amount="2000000")],
    pays=REFUSED,
)
attack(
    "a micro-dollar above the quote",
    tries="the 402 asks for $0.000001 more than was quoted",
    holds="not one unit above the quote",
    vendor=[terms(amount="1000001")],
    pays=REFUSED,
)
attack(
    "payee swapped",
    tries="the 402 names the thief's address",
    holds="only the registered address is paid",
    vendor=[terms(payTo=THIEF)],
    pays=REFUSED,
)
attack(
    "payee swapped for one that looks like it",
    tries="the payee has the registered address's first and last digits",
    holds="addresses are compared whole",
    vendor=[terms(payTo=lambda e, _: e["payTo"][:6] + THIEF[6:-4].lower() + e["payTo"][-4:])],
    pays=REFUSED,
)
attack(
    "asset swapped",
    tries="the 402 asks for another token",
    holds="only the network's USDC",
    vendor=[terms(asset=dev_address("another token"))],
    pays=REFUSED,
)
attack(
    "chain swapped",
    tries="the 402 asks to be paid on Base mainnet",
    holds="only the configured network",
    vendor=[terms(network="eip155:8453")],
    pays=REFUSED,
)
attack(
    "decimals swapped",
    tries="the amount is in wei, as if USDC had 18 decimals",
    holds="an amount is micro-dollars, or it is refused",
    vendor=[terms(amount=lambda e, _: e["amount"] + "000000000000")],
    pays=REFUSED,
)
attack(
    "an amount that is no number",
    tries="the amount is '1e6', which some readers take for a million and others for one",
    holds="plain digits, or it is refused",
    vendor=[terms(amount="1e6")],
    pays=REFUSED,
)
attack(
    "a negative amount",
    tries="the amount is -1, which as an unsigned number is more than there is",
    holds="it is refused",
    vendor=[terms(amount="-1")],
    pays=REFUSED,
)
attack(
    "token's signing domain swapped",
    tries="extra names another token and version to sign over",
    holds="the domain comes from the network's entry: the signature is over USDC",
    vendor=[
        terms(extra=lambda e, _: {**e["extra"], "name": "Evil Coin", "version": "9"}),
    ],
    pays={ATTACKER: 1.0},
)
attack(
    "validity stretched",
    tries="the 402 wants a signature that is valid for thirty years",
    holds="ten minutes at most",
    vendor=[terms(maxTimeoutSeconds=10**9)],
    pays={ATTACKER: 1.0},
)
attack(
    "validity of no time",
    tries="the 402 gives no time to pay, so that its outcome is hard to know",
    holds="it is refused",
    vendor=[terms(maxTimeoutSeconds=0)],
    pays=REFUSED,
)
attack(
    "upto instead of exact",
    tries="the 402 offers the scheme upto: sign a limit, I choose the amount",
    holds="only exact is signed",
    vendor=[terms(scheme="upto", amount="5000000")],
    pays=REFUSED,
)
attack(
    "permit instead of a transfer",
    tries="exact, but by Permit2: an allowance instead of one transfer",
    holds="only EIP-3009 is signed",
    vendor=[terms(extra=lambda e, _: {**e["extra"], "assetTransferMethod": "permit2"})],
    pays=REFUSED,
)
attack(
    "a crooked offer beside an honest one",
    tries="the first of two ways to pay names the thief, the second the vendor",
    holds="only terms that pass every rule are signed",
    vendor=[
        challenge(
            accepts=lambda body, _: [{**body["accepts"][0], "payTo": THIEF}, *body["accepts"]]
        )
    ],
    pays={ATTACKER: 1.0},
)
attack(
    "a flood of offers",
    tries="the 402 lists a thousand ways to pay",
    holds="a challenge is bounded",
    vendor=[challenge(accepts=lambda body, _: body["accepts"] * 1_000)],
    pays=REFUSED,
)


def _asks_again(heard: Heard) -> httpx.Response | None:
    """Paid, it asks anew: the thief's address, and more."""
    if heard.path != "/submit-job" or not heard.paying:
        return None
    bare = {k: v for k, v in heard.json().items() if k != "accepts"} if heard.answer.content else {}
    offer = {
        "scheme": "exact",
        "network": "eip155:31337",
        "amount": "1000000",
        "payTo": THIEF,
        "asset": "0x29E81De6323dA2bA9DA054100d8777E62425B6eF",
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return asks_for_payment({"x402Version": 2, "error": "not paid", **bare, "accepts": [offer]})


attack(
    "paid, and asks to be paid again",
    tries="it takes the payment, answers 402 once more, and names another address",
    holds="the chain knows that it was paid: nothing is signed again for that purchase",
    vendor=[_asks_again],
    pays={ATTACKER: 1.0, HONEST: 1.8},
)
attack(
    "takes the money and answers 500",
    tries="it settles the payment and claims that nothing arrived",
    holds="one payment for the slot; the job goes elsewhere in another one, within the budget",
    vendor=[answers("/submit-job", 500, {"error": "we got no payment"}, paid=True)],
    pays={ATTACKER: 1.0, HONEST: 1.8},
)
attack(
    "redirect to the thief",
    tries="submit-job redirects the signed payment to another host",
    holds="no redirect is followed, and no payment reaches another host",
    vendor=[answers("/submit-job", 307, headers={"location": "http://thief.test/submit-job"})],
    pays=REFUSED,
)
attack(
    "another rail",
    tries="a vendor registered with an address answers 402 in the old way, with an id to book",
    holds="it is booked against the budget, and no unit moves",
    vendor=[
        answers("/submit-job", 402, {"error": "pay"}, headers={"x402-tx-id": "tx_1"}, paid=False),
    ],
    pays=REFUSED,
)
attack(
    "a challenge without terms",
    tries="the 402 has no amount, no payee, and a version from the future",
    holds="what cannot be read is not paid",
    vendor=[challenge(x402Version=3, accepts=[{"scheme": "exact"}], error=GONE)],
    pays=REFUSED,
)
