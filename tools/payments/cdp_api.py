"""The Coinbase Developer Platform's REST API v2, over our own HTTP client.

The SDK makes the two tokens that CDP asks for; nothing else of it is used, so that every call can
be bounded, faulted in tests and kept from its telemetry.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import SecretStr

from domain.errors import ConfigError, PolicyRefused, WalletDown
from tools.wire.canonical import canonical_json
from tools.wire.exchange import Answer, Limits, NoAnswer, exchange
from tools.wire.untrusted import Unreadable, clean_text, parse_object

CDP_BASE_PATH: Final = "https://api.cdp.coinbase.com/platform"
CDP_LIMITS: Final = Limits(connect_s=5, read_s=20, total_s=30, body_bytes=256 * 1024)

_KEYS: Final = "CDP_API_KEY_ID, CDP_API_KEY_SECRET, CDP_WALLET_SECRET"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class CdpCredentials:
    """The three CDP settings: the API key's id and secret, and the wallet secret."""

    api_key_id: str
    api_key_secret: SecretStr
    wallet_secret: SecretStr


@dataclass(frozen=True, slots=True)
class _JwtMakers:
    """(method, host, path) → API token; (method, host, path, body) → wallet token."""

    api: Callable[[CdpCredentials, str, str, str], str]
    wallet: Callable[[CdpCredentials, str, str, str, Mapping[str, object]], str]


@dataclass(frozen=True, slots=True)
class CdpApi:
    """Authenticated calls to CDP's REST API, over our HTTP client."""

    http: httpx.AsyncClient = field(repr=False)
    credentials: CdpCredentials = field(repr=False)
    base: httpx.URL
    limits: Limits
    jwt: _JwtMakers = field(repr=False)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        params: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (),
        idempotency_key: str | None = None,
    ) -> Answer:
        """One call, sent once. Raises unless the answer is 2xx or one of `accepted`."""
        url = self.base.copy_with(path=self.base.path.rstrip("/") + path)
        headers = self._headers(method, url, body)
        if idempotency_key is not None:
            headers["X-Idempotency-Key"] = idempotency_key
        try:
            answer = await exchange(
                self.http,
                method,
                url,
                limits=self.limits,
                headers=headers,
                params=params,
                content=None if body is None else canonical_json(body),
            )
        except (NoAnswer, Unreadable) as error:
            raise self.down(path, str(error)) from None
        if 200 <= answer.status_code < 300 or answer.status_code in accepted:
            return answer
        raise self._refusal(path, answer)

    def fields(self, answer: Answer) -> Mapping[str, object]:
        """The JSON object in an answer. Raises WalletDown for anything else."""
        try:
            return parse_object(answer.body)
        except Unreadable as error:
            raise self.down("", str(error)) from None

    def down(self, path: str, problem: str) -> WalletDown:
        return WalletDown(
            f"Asking the CDP wallet service at {self.base.host} {path}: {problem}",
            "Try again later; https://cdpstatus.coinbase.com tells its state",
        )

    def _headers(
        self, method: str, url: httpx.URL, body: Mapping[str, object] | None
    ) -> dict[str, str]:
        host = url.netloc.decode("ascii")
        token = self.jwt.api(self.credentials, method, host, url.path)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            headers["X-Wallet-Auth"] = self.jwt.wallet(
                self.credentials, method, host, url.path, body
            )
        return headers

    def _refusal(self, path: str, answer: Answer) -> WalletDown | ConfigError | PolicyRefused:
        try:
            said = parse_object(answer.body)
        except Unreadable:
            said = {}
        kind = clean_text(str(said.get("errorType", "")), 64)
        secrets = (
            self.credentials.api_key_secret.get_secret_value(),
            self.credentials.wallet_secret.get_secret_value(),
        )
        reason = clean_text(f"{kind}: {said.get('errorMessage', '')}", 200, secrets)
        if answer.status_code == 401:
            return ConfigError(
                _KEYS,
                f"the CDP wallet service refuses them ({reason})",
                "Make new ones at https://portal.cdp.coinbase.com",
            )
        if answer.status_code == 403 or kind == "policy_violation":
            return PolicyRefused(
                "cdp_policy",
                f"the CDP wallet service refuses to sign ({reason})",
                "If the payment is wanted, change the policy at https://portal.cdp.coinbase.com",
            )
        return self.down(path, f"it answered {answer.status_code} ({reason})")

    async def faucet(self, address: str) -> str:
        """Ask for test USDC on Base Sepolia for `address`; the transaction it claims. Sent once.

        Raises WalletDown, also when the faucet has given its daily share.
        """
        path = "/v2/evm/faucet"
        wish = {"address": address, "network": "base-sepolia", "token": "usdc"}
        transaction = self.fields(await self.call("POST", path, wish)).get("transactionHash")
        if not isinstance(transaction, str):
            raise self.down(path, "its answer names no transaction")
        return clean_text(transaction, 80)


