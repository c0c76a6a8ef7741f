import json
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import uvicorn
from eth_account import Account
from eth_account.messages import encode_typed_data
from pydantic import SecretStr

from domain.errors import ConfigError, PolicyRefused, WalletDown
from tests.tools.builders import AGENT, AGENT_KEY, NETWORK, NONCE, PAYEE, STRANGER
from tests.tools.cdp_stand_in import CdpStandIn, send
from tools.payments.cdp_api import CDP_LIMITS, open_cdp_api
from tools.payments.wallets import (
    TRANSFER_WITH_AUTHORIZATION,
    CdpWallet,
    LocalWallet,
    TypedData,
    open_cdp_wallet,
)

SIGN = "/v2/evm/accounts/{}/sign/typed-data"


def typed_data(payer: str, value: int = 1_000, pay_to: str = PAYEE) -> TypedData:
    return TypedData(
        token_name=NETWORK.eip712_name,
        token_version=NETWORK.eip712_version,
        chain_id=NETWORK.chain_id,
        verifying_contract=NETWORK.usdc,
        payer=payer,
        pay_to=pay_to,
        value=value,
        valid_after_s=0,
        valid_before_s=1_800_000_000,
        nonce=NONCE,
    )


def signer(data: TypedData, signature: str) -> str:
    signable = encode_typed_data(full_message=data.as_json())
    return str(Account.recover_message(signable, signature=signature))


async def test_a_local_key_signs_the_same_message_the_same_way() -> None:
    wallet = LocalWallet(AGENT_KEY)
    first = await wallet.sign_typed_data(typed_data(AGENT))
    assert first == await LocalWallet(AGENT_KEY[2:] + "\n").sign_typed_data(typed_data(AGENT))
    assert wallet.address == AGENT
    assert signer(typed_data(AGENT), first) == AGENT
    assert len(first) == 132


@pytest.mark.parametrize(
    "key", ["", "0x12", "correct horse battery staple", "0x" + "00" * 32, "0x" + "ff" * 32]
)
def test_a_bad_key_is_named_and_never_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="X402_PRIVATE_KEY") as error:
        LocalWallet(SecretStr(key))
    assert not key or key not in str(error.value)
    assert error.value.__cause__ is None


def test_a_wallet_shows_its_address_and_not_its_key() -> None:
    assert repr(LocalWallet(AGENT_KEY)) == f"LocalWallet({AGENT})"


@dataclass
class Cdp:
    service: CdpStandIn
    http: httpx.AsyncClient
    base_path: str

    async def open(self, account_name: str = "agentic-gpu-renter") -> CdpWallet:
        return await open_cdp_wallet(
            self.http,
            self.service.credentials,
            account_name=account_name,
            base_path=self.base_path,
        )

    def install(self, *rules: dict[str, Any]) -> None:
        """A project policy, as a person would make it in CDP's portal."""
        policy = {"id": "p1", "scope": "project", "rules": list(rules)}
        self.service.policies["p1"] = policy


@pytest.fixture(scope="module", autouse=True)
def _cdp_sdk() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports websockets.legacy
        import cdp.auth.utils.jwt  # noqa: F401


