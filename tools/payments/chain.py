"""What the chain says: the only word that closes a payment whose outcome is unknown.

A small JSON-RPC reader over the injected `httpx.AsyncClient`. What it says of payments and
transfers is read at `final()`: the network's `safe` block, or `network.confirmations` blocks below
the newest where a node knows no such tag. It believes events of the pinned USDC contract alone, and
no transfer of nothing: anyone can emit one between any two addresses.

Sources: Ethereum JSON-RPC; EIP-3009; Circle's FiatToken, whose `_transferWithAuthorization` emits
`AuthorizationUsed` and, as the very next event, the `Transfer` that it authorizes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import httpx
from eth_utils.address import is_address, to_checksum_address

from domain.errors import ChainDown, ConfigError, InvalidInput
from domain.money import Usd
from domain.networks import Network
from tools.payments.json_rpc import (
    Log,
    Receipt,
    RpcClient,
    RpcRefused,
    Topics,
    address_word,
    is_hash,
    matches,
    topic,
)

BLOCKS_PER_QUERY: Final = 2_000
MOST_QUERIES: Final = 1_000
"""The most queries for one range: two million blocks, 46 days of Base."""
GROWS_AFTER: Final = 8
"""After so many answered ranges in a row, one of twice the length is tried."""

AUTHORIZATION_USED: Final = topic("AuthorizationUsed(address,bytes32)")
AUTHORIZATION_CANCELED: Final = topic("AuthorizationCanceled(address,bytes32)")
TRANSFER: Final = topic("Transfer(address,address,uint256)")

_AUTHORIZATION_STATE: Final = topic("authorizationState(address,bytes32)")[:10]
_BALANCE_OF: Final = topic("balanceOf(address)")[:10]


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is deep enough to be believed. timestamp_s: Unix seconds."""

    number: int
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The authorization was used: `amount` went from the payer to `pay_to`."""

    tx_hash: str
    block_number: int
    pay_to: str
    amount: Usd


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The payer cancelled the authorization: its nonce is used up and nothing was paid."""

    tx_hash: str


@dataclass(frozen=True, slots=True)
class Unused:
    """As of `block` the nonce is unused. Final only if the block is at or past `validBefore`."""

    block: Block


@dataclass(frozen=True, slots=True)
class Unclear:
    """The nonce is used, and how cannot be told from the chain's events. `problem` says why."""

    problem: str
    tx_hash: str | None = None
    """The transaction that used it, where that much is known."""


AuthorizationFate = Settled | Cancelled | Unused | Unclear


@dataclass(frozen=True, slots=True)
class Transfer:
    """One final transfer of USDC, of more than nothing. Addresses are checksummed."""

    tx_hash: str
    log_index: int
    block_number: int
    sender: str
    recipient: str
    amount: Usd


class Chain(Protocol):
    """The reads that payments rest on. Each raises ChainDown when the chain cannot be read."""

    async def head(self) -> Block:
        """The newest block that is deep enough to tell the time and a balance by."""

    async def final(self) -> Block:
        """The newest block that payments are judged by: never newer than the newest `head()`."""

    async def block_at(self, time_s: int) -> int:
        """The first block at or after `time_s` (Unix seconds), at most that of `final()`."""

    async def balance(self, address: str) -> Usd:
        """The USDC of `address` at `head()`."""

    async def used(self, payer: str, nonces: Sequence[str]) -> frozenset[str]:
        """Those of the payer's nonces that are used, or cancelled, at `head()`."""

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        """The fate of the payer's nonce as of `final()`. Events are searched from `from_block` on
        and, because it can only settle then, before `valid_before_s`.
        """

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        """The final transfers between the two, in the chain's order; None stands for anyone."""

    async def transfers_in(
        self, tx_hash: str, *, sender: str, recipient: str | None
    ) -> list[Transfer]:
        """The final transfers between the two in that very transaction, in its order."""

    async def nonce_of(self, transfer: Transfer) -> str | None:
        """The nonce of the sender's authorization that made this transfer; None for a plain one."""