async def open_cdp_api(
    http: httpx.AsyncClient,
    credentials: CdpCredentials,
    base_path: str = CDP_BASE_PATH,
    limits: Limits = CDP_LIMITS,
) -> CdpApi:
    """The API at `base_path`. Sends nothing.

    Raises ConfigError, naming the variable, for a setting that is missing or no https address.
    """
    for variable, value in (
        ("CDP_API_KEY_ID", credentials.api_key_id),
        ("CDP_API_KEY_SECRET", credentials.api_key_secret.get_secret_value()),
        ("CDP_WALLET_SECRET", credentials.wallet_secret.get_secret_value()),
    ):
        if not value:
            raise ConfigError(variable, "it is missing", "CDP needs all three: " + _KEYS)
    base = _base_url(base_path)
    return CdpApi(http, credentials, base, limits, await asyncio.to_thread(_load_jwt_makers))


def _load_jwt_makers() -> _JwtMakers:
    """The SDK's token makers. Its import takes seconds, and would otherwise report usage."""
    for variable in ("DISABLE_CDP_USAGE_TRACKING", "DISABLE_CDP_ERROR_REPORTING"):
        os.environ.setdefault(variable, "true")
    from cdp.auth.utils.jwt import JwtOptions, WalletJwtOptions, generate_jwt, generate_wallet_jwt

    def api(credentials: CdpCredentials, method: str, host: str, path: str) -> str:
        try:
            return str(
                generate_jwt(
                    JwtOptions(
                        api_key_id=credentials.api_key_id,
                        api_key_secret=credentials.api_key_secret.get_secret_value(),
                        request_method=method,
                        request_host=host,
                        request_path=path,
                    )
                )
            )
        except ValueError:
            raise ConfigError(
                "CDP_API_KEY_SECRET", "it is not an API key's secret", "Copy it again from CDP"
            ) from None

    def wallet(
        credentials: CdpCredentials, method: str, host: str, path: str, body: Mapping[str, object]
    ) -> str:
        try:
            return str(
                generate_wallet_jwt(
                    WalletJwtOptions(
                        wallet_auth_key=credentials.wallet_secret.get_secret_value(),
                        request_method=method,
                        request_host=host,
                        request_path=path,
                        request_data=dict(body),
                    )
                )
            )
        except ValueError:
            raise ConfigError(
                "CDP_WALLET_SECRET", "it is not a wallet secret", "Copy it again from CDP"
            ) from None

    return _JwtMakers(api, wallet)


def _base_url(base_path: str) -> httpx.URL:
    """`base_path` as a URL: https, or http on this machine (the tokens must not be overheard)."""
    try:
        url = httpx.URL(base_path)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.host and (url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK)):
        return url
    raise ConfigError("CDP_BASE_PATH", "it is not an https address", f"Use {CDP_BASE_PATH}")
