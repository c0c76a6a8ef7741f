"""Every id of ours: how it is made, what it looks like, and which one a person means by a part.

    run         24 hex digits                  drawn, or derived from an Idempotency-Key's marker
    purchase    fetch_ and 32 hex digits       derived from its --id
    slot        0x and 64 hex digits           derived from run and number: the nonce on the chain
    payment     pay_ and 32 hex digits         derived from run, slot and vendor
    job         job_ and its payment's digits
    approval    apr_ and 32 hex digits         derived from the terms: others need another
    day         2026-01-31|user                a user's day; of all users together: everyone
    transfer    transaction:log index          one Transfer event on the chain
    draft       64 hex digits                  derived from the conversation's name
    API key     12 of a-z and 2-7              drawn
    token       16 or 24 hex digits            drawn: of a holder, a message, a purchase

What is derived is the same on every call and machine, so that a crash between any two steps finds
what it made again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from eth_utils.crypto import keccak

from domain.errors import InvalidInput
from domain.money import Usd

RUN_ID_DIGITS: Final = 24
PURCHASE_PREFIX: Final = "fetch_"
"""Begins the id of each purchase, and of no run. Nonces are derived from it: it stays."""
LONGEST_RUN_ID: Final = 64
"""Characters: a run that was made elsewhere may have an id of another form than ours."""
PLAIN_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_RUN_ID}}}", re.ASCII)
"""What an id of a run or an approval may look like where somebody names one."""
SHORTEST: Final = 4
"""The fewest characters of an id's beginning that are looked up."""
MOST_MATCHES: Final = 6
"""The most ids read for one beginning: one more than an error message lists."""
_KEY_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"


def new_run_id() -> str:
    """A new run's id: as long as MongoDB's own, but impossible to guess."""
    return new_token(RUN_ID_DIGITS)


def new_token(digits: int = 16) -> str:
    """Hex digits that nobody else draws."""
    return secrets.token_hex(digits // 2)


def new_key_id() -> str:
    return "".join(secrets.choice(_KEY_LETTERS) for _ in range(12))


def run_id_of(marker_id: str, born_at: datetime) -> str:
    """The run that a request with an Idempotency-Key starts, whenever it is repeated."""
    return sha256(f"{marker_id}|{born_at.isoformat()}".encode()).hexdigest()[:RUN_ID_DIGITS]


def purchase_id_of(named: str) -> str:
    """The id of the purchase that a person names by `--id`."""
    return PURCHASE_PREFIX + keccak(text=f"gpu-renter pay|{named}").hex()[:32]


def is_purchase(id_: str) -> bool:
    return id_.startswith(PURCHASE_PREFIX)


def slot_nonce(run_id: str, slot: int) -> str:
    """The EIP-3009 nonce of a slot."""
    return "0x" + keccak(text=f"agentic-gpu-renter|{run_id}|{slot}").hex()


def payment_id(run_id: str, slot: int, vendor_id: str) -> str:
    """The id of the payment to one vendor for one slot, and its x402 payment identifier."""
    return "pay_" + keccak(text=f"payment|{run_id}|{slot}|{vendor_id}").hex()[:32]


def job_id(payment_id: str) -> str:
    """The id of the job that a payment launches."""
    return "job_" + payment_id.removeprefix("pay_")


def approval_id(
    run_id: str, slot: int, vendor_id: str, pay_to: str, amount: Usd, quote_id: str
) -> str:
    """The id of the one approval for these terms: other terms need another approval."""
    terms = f"approval|{run_id}|{slot}|{vendor_id}|{pay_to.lower()}|{amount.micros}|{quote_id}"
    return "apr_" + keccak(text=terms).hex()[:32]


def user_day(user_id: str, now: datetime) -> str:
    """The id of each document that counts something of a user's day: dollars, tokens."""
    return f"{now:%Y-%m-%d}|{user_id}"


def wallet_day(allowance: str) -> str:
    """The id of the document that counts what all spend on the day of `allowance`."""
    return f"everyone|{allowance.partition('|')[0]}"


def transfer_id(tx_hash: str, log_index: int) -> str:
    return f"{tx_hash}:{log_index}"


def draft_id(session: str) -> str:
    """The draft of a conversation, whose name may be of any length."""
    return sha256(session.encode()).hexdigest()


def is_short(given: str) -> bool:
    """Whether `given` may be the beginning of a run's id, and must be looked up."""
    return SHORTEST <= len(given) < RUN_ID_DIGITS


def the_one(given: str, found: Sequence[str]) -> str:
    """The id of the run that `given` names. found: ids that begin with it, at most MOST_MATCHES.

    A whole id, or one without any match, is returned as it is. Raises InvalidInput for several
    matches.
    """
    if given in found or not found:
        return given
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found[: MOST_MATCHES - 1])
    more = " and more" if len(found) >= MOST_MATCHES else ""
    raise InvalidInput(
        "RUN", f"{given!r} begins several runs: {listed}{more}", "Give more of its id"
    )
