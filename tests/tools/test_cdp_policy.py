"""The second lock: what the stand-in for Coinbase refuses once our policy is on the account.

The stand-in checks the tokens of each call and evaluates the rules as CDP's documents say.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from domain.errors import Conflict, InvalidInput, NotFound, PolicyRefused, WalletDown
from domain.money import Usd
from domain.networks import BASE
from tests.tools.builders import NETWORK, NONCE, PAYEE, STRANGER
from tests.tools.cdp_service import OPERATIONS, CdpService, served
from tests.tools.cdp_stand_in import send
from tools.payments.cdp_api import CdpApi, open_cdp_api
from tools.payments.cdp_policy import (
    Lock,
    description_of,
    find_account,
    install,
    overriding,
    policies_of,
    rules_of,
)
from tools.payments.wallets import CDP_ACCOUNT_NAME, CdpWallet, TypedData, open_cdp_wallet

LOCK = Lock(NETWORK.usdc, Usd(1_000), (PAYEE,))


@dataclass
class Cdp:
    service: CdpService
    api: CdpApi
    wallet: CdpWallet

    def payment(self, value: int = 1_000, pay_to: str = PAYEE, token: str = "") -> TypedData:
        return TypedData(
            token_name=NETWORK.eip712_name,
            token_version=NETWORK.eip712_version,
            chain_id=NETWORK.chain_id,
            verifying_contract=token or NETWORK.usdc,
            payer=self.wallet.address,
            pay_to=pay_to,
            value=value,
            valid_after_s=0,
            valid_before_s=1_800_000_000,
            nonce=NONCE,
        )

    def path(self, operation: str) -> str:
        return f"/v2/evm/accounts/{self.wallet.address}/{operation}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        """What was changed since the account was made."""
        return [call for call in self.service.calls[2:] if call[0] != "GET"]


@pytest.fixture(scope="module", autouse=True)
def _cdp_sdk() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports websockets.legacy
        import cdp.auth.utils.jwt  # noqa: F401


@pytest.fixture
async def cdp() -> AsyncIterator[Cdp]:
    service = CdpService()
    with served(service) as base_path:
        async with httpx.AsyncClient(trust_env=False) as http:
            api = await open_cdp_api(http, service.credentials, base_path)
            wallet = await open_cdp_wallet(http, service.credentials, base_path=base_path)
            yield Cdp(service, api, wallet)


async def test_a_payment_within_the_lock_is_signed(cdp: Cdp) -> None:
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    assert len(await cdp.wallet.sign_typed_data(cdp.payment())) == 132


@pytest.mark.parametrize(
    "beyond",
    [{"value": 1_001}, {"pay_to": STRANGER}, {"token": STRANGER}],
    ids=["over the cap", "unknown payee", "another token"],
)
async def test_a_payment_beyond_the_lock_is_refused(cdp: Cdp, beyond: dict[str, Any]) -> None:
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    with pytest.raises(PolicyRefused) as refused:
        await cdp.wallet.sign_typed_data(cdp.payment(**beyond))
    assert refused.value.rule == "cdp_policy"


async def test_another_kind_of_typed_data_is_refused(cdp: Cdp) -> None:
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    permit = cdp.payment().as_json() | {"primaryType": "Permit"}
    with pytest.raises(PolicyRefused):
        await send(cdp.api, "POST", cdp.path("sign/typed-data"), permit)


@pytest.mark.parametrize("operation", ["sign", *OPERATIONS])
async def test_bare_hashes_messages_and_transactions_are_refused(cdp: Cdp, operation: str) -> None:
    body = {"hash": "0x" + "12" * 32, "message": "hi", "value": 0}
    assert "signature" in await send(cdp.api, "POST", cdp.path(operation), body)
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    with pytest.raises(PolicyRefused):
        await send(cdp.api, "POST", cdp.path(operation), body)


async def test_installing_it_again_changes_nothing(cdp: Cdp) -> None:
    first = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    written = cdp.writes
    second = await install(cdp.api, CDP_ACCOUNT_NAME, replace(LOCK, payees=(PAYEE.lower(),)))
    assert (first.change, first.attached) == ("created", True)
    assert (second.change, second.attached) == ("unchanged", False)
    assert first.policy == second.policy
    assert cdp.writes == written
    assert len(cdp.service.policies) == 1


async def test_new_vendors_and_limits_change_the_same_policy(cdp: Cdp) -> None:
    first = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    wider = Lock(NETWORK.usdc, Usd(2_000), (PAYEE, STRANGER))
    second = await install(cdp.api, CDP_ACCOUNT_NAME, wider)
    assert (second.change, second.attached) == ("updated", False)
    assert second.policy.id == first.policy.id
    assert len(cdp.service.policies) == 1
    await cdp.wallet.sign_typed_data(cdp.payment(2_000, STRANGER))
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    with pytest.raises(PolicyRefused):
        await cdp.wallet.sign_typed_data(cdp.payment(1, STRANGER))


async def test_a_paused_policy_is_no_lock(cdp: Cdp) -> None:
    first = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    cdp.service.policies[first.policy.id]["status"] = "paused"
    with pytest.raises(Conflict, match="paused at CDP"):
        await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    account = await find_account(cdp.api, CDP_ACCOUNT_NAME)
    assert account is not None
    assert (await policies_of(cdp.api, account))[0].summary()[0] == "paused: it refuses nothing"


@pytest.mark.parametrize("lost", ["attaching", "creating"])
async def test_an_installation_that_broke_off_is_finished(cdp: Cdp, lost: str) -> None:
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    cdp.service.account_policies.clear()
    if lost == "creating":
        cdp.service.policies.clear()
    again = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    assert again.attached
    assert len(cdp.service.policies) == 1
    with pytest.raises(PolicyRefused):
        await cdp.wallet.sign_typed_data(cdp.payment(1_001))


async def test_the_policy_is_found_on_a_later_page(cdp: Cdp) -> None:
    cdp.service.page_size = 2
    for number in range(5):
        body = {"scope": "account", "description": f"other {number}", "rules": []}
        await send(cdp.api, "POST", "/v2/policy-engine/policies", body)
    first = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    cdp.service.account_policies.clear()
    assert (await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)).policy.id == first.policy.id
    assert len(cdp.service.policies) == 6


async def test_without_a_payee_nothing_can_be_signed(cdp: Cdp) -> None:
    await install(cdp.api, CDP_ACCOUNT_NAME, replace(LOCK, payees=()))
    with pytest.raises(PolicyRefused):
        await cdp.wallet.sign_typed_data(cdp.payment(1))


async def test_another_policy_of_the_account_is_not_pushed_aside_unasked(cdp: Cdp) -> None:
    body = {"scope": "account", "description": "the owner's", "rules": []}
    theirs = (await send(cdp.api, "POST", "/v2/policy-engine/policies", body))["id"]
    await send(cdp.api, "PUT", cdp.path("").rstrip("/"), {"accountPolicy": theirs})
    with pytest.raises(Conflict, match="--replace"):
        await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    assert cdp.service.account_policies[CDP_ACCOUNT_NAME] == theirs
    replaced = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK, replace=True)
    assert cdp.service.account_policies[CDP_ACCOUNT_NAME] == replaced.policy.id


async def test_a_project_policy_that_goes_first_is_told_of(cdp: Cdp) -> None:
    accept = {"action": "accept", "operation": "signEvmHash"}
    body = {"scope": "project", "description": "wide open", "rules": [accept]}
    await send(cdp.api, "POST", "/v2/policy-engine/policies", body)
    await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    account = await find_account(cdp.api, CDP_ACCOUNT_NAME)
    assert account is not None
    policies = await policies_of(cdp.api, account)
    assert [policy.scope for policy in policies] == ["project", "account"]
    assert [line.split()[0] for line in overriding(policies)] == ["signEvmHash"]
    assert policies[1].holds(LOCK)


async def test_no_account_is_made_by_looking_or_locking(cdp: Cdp) -> None:
    assert await find_account(cdp.api, "nobody") is None
    with pytest.raises(NotFound, match="wallet init"):
        await install(cdp.api, "nobody", LOCK)
    assert list(cdp.service.accounts) == [CDP_ACCOUNT_NAME]


async def test_a_rule_with_more_in_it_than_the_sdk_knows_is_not_ours(cdp: Cdp) -> None:
    first = await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)
    cdp.service.policies[first.policy.id]["rules"][0]["exceptFor"] = [STRANGER]
    assert (await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)).change == "updated"


async def test_a_service_that_forgets_the_policy_is_not_believed(cdp: Cdp) -> None:
    class Forgetful(dict[str, str]):
        def __setitem__(self, name: str, policy_id: str) -> None:
            pass

    cdp.service.account_policies = Forgetful()
    with pytest.raises(WalletDown, match="does not show it on the account"):
        await install(cdp.api, CDP_ACCOUNT_NAME, LOCK)


def test_the_rules_are_what_cdp_takes() -> None:
    from cdp.openapi_client.models.create_policy_request import CreatePolicyRequest

    payees = tuple(f"0x{number:040x}" for number in range(1, 252))
    rules = rules_of(Lock(BASE.usdc, Usd(5), payees))
    body = {"scope": "account", "description": description_of("a" * 36), "rules": rules}
    assert CreatePolicyRequest.from_dict(body) is not None
    assert [rule["action"] for rule in rules] == ["accept"] * 3 + ["reject"] * 4
    listed = [rule["criteria"][1]["conditions"][1]["addresses"] for rule in rules[:3]]
    assert [len(addresses) for addresses in listed] == [100, 100, 51]


def test_no_operation_is_both_accepted_and_rejected() -> None:
    """So that it does not matter in which order CDP looks at them."""
    rules = rules_of(LOCK)
    accepted = {rule["operation"] for rule in rules if rule["action"] == "accept"}
    rejected = {rule["operation"] for rule in rules if rule["action"] == "reject"}
    assert accepted == {"signEvmTypedData"}
    assert not accepted & rejected


def test_more_payees_than_a_policy_holds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="payees"):
        rules_of(replace(LOCK, payees=tuple(f"0x{number:040x}" for number in range(1, 1_002))))


@pytest.mark.parametrize("name", ["ab", "a-b-c", CDP_ACCOUNT_NAME, "x" * 36])
def test_descriptions_are_names_that_cdp_takes(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9 ,.]{1,50}", description_of(name))
