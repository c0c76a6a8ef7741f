"""Ethereum JSON-RPC over the injected HTTP client: typed answers, bounded, retried.

The URL may hold an API key, so messages name its host only. web3 is not used: its formatters let
through what is of another type, and raise whatever they trip over, so that every field would have
to be checked here all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from eth_utils.crypto import keccak
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_fixed

from domain.errors import ChainDown, ConfigError
from tools.wire.canonical import canonical_json
from tools.wire.exchange import Limits, NoAnswer, TooLarge, exchange
from tools.wire.untrusted import Unreadable, clean_text, parse_object

ATTEMPTS: Final = 3
TOO_MANY_REQUESTS: Final = 429
UNKNOWN_TAG: Final = frozenset({-32000, -32601, -32602, -39001})
"""How nodes answer a block tag that they do not know, or have no block for."""
LARGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024
SHORTEST_KEY: Final = 8
"""A part of the URL this long or longer counts as a key, which no answer may repeat."""

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BYTES: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)

Topics = Sequence[str | list[str] | None]


@dataclass(frozen=True, slots=True)
class Log:
    """One event. All hex is lower case; data is 0x and any number of bytes."""

    address: str
    topics: tuple[str, ...]
    data: str
    tx_hash: str
    log_index: int
    block_number: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction did."""

    succeeded: bool
    block_number: int
    logs: tuple[Log, ...]


class RpcRefused(ChainDown):
    """The node understood the request and will not answer it: `code` is JSON-RPC's, 0 for none."""

    def __init__(self, message: str, remedy: str, code: int) -> None:
        super().__init__(message, remedy)
        self.rpc_code = code