@pytest.fixture
async def cdp() -> AsyncIterator[Cdp]:
    """The stand-in behind a real socket on loopback."""
    service = CdpStandIn()
    config = uvicorn.Config(service.asgi(), port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(verify=False) as http:
        yield Cdp(service, http, f"http://127.0.0.1:{port}/platform")
    await server.shutdown()


async def test_the_account_is_made_once_and_found_again(cdp: Cdp) -> None:
    first, second = await cdp.open(), await cdp.open()
    assert first.address == second.address == cdp.service.accounts["agentic-gpu-renter"].address
    assert [call for call in cdp.service.calls if call[0] == "POST"] == [
        ("POST", "/v2/evm/accounts")
    ]


async def test_coinbase_signs_typed_data_and_never_a_bare_hash(cdp: Cdp) -> None:
    wallet = await cdp.open()
    data = typed_data(wallet.address)
    assert signer(data, await wallet.sign_typed_data(data)) == wallet.address
    assert cdp.service.calls[-1] == ("POST", SIGN.format(wallet.address))


def cap(value: int) -> dict[str, Any]:
    fields = [{"name": name, "type": kind} for name, kind in TRANSFER_WITH_AUTHORIZATION]
    types = {"types": {"TransferWithAuthorization": fields}}
    return {
        "action": "accept",
        "operation": "signEvmTypedData",
        "criteria": [
            {
                "type": "evmTypedDataVerifyingContract",
                "addresses": [NETWORK.usdc],
                "operator": "in",
            },
            {
                "type": "evmTypedDataField",
                "types": types | {"primaryType": "TransferWithAuthorization"},
                "conditions": [
                    {"path": "value", "operator": "<=", "value": str(value)},
                    {"path": "to", "operator": "in", "addresses": [PAYEE]},
                ],
            },
        ],
    }


async def test_coinbases_policy_is_obeyed(cdp: Cdp) -> None:
    wallet = await cdp.open()
    cdp.install(cap(1_000))
    within = typed_data(wallet.address)
    assert signer(within, await wallet.sign_typed_data(within)) == wallet.address
    for beyond in (typed_data(wallet.address, 1_001), typed_data(wallet.address, 1, STRANGER)):
        with pytest.raises(PolicyRefused, match="policy_violation") as refusal:
            await wallet.sign_typed_data(beyond)
        assert refusal.value.rule == "cdp_policy"


async def test_the_stand_ins_bare_hash_endpoint_obeys_policy_too(cdp: Cdp) -> None:
    wallet = await cdp.open()
    path, body = f"/v2/evm/accounts/{wallet.address}/sign", {"hash": "0x" + "12" * 32}
    assert "signature" in await send(wallet._api, "POST", path, body)
    cdp.install(cap(1_000), {"action": "reject", "operation": "signEvmHash"})
    with pytest.raises(PolicyRefused):
        await send(wallet._api, "POST", path, body)


async def test_the_stand_in_makes_lists_and_changes_policies(cdp: Cdp) -> None:
    api = (await cdp.open())._api
    path = "/v2/policy-engine/policies"
    made = await send(api, "POST", path, {"scope": "account", "rules": [cap(5)]})
    await send(api, "PUT", f"{path}/{made['id']}", {"rules": [cap(6)]})
    listed = await send(api, "GET", path, {})
    assert listed["policies"] == [{**made, "rules": [cap(6)]}]


async def test_wrong_credentials_are_named_and_never_shown(cdp: Cdp) -> None:
    stranger = CdpStandIn().credentials
    for credentials in (
        replace(cdp.service.credentials, api_key_secret=stranger.api_key_secret),
        replace(cdp.service.credentials, wallet_secret=stranger.wallet_secret),
        replace(cdp.service.credentials, api_key_id="other"),
    ):
        with pytest.raises(ConfigError, match="CDP_API_KEY_ID, CDP_API_KEY_SECRET") as error:
            await open_cdp_wallet(cdp.http, credentials, base_path=cdp.base_path)
        assert credentials.api_key_secret.get_secret_value() not in str(error.value)
    assert "SecretStr('**" in repr(stranger)


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("api_key_id", "", "CDP_API_KEY_ID"),
        ("api_key_secret", SecretStr("not-a-key"), "CDP_API_KEY_SECRET"),
        ("api_key_secret", SecretStr(""), "CDP_API_KEY_SECRET"),
        ("wallet_secret", SecretStr("not-a-key"), "CDP_WALLET_SECRET"),
    ],
)
async def test_credentials_that_cannot_work_are_named_one_by_one(
    cdp: Cdp, name: str, value: Any, variable: str
) -> None:
    credentials = replace(cdp.service.credentials, **{name: value})
    with pytest.raises(ConfigError, match=variable) as error:
        await open_cdp_wallet(cdp.http, credentials, base_path=cdp.base_path)
    assert "not-a-key" not in str(error.value)


@pytest.mark.parametrize("base_path", ["", "http://api.cdp.coinbase.com", "ftp://x", "::::"])
async def test_tokens_are_never_sent_in_the_clear(cdp: Cdp, base_path: str) -> None:
    with pytest.raises(ConfigError, match="CDP_BASE_PATH"):
        await open_cdp_wallet(cdp.http, cdp.service.credentials, base_path=base_path)


async def test_a_bad_account_name_is_refused(cdp: Cdp) -> None:
    with pytest.raises(ConfigError, match="CDP_ACCOUNT_NAME"):
        await cdp.open("no/slashes")


def faulty(
    service: CdpStandIn, path: str, fault: Callable[[httpx.Request], httpx.Response]
) -> httpx.AsyncClient:
    """A client of the stand-in whose calls to paths that end in `path` go wrong."""
    good = httpx.ASGITransport(service.asgi())

    async def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(path):
            return fault(request)
        answer = await good.handle_async_request(request)
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=await answer.aread()
        )

    return httpx.AsyncClient(transport=httpx.MockTransport(serve))


def timing_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("t", request=request)


@pytest.mark.parametrize(
    "fault",
    [
        timing_out,
        lambda _: httpx.Response(500),
        lambda _: httpx.Response(429, json={"errorType": "rate_limit_exceeded"}),
        lambda _: httpx.Response(302, headers={"location": "https://evil.test"}),
        lambda _: httpx.Response(200, content=b"<html>"),
        lambda _: httpx.Response(200, json={}),
        lambda _: httpx.Response(200, json={"signature": 5}),
        lambda _: httpx.Response(200, content=b"x" * 300_000),
        lambda _: httpx.Response(204),
        lambda _: httpx.Response(202, json={"signature": "0x00"}),
        lambda _: httpx.Response(200, content=b"[" * 100_000),
        lambda _: httpx.Response(400, content=b"[" * 100_000),
    ],
)
async def test_without_a_signature_the_wallet_is_down(
    fault: Callable[[httpx.Request], httpx.Response],
) -> None:
    service = CdpStandIn()
    http = faulty(service, "typed-data", fault)
    base_path = "http://127.0.0.1/platform"
    wallet = await open_cdp_wallet(http, service.credentials, base_path=base_path)
    with pytest.raises(WalletDown, match=r"127\.0\.0\.1"):
        await wallet.sign_typed_data(typed_data(wallet.address))


