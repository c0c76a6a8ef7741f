"""The Coinbase Developer Platform, through its own SDK, which sends over our bounded HTTP.

So every call can be bounded and faulted in tests, is sent once, and nothing is reported to third
parties. The SDK takes seconds to import: only who opens the API pays for that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from eth_utils.address import is_address, to_checksum_address
from pydantic import SecretStr

from domain.errors import ConfigError, PolicyRefused, WalletDown
from tools.wire.canonical import canonical_json
from tools.wire.exchange import Limits, NoAnswer, exchange
from tools.wire.untrusted import Unreadable, clean_text, parse_object

CDP_BASE_PATH: Final = "https://api.cdp.coinbase.com/platform"
CDP_LIMITS: Final = Limits(connect_s=5, read_s=20, total_s=30, body_bytes=256 * 1024)

_VARIABLES: Final = ("CDP_API_KEY_ID", "CDP_API_KEY_SECRET", "CDP_WALLET_SECRET")
_KEYS: Final = ", ".join(_VARIABLES)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class CdpCredentials:
    """The three CDP settings: the API key's id and secret, and the wallet secret."""

    api_key_id: str
    api_key_secret: SecretStr
    wallet_secret: SecretStr

    def check(self) -> None:
        """Raise ConfigError, naming the variable, for one that is missing or no key at all."""
        from cdp.auth import GetAuthHeadersOptions, get_auth_headers

        for variable, value in zip(_VARIABLES, (self.api_key_id, *self.secrets), strict=True):
            if not value:
                raise ConfigError(variable, "it is missing", "CDP needs all three: " + _KEYS)
        for variable, method in zip(_VARIABLES[1:], ("GET", "POST"), strict=True):
            options = GetAuthHeadersOptions(
                api_key_id=self.api_key_id,
                api_key_secret=self.secrets[0],
                wallet_secret=self.secrets[1],
                request_method=method,
                request_host="localhost",
                request_path="/accounts",
            )
            try:
                get_auth_headers(options)
            except ValueError:
                problem = "it is not such a secret"
                raise ConfigError(variable, problem, "Copy it again from CDP") from None

    @property
    def secrets(self) -> tuple[str, str]:
        return self.api_key_secret.get_secret_value(), self.wallet_secret.get_secret_value()


@dataclass(frozen=True, slots=True)
class CdpApi:
    """`sdk` is a `cdp.CdpClient`, whose calls are made through `ask`."""

    sdk: Any = field(repr=False)
    host: str
    secrets: tuple[str, ...] = field(repr=False)

    async def ask(self, call: Awaitable[Any], *, none_for: int | None = None) -> Any:
        """What one of the SDK's calls gives; None where CDP answers with the status `none_for`.

        Raises WalletDown for no usable answer, ConfigError where the credentials are refused,
        PolicyRefused where a policy forbids it.
        """
        from cdp.openapi_client.errors import ApiError

        try:
            return await call
        except ApiError as error:
            if error.http_code == none_for:
                return None
            raise self._refusal(error) from None
        except (ValueError, AttributeError):  # what the SDK's models make of an odd answer
            raise self.down("its answer is not what its API promises") from None

    async def faucet(self, address: str) -> str:
        """Ask for test USDC on Base Sepolia for `address`; the transaction it claims."""
        wish = self.sdk.evm.request_faucet(address, network="base-sepolia", token="usdc")
        return clean_text(await self.ask(wish), 80)

    def address_of(self, account: Any) -> str:
        """The address of one of the SDK's accounts, checksummed. Raises WalletDown for none."""
        if not is_address(account.address):
            raise self.down("its answer holds no account address")
        return str(to_checksum_address(account.address))

    def down(self, problem: str) -> WalletDown:
        return WalletDown(
            f"Asking the CDP wallet service at {self.host}: {problem}",
            "Try again later; https://cdpstatus.coinbase.com tells its state",
        )

    def _refusal(self, error: Any) -> WalletDown | ConfigError | PolicyRefused:
        if isinstance(error.__context__, NoAnswer | Unreadable):  # raised by `_BoundedHttp`
            return self.down(str(error.__context__))
        kind = clean_text(error.error_type or "", 64, self.secrets)
        reason = clean_text(f"{kind}: {error.error_message or ''}", 200, self.secrets)
        if error.http_code == 401:
            return ConfigError(
                _KEYS,
                f"the CDP wallet service refuses them ({reason})",
                "Make new ones at https://portal.cdp.coinbase.com",
            )
        if error.http_code == 403 or kind == "policy_violation":
            return PolicyRefused(
                "cdp_policy",
                f"the CDP wallet service refuses to sign ({reason})",
                "If the payment is wanted, change the policy at https://portal.cdp.coinbase.com",
            )
        return self.down(f"it answered {error.http_code} ({reason})")


