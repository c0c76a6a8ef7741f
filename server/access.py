"""Who may do what: API keys, their scopes, and whose runs they reach.

    gr_<id>_<secret>

The id finds the record; the secret is 256 random bits, so a plain SHA-256 keeps it safe. On a
loopback address (HOST=127.0.0.1, the default) with API_KEYS=auto nothing is asked, and everybody
on this machine has every right.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection

from domain.errors import ConfigError, InvalidInput, NotFound, RenterError
from domain.ids import LONGEST_RUN_ID, new_key_id
from ledger.keys import KeyRecord, Keys
from ledger.pruned import PrunedRun
from ledger.run import Run
from server.config.settings import Settings

MAKE_A_KEY: Final = (
    "gpu-renter keys create --owner YOU --scope start --scope tick --scope read --scope approve"
)
"""The command that makes a key for one person, with all that pages and commands need for runs."""
PRINCIPAL: Final = "renter.principal"
"""Where the guard puts the Principal into the ASGI scope."""

_KEY: Final = re.compile(r"gr_([a-z2-7]{12})_([A-Za-z0-9_-]{43})", re.ASCII)


class Scope(StrEnum):
    START = "start"
    """Start runs, and talk with the agent."""
    TICK = "tick"
    """Move runs on, or cancel them."""
    READ = "read"
    APPROVE = "approve"
    """Answer for payments that wait for a person."""
    ADMIN = "admin"
    """Everything."""


EVERY_SCOPE: Final = frozenset(Scope)

NEEDS: Final[dict[str, frozenset[Scope]]] = {
    "/api/agent-start": frozenset({Scope.START}),
    "/api/chat": frozenset({Scope.START, Scope.TICK, Scope.READ, Scope.APPROVE}),
    "/api/agent-tick": frozenset({Scope.TICK}),
    "/api/agent-cancel": frozenset({Scope.TICK}),
    "/api/agent-approve": frozenset({Scope.APPROVE}),
    "/api/agent-status": frozenset({Scope.READ}),
    "/api/agent-events": frozenset({Scope.READ}),
    "/api/agent-artifact": frozenset({Scope.READ}),
    "/api/runs": frozenset({Scope.READ}),
    "/api/vendors": frozenset({Scope.READ}),
    "/api/audit": frozenset({Scope.READ}),
    "/api/plan": frozenset({Scope.START}),
    "/api/wallet": frozenset({Scope.READ}),
    "/api/reconcile": frozenset({Scope.ADMIN}),
    "/api/doctor": frozenset({Scope.ADMIN}),
    "/metrics": frozenset({Scope.READ}),
}
"""All scopes that each address needs. An address under /api/ that is not listed needs ADMIN."""

SIGNED_OTHERWISE: Final = frozenset({"/api/vendor-callback"})
"""Addresses for vendors, who have no key and sign their requests instead."""

EVERYBODYS: Final = frozenset({"/metrics", "/api/wallet", "/api/reconcile", "/api/doctor"})
"""Addresses about all owners' runs or money, closed to a key that speaks for one owner."""


class Unauthorized(RenterError):
    """The request has no API key, or one that is not in force."""


class Forbidden(RenterError):
    """The API key does not allow this request."""


_Owned = TypeVar("_Owned", Run, PrunedRun, Run | PrunedRun)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request. owner: the user whose runs it reaches; None: everybody's."""

    owner: str | None
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def speaks_for(self, user_id: str) -> None:
        """Raise Forbidden unless it may act as this user."""
        if self.owner is not None and user_id != self.owner:
            raise Forbidden(
                "userId: this API key speaks for another user",
                f"Leave it out (a command's --user), which means {self.owner!r}, or use a key "
                "whose owner that is",
            )

    def acts_as(self, user_id: str) -> str:
        """The user whose request it is: the one that the body names, or the owner where that is "".

        Raises Forbidden for another user, RequestValidationError where neither is named.
        """
        if not user_id and self.owner is not None:
            return self.owner
        if not user_id:
            raise RequestValidationError([{"type": "missing", "loc": ("body", "userId")}])
        self.speaks_for(user_id)
        return user_id

    def check_sees(self, run: _Owned) -> _Owned:
        """The run, if it is this principal's; else NotFound, as if it were not there."""
        if self.owner is not None and run.user_id != self.owner:
            raise NotFound(f"There is no run {run.id[:LONGEST_RUN_ID]!r}", "Check the runId")
        return run


EVERYBODY: Final = Principal(None, EVERY_SCOPE)
"""Whoever asks where no key is required."""


async def principal_with(keys: Keys, key: str | None) -> Principal:
    """Whose key this is. Raises Unauthorized for a missing, unknown or revoked one, all in the same
    words.
    """
    form = _KEY.fullmatch(key or "")
    record = await keys.find(form[1]) if form else None
    presented = _sha256(key or "")
    same = hmac.compare_digest(presented, record.sha256 if record else _sha256(""))
    if record is None or not same or record.revoked_at is not None:
        raise Unauthorized(
            "An API key is needed" if not key else "This API key is not known, or was revoked",
            "Send Authorization: Bearer KEY; gpu-renter keys create makes one",
        )
    scopes = frozenset(Scope(name) for name in record.scopes if name in EVERY_SCOPE)
    return Principal(record.owner, scopes, record.id)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `secret` is shown once and kept nowhere."""

    secret: str
    record: KeyRecord


def new_key(owner: str | None, scopes: Iterable[Scope], now: datetime) -> NewKey:
    """A fresh key. InvalidInput for one that reaches everybody's runs without being meant to:
    only `admin`, and `read` alone, may have no owner.
    """
    wanted = frozenset(scopes)
    if owner is None and Scope.ADMIN not in wanted and wanted != {Scope.READ}:
        raise InvalidInput(
            "--owner",
            "a key that starts, moves or approves runs has to speak for somebody",
            "Name the userId; only --scope admin, or --scope read alone, may do without",
        )
    key_id = new_key_id()
    secret = f"gr_{key_id}_{secrets.token_urlsafe(32)}"
    names = tuple(scope.value for scope in Scope if scope in wanted)
    return NewKey(secret, KeyRecord(key_id, _sha256(secret), owner, names, now))


def key_in(connection: HTTPConnection) -> str | None:
    """The key of `Authorization: Bearer KEY`."""
    kind, _, key = connection.headers.get("authorization", "").partition(" ")
    return key.strip() or None if kind.lower() == "bearer" else None


def principal_of(connection: HTTPConnection) -> Principal:
    """The Principal that the guard found; for `Depends`. Raises Unauthorized without one."""
    found = connection.scope.get(PRINCIPAL)
    if not isinstance(found, Principal):
        raise Unauthorized("An API key is needed", "Send Authorization: Bearer KEY")
    return found


WhoAsks = Annotated[Principal, Depends(principal_of)]


def keys_required(settings: Settings) -> bool:
    """Whether a request needs an API key."""
    return settings.api_keys == "required" or not is_loopback(settings.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


async def check_exposure(settings: Settings, keys: Keys) -> None:
    """Raise ConfigError where a key is required and none exists."""
    if not keys_required(settings) or await keys.any_in_force():
        return
    remedy = f"Make one first: {MAKE_A_KEY}"
    if is_loopback(settings.host):
        raise ConfigError("API_KEYS", "it is required, and there is no API key", remedy)
    raise ConfigError(
        "HOST",
        f"others reach {settings.host}, and there is no API key to tell them apart",
        f"{remedy}; or leave HOST at 127.0.0.1",
    )


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
