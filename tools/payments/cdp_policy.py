"""The second lock: CDP's policy engine refuses what our own policy should never have passed.

Installed on the account that pays, the policy lets Coinbase sign one thing only: EIP-3009's
TransferWithAuthorization, over the network's USDC, of at most the cap, to a registered payee.
Bare hashes, messages and transactions are rejected by name; whatever no rule accepts is rejected
too. Source: CDP API v2, "Policy engine" and "EVM policies".

It holds against this process and its machine only as far as its API key cannot change policies:
CDP asks for no wallet secret there. Our accept rule and our reject rules name different
operations, so nothing depends on their order.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eth_utils.address import to_checksum_address

from domain.errors import Conflict, InvalidInput, NotFound
from domain.money import Usd
from tools.payments.cdp_api import CdpApi
from tools.payments.wallets import TRANSFER_WITH_AUTHORIZATION
from tools.wire.untrusted import clean_text

ADDRESSES_PER_RULE: Final = 100
MOST_PAYEES: Final = 1_000
MOST_PAGES: Final = 50

Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lock:
    """What the account may sign: at most `cap` of the token `contract`, to one of `payees`."""

    contract: str
    cap: Usd
    payees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CdpAccount:
    name: str
    address: str
    policy_ids: tuple[str, ...]
    """The ids of all policies that apply to it: the project's and its own."""


@dataclass(frozen=True, slots=True)
class CdpPolicy:
    id: str
    scope: str
    description: str
    rules: tuple[Rule, ...]
    paused: bool
    """Whether CDP does not apply it for now."""

    def holds(self, lock: Lock) -> bool:
        """Whether its rules are the lock's, no more and no less."""
        return _canonical(self.rules) == _canonical(rules_of(lock))

    def summary(self) -> list[str]:
        """One line for each rule."""
        lines = [_line(rule) for rule in self.rules]
        return ["paused: it refuses nothing", *lines] if self.paused else lines


@dataclass(frozen=True, slots=True)
class Installed:
    policy: CdpPolicy
    change: Literal["created", "updated", "unchanged"]
    attached: bool
    """Whether it had to be attached to the account."""


def description_of(account_name: str) -> str:
    """The policy's name. CDP takes letters, digits, spaces, commas and dots, 50 at most."""
    return "gpu renter, " + account_name.replace("-", ".")


def rules_of(lock: Lock) -> list[Rule]:
    """The lock as CDP's rules. Without a payee, nothing may be signed."""
    payees = sorted({str(to_checksum_address(payee)) for payee in lock.payees}, key=str.lower)
    if len(payees) > MOST_PAYEES:
        raise InvalidInput("payees", f"more than {MOST_PAYEES} do not fit into one policy")
    chunks = range(0, len(payees), ADDRESSES_PER_RULE)
    accepted = [_accept(lock, payees[at : at + ADDRESSES_PER_RULE]) for at in chunks]
    anything = {"type": "ethValue", "ethValue": "0", "operator": ">="}
    any_message = {"type": "evmMessage", "match": ".*"}
    return [
        *accepted,
        {"action": "reject", "operation": "signEvmHash"},
        {"action": "reject", "operation": "signEvmMessage", "criteria": [any_message]},
        {"action": "reject", "operation": "signEvmTransaction", "criteria": [anything]},
        {"action": "reject", "operation": "sendEvmTransaction", "criteria": [anything]},
    ]


async def find_account(api: CdpApi, name: str) -> CdpAccount | None:
    """The account called `name`, or None where there is none. Makes nothing."""
    found = await api.ask(api.sdk.evm.get_account(name=name), none_for=404)
    if found is None:
        return None
    return CdpAccount(name, api.address_of(found), tuple(found.policies or ()))


async def policies_of(api: CdpApi, account: CdpAccount) -> list[CdpPolicy]:
    """The policies that apply to the account, the project's first: CDP asks that one first."""
    engine = _engine(api)
    found = [
        _policy(await api.ask(engine.get_policy_by_id_without_preload_content(id_)), api)
        for id_ in account.policy_ids
    ]
    return sorted(found, key=lambda policy: policy.scope != "project")


def overriding(policies: Sequence[CdpPolicy]) -> list[str]:
    """What project policies accept: they go before the account's, so our lock cannot stop it."""
    return [
        f"{clean_text(str(rule.get('operation')), 40)} (project policy {policy.id})"
        for policy in policies
        if policy.scope == "project"
        for rule in policy.rules
        if rule.get("action") == "accept"
    ]