class ChainReader:
    """`Chain` over JSON-RPC."""

    def __init__(
        self,
        network: Network,
        rpc_url: str,
        http: httpx.AsyncClient,
        *,
        timeout_s: float = 10.0,
        retry_wait_s: float = 0.2,
    ) -> None:
        """`http` is the caller's to close. `rpc_url` may hold a key: only its host is ever told."""
        self._network = network
        self._rpc = RpcClient(rpc_url, http, timeout_s=timeout_s, retry_wait_s=retry_wait_s)

    def __repr__(self) -> str:
        return f"ChainReader({self._network.caip2} at {self._rpc.host})"

    async def check(self) -> None:
        """Raise ConfigError unless the RPC serves this network and its USDC contract is there."""
        chain_id = await self._rpc.quantity("eth_chainId")
        if chain_id != self._network.chain_id:
            raise ConfigError(
                "RPC_URL",
                f"{self._rpc.host} serves chain {chain_id}, not {self._network.caip2}",
                f"Give the URL of a {self._network.name} RPC",
            )
        if not await self._rpc.has_code(self._network.usdc):
            raise ConfigError(
                "RPC_URL",
                f"{self._rpc.host} knows no USDC contract at {self._network.usdc}",
                f"Give the URL of a {self._network.name} RPC; a local chain must be started first",
            )

    async def head(self) -> Block:
        latest = await self._rpc.quantity("eth_blockNumber")
        number = max(latest - self._network.confirmations, 0)
        return Block(number, await self._rpc.block_time(number))

    async def final(self) -> Block:
        if not self._network.is_local and (safe := await self._rpc.safe_block()) is not None:
            return Block(*safe)
        return await self.head()

    async def block_at(self, time_s: int) -> int:
        final = await self.final()
        return await self._first_at(time_s, 0, final)

    async def balance(self, address: str) -> Usd:
        head = await self.head()
        data = _BALANCE_OF + _word(address)
        return Usd(await self._rpc.call_uint(self._network.usdc, data, head.number))

    async def used(self, payer: str, nonces: Sequence[str]) -> frozenset[str]:
        head = await self.head()
        states = await asyncio.gather(*(self._state(payer, n, head) for n in nonces))
        return frozenset(n for n, used in zip(nonces, states, strict=True) if used)

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        """What became of `nonce`, read at one final block.

        `Settled` needs the AuthorizationUsed event and the Transfer it authorizes, in a
        transaction that succeeded; a used nonce alone proves nothing, because a cancelled one
        reads the same. `Unclear` where the nonce is used and no event says how.
        """
        final = await self.final()
        if not await self._state(payer, nonce, final):
            return Unused(final)
        first, last = max(from_block, 0), final.number
        if valid_before_s is not None and last - first >= BLOCKS_PER_QUERY:
            last = await self._first_at(valid_before_s, first, final)
        topics: Topics = [
            [AUTHORIZATION_USED, AUTHORIZATION_CANCELED],
            "0x" + _word(payer),
            nonce.lower(),
        ]
        where = f"nonce {nonce} of {payer} is used"
        try:
            async for log in self._logs(topics, first, last):
                if log.topics[0] == AUTHORIZATION_CANCELED:
                    return Cancelled(log.tx_hash)
                return await self._settled(log, final)
        except RpcRefused as refused:
            return Unclear(f"{where}, but its events cannot be read: {refused.message}")
        return Unclear(f"{where}, but blocks {first:,} to {last:,} hold no event that says how")

    async def _state(self, payer: str, nonce: str, block: Block) -> bool:
        """Whether the nonce was used or cancelled by the end of `block`."""
        if not is_hash(nonce):
            raise InvalidInput("nonce", "it is not 0x and 64 hex digits")
        data = _AUTHORIZATION_STATE + _word(payer) + nonce[2:].lower()
        used = await self._rpc.call_uint(self._network.usdc, data, block.number)
        if used not in (0, 1):
            raise self._down(f"authorizationState answered {used}, neither true nor false")
        return used == 1

    async def _first_at(self, time_s: int, first: int, final: Block) -> int:
        """The first of the blocks `first` to `final` whose time is at or past `time_s`."""
        last = final.number
        if final.timestamp_s < time_s:
            return last
        while first < last:
            middle = (first + last) // 2
            if await self._rpc.block_time(middle) < time_s:
                first = middle + 1
            else:
                last = middle
        return last

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        """The final transfers from block `from_block` to `to_block` (at most `final()`).

        Raises InvalidInput when neither side is given: that would be everyone's transfers.
        """
        if sender is None and recipient is None:
            raise InvalidInput("sender", "neither sender nor recipient is given")
        final = await self.final()
        last = final.number if to_block is None else min(to_block, final.number)
        topics = [
            TRANSFER,
            None if sender is None else "0x" + _word(sender),
            None if recipient is None else "0x" + _word(recipient),
        ]
        moved = [self._transfer(log) async for log in self._logs(topics, from_block, last)]
        return [transfer for transfer in moved if moves_money(transfer)]

    async def transfers_in(
        self, tx_hash: str, *, sender: str, recipient: str | None
    ) -> list[Transfer]:
        """The final transfers from `sender` to `recipient` in transaction `tx_hash`, in its order.

        Empty when there is none, it failed, or it is not final yet; also for a `tx_hash` that is
        no hash, which is what a vendor may claim.
        """
        logs = await self._logs_of(tx_hash)
        to = None if recipient is None else "0x" + _word(recipient)
        wanted: Topics = [TRANSFER, "0x" + _word(sender), to]
        moved = [self._transfer(log) for log in logs if _is(log, wanted)]
        return [transfer for transfer in moved if moves_money(transfer)]

    async def nonce_of(self, transfer: Transfer) -> str | None:
        before = transfer.log_index - 1
        wanted: Topics = [AUTHORIZATION_USED, "0x" + _word(transfer.sender), None]
        for log in await self._logs_of(transfer.tx_hash):
            if log.log_index == before and _is(log, wanted):
                return log.topics[2]
        return None

    async def _logs_of(self, tx_hash: str) -> list[Log]:
        """The USDC contract's events in a transaction that is final and succeeded."""
        if not is_hash(tx_hash):
            return []
        final = await self.final()
        receipt = await self._rpc.receipt(tx_hash.lower())
        if receipt is None or not receipt.succeeded or receipt.block_number > final.number:
            return []
        return sorted(self._own(receipt), key=lambda log: log.log_index)

    async def _settled(self, used: Log, final: Block) -> Settled | Unclear:
        """The payment that the AuthorizationUsed event `used` stands for."""
        receipt = await self._rpc.receipt(used.tx_hash)
        if receipt is None or not receipt.succeeded or receipt.block_number > final.number:
            problem = f"{used.tx_hash} has an event but no final, successful receipt"
            return Unclear(problem, used.tx_hash)
        logs = {log.log_index: log for log in self._own(receipt)}
        mine = [log for log in logs.values() if log.topics == used.topics]
        moved = logs.get(mine[0].log_index + 1) if len(mine) == 1 else None
        if moved is None or moved.topics[:2] != (TRANSFER, used.topics[1]):
            problem = (
                f"{used.tx_hash} uses the authorization, but the transfer that must follow is not "
                "there"
            )
            return Unclear(problem, used.tx_hash)
        transfer = self._transfer(moved)
        return Settled(
            tx_hash=transfer.tx_hash,
            block_number=transfer.block_number,
            pay_to=transfer.recipient,
            amount=transfer.amount,
        )

    async def _logs(self, topics: Topics, first: int, last: int) -> AsyncIterator[Log]:
        """The USDC contract's events in blocks `first` to `last`, oldest first.

        A range that the node refuses is halved, down to one block: nodes bound blocks and events
        by limits of their own. Raises RpcRefused for one block that it refuses.
        """
        if last - first >= BLOCKS_PER_QUERY * MOST_QUERIES:
            raise self._down(
                f"blocks {first:,} to {last:,} are too many to search; start from a later block"
            )
        start, length, answered = max(first, 0), BLOCKS_PER_QUERY, 0
        while start <= last:
            end = min(start + length - 1, last)
            try:
                logs = await self._rpc.logs(self._network.usdc, topics, start, end)
            except RpcRefused:
                if start == end:
                    raise
                length, answered = (end - start + 1) // 2, 0
                continue
            for log in logs:
                yield log
            start, answered = end + 1, answered + 1
            if answered == GROWS_AFTER:
                length, answered = min(length * 2, BLOCKS_PER_QUERY), 0

    def _own(self, receipt: Receipt) -> list[Log]:
        return [log for log in receipt.logs if log.address == self._network.usdc.lower()]

    def _transfer(self, log: Log) -> Transfer:
        if len(log.topics) != 3 or not is_hash(log.data):
            raise self._down(f"a Transfer event in {log.tx_hash} is not ERC-20's")
        return Transfer(
            tx_hash=log.tx_hash,
            log_index=log.log_index,
            block_number=log.block_number,
            sender=str(to_checksum_address("0x" + log.topics[1][-40:])),
            recipient=str(to_checksum_address("0x" + log.topics[2][-40:])),
            amount=Usd(int(log.data, 16)),
        )

    def _down(self, problem: str) -> ChainDown:
        return ChainDown(
            f"Reading {self._network.name} from {self._rpc.host}: {problem}",
            "Ask again later, or from another RPC",
        )


def moves_money(transfer: Transfer) -> bool:
    """Whether a transfer moves more than nothing: anybody can call `transferFrom` for nothing."""
    return transfer.amount.micros > 0


def _is(log: Log, wanted: Topics) -> bool:
    """Whether an event has these topics and no more."""
    return len(log.topics) == len(wanted) and matches(log.topics, wanted)


def _word(address: str) -> str:
    if not is_address(address):
        raise InvalidInput("address", f"{address[:64]!r} is not an address")
    return address_word(address)
