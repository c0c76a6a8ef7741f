"""Our signature and our reader against the real token on the local EVM chain."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak

from domain.ids import slot_nonce
from domain.money import Usd
from mock_vendor.accounts import dev_key
from mock_vendor.chain.chain import LocalChain, create_chain_app
from tests.tools.builders import (
    AGENT,
    AGENT_KEY,
    NETWORK,
    PAYEE,
    PAYMENT_ID,
    challenge_json,
    decoded,
    encoded,
)
from tools.payments.authorization import sign_payment
from tools.payments.chain import ChainReader, Settled, Unused
from tools.payments.challenge import read_challenge
from tools.payments.wallets import LocalWallet

SETTLE = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"


@dataclass
class Evm:
    chain: LocalChain
    reader: ChainReader

    def settle(self, header: str) -> str:
        """What a facilitator does with a payment header. Returns the transaction hash."""
        payload = decoded(header)["payload"]
        assert isinstance(payload, dict)
        terms = payload["authorization"]
        values = (
            terms["from"],
            terms["to"],
            int(terms["value"]),
            int(terms["validAfter"]),
            int(terms["validBefore"]),
            bytes.fromhex(terms["nonce"][2:]),
            bytes.fromhex(payload["signature"][2:]),
        )
        types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
        account = Account.from_key(dev_key("facilitator"))
        signed = account.sign_transaction(
            {
                "to": NETWORK.usdc,
                "data": keccak(text=SETTLE)[:4] + encode(types, values),
                "nonce": self.chain.nonce(bytes.fromhex(account.address[2:]), self.chain.head()),
                "gas": 300_000,
                "gasPrice": 10**10,
                "chainId": NETWORK.chain_id,
                "value": 0,
            }
        )
        return "0x" + self.chain.submit(bytes(signed.raw_transaction)).hex()


@pytest.fixture(scope="module")
def evm() -> Iterator[Evm]:
    chain = LocalChain()
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_chain_app(chain)))
    yield Evm(chain, ChainReader(NETWORK, "http://chain.test", http, retry_wait_s=0))
    chain.close()


async def test_a_signed_payment_settles_once_and_reads_back_as_settled(evm: Evm) -> None:
    await evm.reader.check()
    challenge = read_challenge({"payment-required": encoded(challenge_json())}, b"")
    assert challenge is not None
    nonce = slot_nonce("run_evm", 1)
    payment = await sign_payment(
        LocalWallet(AGENT_KEY),
        NETWORK,
        challenge,
        challenge.accepts[0],
        nonce=nonce,
        valid_before_s=int(time.time()) + 3_600,
        payment_id=PAYMENT_ID,
    )
    before = await evm.reader.balance(AGENT)
    assert isinstance(await evm.reader.authorization(AGENT, nonce, from_block=0), Unused)
    tx = evm.settle(payment.header)
    evm.settle(payment.header)
    fate = await evm.reader.authorization(AGENT, nonce, from_block=0)
    assert isinstance(fate, Settled)
    assert (fate.tx_hash, fate.pay_to, fate.amount) == (tx, PAYEE, payment.amount)
    assert before - await evm.reader.balance(AGENT) == Usd(2_100_000)
    moved = await evm.reader.transfers(sender=AGENT, recipient=PAYEE, from_block=0)
    assert [(transfer.tx_hash, transfer.amount) for transfer in moved] == [(tx, payment.amount)]
    assert await evm.reader.transfers_in(tx, sender=AGENT, recipient=PAYEE) == moved
    assert await evm.reader.nonce_of(moved[0]) == nonce
    assert await evm.reader.used(AGENT, [nonce, slot_nonce("run_evm", 2)]) == {nonce}