async def install(
    api: CdpApi, account_name: str, lock: Lock, *, replace: bool = False
) -> Installed:
    """Have the lock in force on the account. Idempotent; safe to break off and repeat.

    replace: take the place of another policy that the account has. Raises NotFound without the
    account, Conflict where ours is paused, or another one is attached and `replace` is False.
    """
    account = await find_account(api, account_name)
    if account is None:
        raise NotFound(
            f"CDP has no account called {account_name}", "Make it: gpu-renter wallet init"
        )
    description, rules = description_of(account_name), rules_of(lock)
    applied = await policies_of(api, account)
    others = [p for p in applied if p.scope == "account" and p.description != description]
    if others and not replace:
        raise Conflict(
            f"The account {account_name} has the policy {others[0].id} "
            f"({others[0].description or 'no description'}), and can have one only",
            "Look at it in https://portal.cdp.coinbase.com, or take its place with --replace",
        )
    known = next((p for p in applied if p.scope == "account" and p not in others), None)
    known = known or await _by_description(api, description)
    change: Literal["created", "updated", "unchanged"] = "unchanged"
    if known is None:
        known, change = await _create(api, description, rules), "created"
    elif not known.holds(lock):
        known, change = await _update(api, known.id, description, rules), "updated"
    attached = known.id not in account.policy_ids
    if attached:
        from cdp.update_account_types import UpdateAccountOptions

        ours = UpdateAccountOptions(account_policy=known.id)
        await api.ask(api.sdk.evm.update_account(account.address, ours))
    after = await find_account(api, account_name)
    if after is None or known.id not in after.policy_ids or not known.holds(lock):
        raise api.down("it took the policy, and does not show it on the account")
    if known.paused:
        raise Conflict(
            f"The policy {known.id} of {account_name} is paused at CDP: it refuses nothing",
            "Resume it in https://portal.cdp.coinbase.com",
        )
    return Installed(known, change, attached)


def _engine(api: CdpApi) -> Any:
    """The policy engine's calls, whose answers are read here: the SDK's own models drop of a policy
    what they do not know, and a lock is compared with all that stands there.
    """
    return api.sdk.api_clients.policies


async def _create(api: CdpApi, description: str, rules: list[Rule]) -> CdpPolicy:
    from cdp.openapi_client.models.create_policy_request import CreatePolicyRequest

    body = {"scope": "account", "description": description, "rules": rules}
    key = str(uuid.uuid5(uuid.NAMESPACE_URL, api.host + json.dumps(body, sort_keys=True)))
    create = _engine(api).create_policy_without_preload_content
    return _policy(await api.ask(create(CreatePolicyRequest.from_dict(body), key)), api)


async def _update(api: CdpApi, id_: str, description: str, rules: list[Rule]) -> CdpPolicy:
    from cdp.openapi_client.models.update_policy_request import UpdatePolicyRequest

    body = UpdatePolicyRequest.from_dict({"description": description, "rules": rules})
    update = _engine(api).update_policy_without_preload_content
    return _policy(await api.ask(update(id_, update_policy_request=body)), api)


async def _by_description(api: CdpApi, description: str) -> CdpPolicy | None:
    listing = _engine(api).list_policies_without_preload_content
    token = None
    for _ in range(MOST_PAGES):
        page = await api.ask(listing(scope="account", page_token=token))
        listed = page.get("policies")
        for fields in listed if isinstance(listed, list) else []:
            policy = _policy(fields, api)
            if policy.description == description:
                return policy
        token = page.get("nextPageToken")
        if not isinstance(token, str) or not token:
            return None
    raise api.down(f"it lists more than {MOST_PAGES} pages of policies")


def _policy(fields: Mapping[str, object], api: CdpApi) -> CdpPolicy:
    id_, rules = fields.get("id"), fields.get("rules")
    if not isinstance(id_, str) or not isinstance(rules, list):
        raise api.down("its answer holds no policy")
    return CdpPolicy(
        id=clean_text(id_, 64),
        scope=str(fields.get("scope")),
        description=clean_text(str(fields.get("description") or ""), 50),
        rules=tuple(rule for rule in rules if isinstance(rule, dict)),
        paused=fields.get("status") == "paused",
    )


def _accept(lock: Lock, payees: list[str]) -> Rule:
    fields = [{"name": name, "type": kind} for name, kind in TRANSFER_WITH_AUTHORIZATION]
    contract = {
        "type": "evmTypedDataVerifyingContract",
        "addresses": [lock.contract],
        "operator": "in",
    }
    bounded = {
        "type": "evmTypedDataField",
        "types": {
            "types": {"TransferWithAuthorization": fields},
            "primaryType": "TransferWithAuthorization",
        },
        "conditions": [
            {"path": "value", "operator": "<=", "value": str(lock.cap.micros)},
            {"path": "to", "operator": "in", "addresses": payees},
        ],
    }
    return {"action": "accept", "operation": "signEvmTypedData", "criteria": [contract, bounded]}


def _canonical(rules: Sequence[Rule]) -> list[str]:
    """The rules as comparable text, however addresses are written."""
    return [json.dumps(rule, sort_keys=True).lower() for rule in rules]


def _line(rule: Rule) -> str:
    said = f"{rule.get('action')} {rule.get('operation')}"
    bounds: list[str] = []
    for criterion in rule.get("criteria") or []:
        if criterion.get("type") == "evmTypedDataVerifyingContract":
            bounds.append(f"contract {', '.join(criterion.get('addresses', []))}")
        for condition in criterion.get("conditions") or []:
            if condition.get("path") == "value" and str(condition.get("value")).isdigit():
                bounds.append(f"{condition.get('operator')} {Usd(int(condition['value']))}")
            elif "addresses" in condition:
                bounds.append(f"{condition.get('path')} one of {', '.join(condition['addresses'])}")
    return clean_text(f"{said}: {'; '.join(bounds)}" if bounds else said, 20_000)
