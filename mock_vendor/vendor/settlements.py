"""Which transaction has settled a payment: what a till asks the chain after a lost answer.

A facilitator settles a payment once, and refuses it from then on, whoever asks. Whether it was this
very payment that used its nonce, the chain alone knows.
"""

from hexbytes import HexBytes
from web3 import Web3
from web3.types import FilterParams
from x402.mechanisms.evm.exact.eip3009_utils import verify_eip3009_transfer_event

from mock_vendor.chain.token import (
    AUTHORIZATION_STATE,
    AUTHORIZATION_USED_EVENT,
    address_bytes,
    selector,
    topic,
    word,
)
from mock_vendor.facilitator.authorization import Authorization


def is_used(w3: Web3, authorization: Authorization, asset: str) -> bool:
    """Whether the payer's nonce is used, or cancelled."""
    data = HexBytes(selector(AUTHORIZATION_STATE) + b"".join(_key(authorization)))
    state = w3.eth.call({"to": Web3.to_checksum_address(asset), "data": data})
    return bool(int.from_bytes(state, "big"))


def _key(authorization: Authorization) -> tuple[bytes, bytes]:
    return word(address_bytes(authorization.payer)), address_bytes(authorization.nonce)


def settlement_on_chain(w3: Web3, authorization: Authorization, asset: str) -> str | None:
    """The hash of the transaction that settled this payment, "" where its nonce went elsewhere,
    None where its nonce is not used.
    """
    if not is_used(w3, authorization, asset):
        return None
    token, (payer, nonce) = Web3.to_checksum_address(asset), _key(authorization)
    wanted: FilterParams = {
        "address": token,
        "fromBlock": 0,
        "toBlock": "latest",
        "topics": ["0x" + part.hex() for part in (topic(AUTHORIZATION_USED_EVENT), payer, nonce)],
    }
    for log in w3.eth.get_logs(wanted):
        receipt = w3.eth.get_transaction_receipt(log["transactionHash"])
        if verify_eip3009_transfer_event(
            list(receipt["logs"]),
            token,
            from_address=authorization.payer,
            to=authorization.to,
            value=authorization.value,
        ):
            return "0x" + bytes(log["transactionHash"]).hex()
    return ""