async def open_cdp_api(
    http: httpx.AsyncClient,
    credentials: CdpCredentials,
    base_path: str = CDP_BASE_PATH,
    limits: Limits = CDP_LIMITS,
) -> CdpApi:
    """The API at `base_path`. Sends nothing.

    Raises ConfigError, naming the variable, for a setting that is missing, no key or no https
    address.
    """
    base = _base_url(base_path)
    return await asyncio.to_thread(_open, _BoundedHttp(http, limits), credentials, base)


def _open(http: _BoundedHttp, credentials: CdpCredentials, base: httpx.URL) -> CdpApi:
    # It would report each call and each error to Coinbase's analytics.
    for variable in ("DISABLE_CDP_USAGE_TRACKING", "DISABLE_CDP_ERROR_REPORTING"):
        os.environ[variable] = "true"
    from cdp import CdpClient

    credentials.check()
    key, wallet_secret = credentials.secrets
    sdk = CdpClient(credentials.api_key_id, key, wallet_secret, base_path=str(base).rstrip("/"))
    sdk.cdp_api_client.rest_client = http
    return CdpApi(sdk, base.host, credentials.secrets)


class _BoundedHttp:
    """The SDK's `rest_client`: one exchange a call, bounded, neither redirected nor repeated."""

    def __init__(self, http: httpx.AsyncClient, limits: Limits) -> None:
        self._http = http
        self._limits = limits

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        **_: object,
    ) -> _Response:
        """Send it. Raises NoAnswer, Unreadable, and ApiException for what is not a 2xx answer."""
        from cdp.openapi_client.exceptions import ApiException

        answer = await exchange(
            self._http,
            method,
            url,
            limits=self._limits,
            headers=headers,
            content=None if body is None else canonical_json(body),
        )
        succeeded = 200 <= answer.status_code < 300
        try:
            fields = parse_object(answer.body)
        except Unreadable:
            if succeeded:
                raise
            fields = {}
        if not succeeded:
            said = None
            if "errorType" in fields:  # the SDK drops the type where there is no message
                message = str(fields.get("errorMessage") or "")
                said = canonical_json({**fields, "errorMessage": message}).decode()
            raise ApiException(status=answer.status_code, body=said)
        return _Response(answer.status_code, answer.body, fields)


@dataclass(frozen=True, slots=True)
class _Response:
    """A 2xx answer as the SDK's models read it."""

    status: int
    data: bytes
    response: Mapping[str, object]
    """What a call `…_without_preload_content` gives: the JSON object in the answer."""
    reason: str = ""

    async def read(self) -> bytes:
        return self.data

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return "application/json" if name == "content-type" else default

    def getheaders(self) -> dict[str, str]:
        return {}


def _base_url(base_path: str) -> httpx.URL:
    """`base_path` as a URL: https, or http on this machine (the tokens must not be overheard)."""
    try:
        url = httpx.URL(base_path)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.host and (url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK)):
        return url
    raise ConfigError("CDP_BASE_PATH", "it is not an https address", f"Use {CDP_BASE_PATH}")