class RpcClient:
    """One RPC node. Every method raises ChainDown when it gives no usable answer in three tries."""

    def __init__(
        self, url: str, http: httpx.AsyncClient, *, timeout_s: float, retry_wait_s: float
    ) -> None:
        """Raises ConfigError, naming RPC_URL and not the URL, for what is no HTTP address."""
        self._url = _http_url(url)
        self._http = http
        self._limits = Limits(timeout_s, timeout_s, timeout_s, LARGEST_ANSWER_BYTES)
        self._retry_wait_s = retry_wait_s
        self.host = self._url.host if self._url.port is None else self._url.netloc.decode("ascii")

    async def quantity(self, method: str) -> int:
        """The number that a method without parameters answers."""
        return self._quantity(method, await self._ask(method, []))

    async def has_code(self, address: str) -> bool:
        """Whether a contract lies at `address` now."""
        code = await self._ask("eth_getCode", [address, "latest"])
        return self._hex("eth_getCode", code, _BYTES) != "0x"

    async def block_time(self, number: int) -> int:
        """The time of block `number`, in Unix seconds."""
        method = "eth_getBlockByNumber"
        block = self._object(method, await self._ask(method, [hex(number), False]))
        if self._quantity(method, block.get("number")) != number:
            raise self._down(method, f"it answered another block than {number:,}")
        return self._quantity(method, block.get("timestamp"))

    async def safe_block(self) -> tuple[int, int] | None:
        """Number and time of the newest block that the network calls safe; None where this node
        has no such tag.
        """
        method = "eth_getBlockByNumber"
        try:
            answer = await self._ask(method, ["safe", False])
        except RpcRefused as refused:
            if refused.rpc_code not in UNKNOWN_TAG:
                raise
            return None
        if answer is None:
            return None
        block = self._object(method, answer)
        number = self._quantity(method, block.get("number"))
        return number, self._quantity(method, block.get("timestamp"))

    async def call_uint(self, contract: str, data: str, block: int) -> int:
        """The one 256-bit word that `contract` answers to `data` at the end of `block`."""
        result = await self._ask("eth_call", [{"to": contract, "data": data}, hex(block)])
        return int(self._hex("eth_call", result, _HASH), 16)

    async def logs(self, contract: str, topics: Topics, first: int, last: int) -> list[Log]:
        """The contract's events in blocks `first` to `last` that match `topics`, oldest first.

        Raises RpcRefused at once for a range that the node refuses: ask for a smaller one.
        """
        method = "eth_getLogs"
        wanted = {
            "address": contract,
            "topics": list(topics),
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        answer = await self._ask(method, [wanted], refusal_is_final=last > first)
        logs = self._log_list(method, answer)
        mine = [
            log
            for log in logs
            if log.address == contract.lower()
            and first <= log.block_number <= last
            and matches(log.topics, topics)
        ]
        return sorted(mine, key=lambda log: (log.block_number, log.log_index))

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """The receipt of a transaction; None when the node knows none."""
        method = "eth_getTransactionReceipt"
        result = await self._ask(method, [tx_hash])
        if result is None:
            return None
        receipt = self._object(method, result)
        if self._hex(method, receipt.get("transactionHash"), _HASH) != tx_hash:
            raise self._down(method, "it answered another transaction's receipt")
        return Receipt(
            succeeded=self._quantity(method, receipt.get("status")) == 1,
            block_number=self._quantity(method, receipt.get("blockNumber")),
            logs=tuple(self._log_list(method, receipt.get("logs"))),
        )

    async def _ask(
        self, method: str, params: list[object], *, refusal_is_final: bool = False
    ) -> object:
        def again(error: BaseException) -> bool:
            refused = refusal_is_final and isinstance(error, RpcRefused)
            return isinstance(error, ChainDown) and not refused

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(self._retry_wait_s),
            retry=retry_if_exception(again),
            reraise=True,
        )
        return await retrying(self._ask_once, method, params)

    async def _ask_once(self, method: str, params: list[object]) -> object:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = await exchange(
                self._http,
                "POST",
                self._url,
                limits=self._limits,
                headers={"Content-Type": "application/json"},
                content=canonical_json(request),
            )
            status = answer.status_code
            if not 200 <= status < 300 and not (400 <= status < 500 and _holds_error(answer.body)):
                raise self._down(method, f"it answered {status}")
            reply = parse_object(answer.body)
        except TooLarge as error:
            raise self._refused(method, str(error), 0) from None
        except (NoAnswer, Unreadable) as error:
            raise self._down(method, str(error)) from None
        if (problem := reply.get("error")) is not None:
            said = f"it answered an error: {self._said(problem)}"
            if status == TOO_MANY_REQUESTS:
                raise self._down(method, said)
            code = problem.get("code") if isinstance(problem, dict) else 0
            raise self._refused(method, said, code if isinstance(code, int) else 0)
        if "result" not in reply or reply.get("id") != 1:
            raise self._down(method, "its answer is not a JSON-RPC response")
        return reply["result"]

    def _said(self, error: object) -> str:
        message = error.get("message") if isinstance(error, dict) else None
        if not isinstance(message, str):
            return "(no message)"
        parts = [*self._url.path.split("/"), *self._url.params.values(), self._url.password]
        keys = tuple(part for part in parts if len(part) >= SHORTEST_KEY)
        return clean_text(message, 200, keys)

    def _down(self, method: str, problem: str) -> ChainDown:
        return ChainDown(
            f"Asking the chain's RPC at {self.host} ({method}): {problem}",
            "Try again, or set RPC_URL to another RPC",
        )

    def _refused(self, method: str, problem: str, code: int) -> RpcRefused:
        down = self._down(method, problem)
        return RpcRefused(down.message, down.remedy, code)

    def _hex(self, method: str, value: object, shape: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise self._down(method, "its answer has another shape than Ethereum's JSON-RPC says")
        return value.lower()

    def _quantity(self, method: str, value: object) -> int:
        return int(self._hex(method, value, _QUANTITY), 16)

    def _object(self, method: str, value: object) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self._down(method, "it knows no such block or transaction")
        return value

    def _log_list(self, method: str, value: object) -> list[Log]:
        if not isinstance(value, list):
            raise self._down(method, "its answer holds no list of events")
        entries = [self._object(method, entry) for entry in value]
        return [self._log(method, entry) for entry in entries if entry.get("removed") is not True]

    def _log(self, method: str, entry: Mapping[str, object]) -> Log:
        topics = entry.get("topics")
        if not isinstance(topics, list):
            raise self._down(method, "an event in its answer has no topics")
        return Log(
            address=self._hex(method, entry.get("address"), _ADDRESS),
            topics=tuple(self._hex(method, item, _HASH) for item in topics),
            data=self._hex(method, entry.get("data"), _BYTES),
            tx_hash=self._hex(method, entry.get("transactionHash"), _HASH),
            log_index=self._quantity(method, entry.get("logIndex")),
            block_number=self._quantity(method, entry.get("blockNumber")),
        )


def _holds_error(body: bytes) -> bool:
    """Whether the body of a 4xx answer is JSON-RPC's, which says what was wrong."""
    try:
        return parse_object(body).get("error") is not None
    except Unreadable:
        return False


def topic(signature: str) -> str:
    """The hash of an event's or function's signature: 0x and 64 hex digits."""
    return "0x" + keccak(text=signature).hex()


def is_hash(text: str) -> bool:
    """Whether `text` is 0x and 64 hex digits."""
    return _HASH.fullmatch(text) is not None


def address_word(address: str) -> str:
    """`address` as a 32-byte word: 64 hex digits without 0x."""
    return address.lower().removeprefix("0x").rjust(64, "0")


def _http_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("RPC_URL", "it is not an HTTP address", "Give the RPC's http(s) URL")
    return parsed


def matches(topics: tuple[str, ...], wanted: Topics) -> bool:
    """Whether an event's topics begin with those: one, one of a list, or None for any."""
    if len(topics) < len(wanted):
        return False
    for have, want in zip(topics, wanted, strict=False):
        allowed = want if isinstance(want, list) else [have if want is None else want]
        if have not in allowed:
            return False
    return True
