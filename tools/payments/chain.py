"""What the chain says: the only word that closes a payment whose outcome is unknown.

A small JSON-RPC reader over the injected `httpx.AsyncClient`. It believes a transaction only
once `network.confirmations` blocks lie on top of it, and only events of the pinned USDC contract.

Sources: Ethereum JSON-RPC; EIP-3009; Circle's FiatToken, whose `_transferWithAuthorization` emits
`AuthorizationUsed` and, as the very next event, the `Transfer` that it authorizes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

import httpx
from eth_utils.address import is_address, to_checksum_address

from domain.errors import ChainDown, ConfigError, InvalidInput
from domain.money import Usd
from domain.networks import Network
from tools.payments.json_rpc import Log, Receipt, RpcClient, Topics, address_word, is_hash, topic

BLOCKS_PER_QUERY: Final = 2_000
MOST_QUERIES: Final = 1_000
"""Of one range: two million blocks, 46 days of Base."""

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


AuthorizationFate = Settled | Cancelled | Unused


@dataclass(frozen=True, slots=True)
class Transfer:
    """One confirmed transfer of USDC. Addresses are checksummed."""

    tx_hash: str
    log_index: int
    block_number: int
    sender: str
    recipient: str
    amount: Usd


class Chain(Protocol):
    """The reads that payments rest on. Each raises ChainDown when the chain cannot be read."""

    async def head(self) -> Block:
        """The newest block that is deep enough to be believed."""

    async def balance(self, address: str) -> Usd:
        """The USDC of `address` at `head()`."""

    async def authorization(self, payer: str, nonce: str, *, from_block: int) -> AuthorizationFate:
        """What became of the payer's nonce, looking for events from `from_block` on."""

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        """The confirmed transfers between the two, in the chain's order; None stands for anyone."""

    async def transfer_in(self, tx_hash: str, *, sender: str, recipient: str) -> Transfer | None:
        """The confirmed transfer between the two in that very transaction, if there is one."""


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

    async def balance(self, address: str) -> Usd:
        head = await self.head()
        data = _BALANCE_OF + _word(address)
        return Usd(await self._rpc.call_uint(self._network.usdc, data, head.number))

    async def authorization(self, payer: str, nonce: str, *, from_block: int) -> AuthorizationFate:
        """What became of `nonce`, read at one confirmed block.

        `Settled` needs the AuthorizationUsed event and the Transfer it authorizes, in a
        transaction that succeeded; a used nonce alone proves nothing, because a cancelled one
        reads the same. Raises ChainDown when the nonce is used and no event from `from_block` on
        says how: the outcome stays unknown.
        """
        if not is_hash(nonce):
            raise InvalidInput("nonce", "it is not 0x and 64 hex digits")
        head = await self.head()
        data = _AUTHORIZATION_STATE + _word(payer) + nonce[2:].lower()
        used = await self._rpc.call_uint(self._network.usdc, data, head.number)
        if used not in (0, 1):
            raise self._unclear(f"authorizationState answered {used}, neither true nor false")
        if not used:
            return Unused(head)
        topics: Topics = [
            [AUTHORIZATION_USED, AUTHORIZATION_CANCELED],
            "0x" + _word(payer),
            nonce.lower(),
        ]
        async for log in self._logs(topics, from_block, head.number):
            if log.topics[0] == AUTHORIZATION_CANCELED:
                return Cancelled(log.tx_hash)
            return await self._settled(log, head)
        raise self._unclear(
            f"nonce {nonce} of {payer} is used, but blocks {from_block:,} to {head.number:,} hold "
            "no event that says how; its outcome is unknown"
        )

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        """The confirmed transfers from block `from_block` to `to_block` (at most `head()`).

        Raises InvalidInput when neither side is given: that would be everyone's transfers.
        """
        if sender is None and recipient is None:
            raise InvalidInput("sender", "neither sender nor recipient is given")
        head = await self.head()
        last = head.number if to_block is None else min(to_block, head.number)
        topics = [
            TRANSFER,
            None if sender is None else "0x" + _word(sender),
            None if recipient is None else "0x" + _word(recipient),
        ]
        return [self._transfer(log) async for log in self._logs(topics, from_block, last)]

    async def transfer_in(self, tx_hash: str, *, sender: str, recipient: str) -> Transfer | None:
        """The first confirmed transfer from `sender` to `recipient` in transaction `tx_hash`.

        None when there is none, it failed, or it is not deep enough yet; also for a `tx_hash`
        that is no hash, which is what a vendor may claim.
        """
        if not is_hash(tx_hash):
            return None
        head = await self.head()
        receipt = await self._rpc.receipt(tx_hash.lower())
        if receipt is None or not receipt.succeeded or receipt.block_number > head.number:
            return None
        wanted = (TRANSFER, "0x" + _word(sender), "0x" + _word(recipient))
        for log in self._own(receipt):
            if log.topics == wanted:
                return self._transfer(log)
        return None

    async def _settled(self, used: Log, head: Block) -> Settled:
        """The payment that the AuthorizationUsed event `used` stands for."""
        receipt = await self._rpc.receipt(used.tx_hash)
        if receipt is None or not receipt.succeeded or receipt.block_number > head.number:
            raise self._unclear(f"{used.tx_hash} has an event but no confirmed, successful receipt")
        logs = {log.log_index: log for log in self._own(receipt)}
        mine = [log for log in logs.values() if log.topics == used.topics]
        moved = logs.get(mine[0].log_index + 1) if len(mine) == 1 else None
        if moved is None or moved.topics[:2] != (TRANSFER, used.topics[1]):
            raise self._unclear(
                f"{used.tx_hash} uses the authorization, but the transfer that must follow is not "
                "there; its outcome is unknown"
            )
        transfer = self._transfer(moved)
        return Settled(
            tx_hash=transfer.tx_hash,
            block_number=transfer.block_number,
            pay_to=transfer.recipient,
            amount=transfer.amount,
        )

    async def _logs(self, topics: Topics, first: int, last: int) -> AsyncIterator[Log]:
        """The USDC contract's events in blocks `first` to `last`, oldest first."""
        first = max(first, 0)
        if last - first >= BLOCKS_PER_QUERY * MOST_QUERIES:
            raise self._unclear(
                f"blocks {first:,} to {last:,} are too many to search; start from a later block"
            )
        for start in range(first, last + 1, BLOCKS_PER_QUERY):
            end = min(start + BLOCKS_PER_QUERY - 1, last)
            for log in await self._rpc.logs(self._network.usdc, topics, start, end):
                yield log

    def _own(self, receipt: Receipt) -> list[Log]:
        return [log for log in receipt.logs if log.address == self._network.usdc.lower()]

    def _transfer(self, log: Log) -> Transfer:
        if len(log.topics) != 3 or not is_hash(log.data):
            raise self._unclear(f"a Transfer event in {log.tx_hash} is not ERC-20's")
        return Transfer(
            tx_hash=log.tx_hash,
            log_index=log.log_index,
            block_number=log.block_number,
            sender=str(to_checksum_address("0x" + log.topics[1][-40:])),
            recipient=str(to_checksum_address("0x" + log.topics[2][-40:])),
            amount=Usd(int(log.data, 16)),
        )

    def _unclear(self, problem: str) -> ChainDown:
        return ChainDown(
            f"Reading {self._network.name} from {self._rpc.host}: {problem}",
            "Ask again later, or from another RPC",
        )


def _word(address: str) -> str:
    if not is_address(address):
        raise InvalidInput("address", f"{address[:64]!r} is not an address")
    return address_word(address)