async def test_a_call_that_failed_is_not_repeated_nor_told_to_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cdp.analytics

    told: list[object] = []
    monkeypatch.setenv("DISABLE_CDP_USAGE_TRACKING", "false")
    monkeypatch.setenv("DISABLE_CDP_ERROR_REPORTING", "false")
    monkeypatch.setattr(cdp.analytics, "_run_async_in_sync", lambda *event: told.append(event))
    service, asked = CdpStandIn(), []

    def failing(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(503)

    http, base_path = faulty(service, "", failing), "http://127.0.0.1/platform"
    with pytest.raises(WalletDown, match="answered 503"):
        await open_cdp_wallet(http, service.credentials, base_path=base_path)
    assert asked == ["GET"]
    assert told == []


@pytest.mark.parametrize(
    ("status", "kind", "error", "says"),
    [
        (403, "forbidden", PolicyRefused, "forbidden"),
        (400, "policy_violation", PolicyRefused, "policy_violation"),
        (400, "invalid_request", WalletDown, "answered 400"),
        (401, "unauthorized", ConfigError, "CDP_WALLET_SECRET"),
    ],
)
async def test_what_the_service_refuses_is_told_apart_by_its_error(
    status: int, kind: str, error: type[Exception], says: str
) -> None:
    for message in ({"errorMessage": "so it is"}, {"errorMessage": None}, {}):
        answer = httpx.Response(status, json={"errorType": kind, **message})
        service = CdpStandIn()
        http = faulty(service, "typed-data", lambda _, answer=answer: answer)  # type: ignore[misc]
        wallet = await open_cdp_wallet(
            http, service.credentials, base_path="http://localhost/platform"
        )
        with pytest.raises(error) as raised:
            await wallet.sign_typed_data(typed_data(wallet.address))
        assert says in str(raised.value)


async def test_a_secret_that_the_service_repeats_is_not_repeated() -> None:
    service = CdpStandIn()
    credentials = service.credentials
    secrets = [
        s.get_secret_value() for s in (credentials.api_key_secret, credentials.wallet_secret)
    ]
    for secret in secrets:
        answer = httpx.Response(403, json={"errorType": "x", "errorMessage": f"not {secret}"})
        http = faulty(service, "typed-data", lambda _, answer=answer: answer)  # type: ignore[misc]
        wallet = await open_cdp_wallet(http, credentials, base_path="http://localhost/platform")
        with pytest.raises(PolicyRefused) as raised:
            await wallet.sign_typed_data(typed_data(wallet.address))
        assert secret[:30] not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "transaction"),
    [({"transactionHash": "0xab"}, "0xab"), ({"transactionHash": 5}, None), ({}, None)],
)
async def test_the_faucet_is_asked_for_test_usdc(
    answer: dict[str, Any], transaction: str | None
) -> None:
    asked: list[httpx.Request] = []

    def faucet(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=answer)

    service = CdpStandIn()
    http = faulty(service, "/faucet", faucet)
    api = await open_cdp_api(http, service.credentials, "http://localhost/platform")
    if transaction:
        assert await api.faucet(AGENT) == transaction
    else:
        with pytest.raises(WalletDown):
            await api.faucet(AGENT)
    assert [(r.method, r.url.path) for r in asked] == [("POST", "/platform/v2/evm/faucet")]
    wish = {"address": AGENT, "network": "base-sepolia", "token": "usdc"}
    assert json.loads(asked[0].content) == wish


async def test_an_account_made_meanwhile_is_found() -> None:
    service = CdpStandIn()
    asked: list[str] = []

    def not_found_at_first(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) == 1:
            return httpx.Response(404, json={"errorType": "not_found"})
        return httpx.Response(200, json={"address": AGENT.lower()})

    service.accounts["agentic-gpu-renter"] = Account.from_key(AGENT_KEY)
    http = faulty(service, "/by-name/agentic-gpu-renter", not_found_at_first)
    wallet = await open_cdp_wallet(
        http, service.credentials, base_path="http://127.0.0.1/platform", limits=CDP_LIMITS
    )
    assert wallet.address == AGENT
    assert asked == ["GET", "GET"]


@pytest.mark.parametrize(
    ("said", "problem"),
    [({"a": 1}, "not what its API promises"), ({"address": AGENT + "\n"}, "no account address")],
)
async def test_an_account_without_an_address_is_no_wallet(
    said: dict[str, Any], problem: str
) -> None:
    service = CdpStandIn()
    http = faulty(service, "agentic-gpu-renter", lambda _: httpx.Response(200, json=said))
    with pytest.raises(WalletDown, match=problem):
        await open_cdp_wallet(http, service.credentials, base_path="http://127.0.0.1/platform")


def test_the_typed_data_is_plain_json() -> None:
    data = typed_data(AGENT).as_json()
    assert json.loads(json.dumps(data)) == data
