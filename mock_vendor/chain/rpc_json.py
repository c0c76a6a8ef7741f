"""How blocks, transactions, receipts and logs look in JSON-RPC answers.

They are put together from numbers and bytes, which `as_json` writes in hex.
"""

from typing import Any

from eth_utils.address import to_checksum_address

from mock_vendor.chain.blocks import BASE_FEE_WEI, BLOCK_GAS_LIMIT, ZERO_HASH, Block, Log

_EMPTY_BLOOM = b"\x00" * 256


def as_json(value: Any) -> Any:
    """The value in JSON-RPC's writing: numbers, bytes and addresses in hex, all else as it is."""
    match value:
        case bytes():
            return to_checksum_address(value) if len(value) == 20 else "0x" + value.hex()
        case int() if not isinstance(value, bool):
            return hex(value)
        case dict():
            return {name: as_json(part) for name, part in value.items()}
        case list() | tuple():
            return [as_json(part) for part in value]
    return value


def block_json(block: Block, chain_id: int, *, full: bool) -> dict[str, Any]:
    """Render a block; `full` puts whole transactions where hashes would be."""
    return {
        "number": block.number,
        "hash": block.hash,
        "parentHash": block.parent_hash,
        "timestamp": block.timestamp,
        "stateRoot": block.state_root,
        **dict.fromkeys(("transactionsRoot", "receiptsRoot", "sha3Uncles", "mixHash"), ZERO_HASH),
        **dict.fromkeys(("difficulty", "totalDifficulty", "size"), 0),
        "nonce": b"\x00" * 8,
        "miner": b"\x00" * 20,
        "extraData": b"",
        "gasLimit": BLOCK_GAS_LIMIT,
        "gasUsed": sum(t.gas_used for t in block.transactions),
        "baseFeePerGas": BASE_FEE_WEI,
        "logsBloom": _EMPTY_BLOOM,
        "uncles": [],
        "transactions": [
            transaction_json(block, index, chain_id) if full else transaction.hash
            for index, transaction in enumerate(block.transactions)
        ],
    }


def transaction_json(block: Block, index: int, chain_id: int) -> dict[str, Any]:
    """Render a mined transaction."""
    transaction = block.transactions[index]
    return {
        "hash": transaction.hash,
        **_place(block, index),
        "nonce": transaction.nonce,
        "value": transaction.value,
        "gas": transaction.gas,
        "gasPrice": transaction.gas_price,
        "input": transaction.data,
        "chainId": chain_id,
    }


def _place(block: Block, index: int) -> dict[str, Any]:
    transaction = block.transactions[index]
    return {
        "blockHash": block.hash,
        "blockNumber": block.number,
        "transactionIndex": index,
        "type": transaction.type_id,
        "from": transaction.sender,
        "to": transaction.to,
    }


def receipt_json(block: Block, index: int) -> dict[str, Any]:
    """Render a mined transaction's receipt, with its logs."""
    transaction = block.transactions[index]
    before = block.transactions[:index]
    first_log = sum(len(t.logs) for t in before)
    return {
        "transactionHash": transaction.hash,
        **_place(block, index),
        "contractAddress": transaction.contract_address,
        "status": int(transaction.success),
        "gasUsed": transaction.gas_used,
        "cumulativeGasUsed": sum(t.gas_used for t in before) + transaction.gas_used,
        "effectiveGasPrice": transaction.gas_price,
        "logsBloom": _EMPTY_BLOOM,
        "logs": [
            log_json(block, index, first_log + offset, log)
            for offset, log in enumerate(transaction.logs)
        ],
    }


def log_json(block: Block, transaction_index: int, log_index: int, log: Log) -> dict[str, Any]:
    """Render one event."""
    return {
        "address": log.address,
        "topics": log.topics,
        "data": log.data,
        "blockNumber": block.number,
        "blockHash": block.hash,
        "blockTimestamp": block.timestamp,
        "transactionHash": block.transactions[transaction_index].hash,
        "transactionIndex": transaction_index,
        "logIndex": log_index,
        "removed": False,
    }
