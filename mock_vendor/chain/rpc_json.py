"""How blocks, transactions, receipts and logs look in JSON-RPC answers."""

from typing import Any

from eth_utils.address import to_checksum_address

from mock_vendor.chain.blocks import BASE_FEE_WEI, BLOCK_GAS_LIMIT, ZERO_HASH, Block, Log

_EMPTY_BLOOM = "0x" + "00" * 256
_ZERO = "0x" + ZERO_HASH.hex()


def quantity(value: int) -> str:
    """Encode a number as JSON-RPC does: hex without leading zeros."""
    return hex(value)


def address(value: bytes) -> str:
    """Encode a 20-byte address, checksummed."""
    return str(to_checksum_address(value))


def block_json(block: Block, chain_id: int, *, full: bool) -> dict[str, Any]:
    """Render a block; `full` puts whole transactions where hashes would be."""
    return {
        "number": quantity(block.number),
        "hash": _hex(block.hash),
        "parentHash": _hex(block.parent_hash),
        "timestamp": quantity(block.timestamp),
        "stateRoot": _hex(block.state_root),
        "transactionsRoot": _ZERO,
        "receiptsRoot": _ZERO,
        "sha3Uncles": _ZERO,
        "mixHash": _ZERO,
        "nonce": "0x0000000000000000",
        "miner": address(b"\x00" * 20),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": "0x",
        "size": "0x0",
        "gasLimit": quantity(BLOCK_GAS_LIMIT),
        "gasUsed": quantity(sum(t.gas_used for t in block.transactions)),
        "baseFeePerGas": quantity(BASE_FEE_WEI),
        "logsBloom": _EMPTY_BLOOM,
        "uncles": [],
        "transactions": [
            transaction_json(block, index, chain_id) if full else _hex(transaction.hash)
            for index, transaction in enumerate(block.transactions)
        ],
    }


def transaction_json(block: Block, index: int, chain_id: int) -> dict[str, Any]:
    """Render a mined transaction."""
    transaction = block.transactions[index]
    return {
        "hash": _hex(transaction.hash),
        "blockHash": _hex(block.hash),
        "blockNumber": quantity(block.number),
        "transactionIndex": quantity(index),
        "from": address(transaction.sender),
        "to": address(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(transaction.gas_price),
        "input": _hex(transaction.data),
        "type": quantity(transaction.type_id),
        "chainId": quantity(chain_id),
    }


def receipt_json(block: Block, index: int) -> dict[str, Any]:
    """Render a mined transaction's receipt, with its logs."""
    transaction = block.transactions[index]
    before = block.transactions[:index]
    first_log = sum(len(t.logs) for t in before)
    created = transaction.contract_address
    return {
        "transactionHash": _hex(transaction.hash),
        "transactionIndex": quantity(index),
        "blockHash": _hex(block.hash),
        "blockNumber": quantity(block.number),
        "from": address(transaction.sender),
        "to": address(transaction.to) if transaction.to else None,
        "contractAddress": address(created) if created else None,
        "status": quantity(int(transaction.success)),
        "gasUsed": quantity(transaction.gas_used),
        "cumulativeGasUsed": quantity(sum(t.gas_used for t in before) + transaction.gas_used),
        "effectiveGasPrice": quantity(transaction.gas_price),
        "logsBloom": _EMPTY_BLOOM,
        "type": quantity(transaction.type_id),
        "logs": [
            log_json(block, index, first_log + offset, log)
            for offset, log in enumerate(transaction.logs)
        ],
    }


def log_json(block: Block, transaction_index: int, log_index: int, log: Log) -> dict[str, Any]:
    """Render one event."""
    return {
        "address": address(log.address),
        "topics": [_hex(topic) for topic in log.topics],
        "data": _hex(log.data),
        "blockNumber": quantity(block.number),
        "blockHash": _hex(block.hash),
        "blockTimestamp": quantity(block.timestamp),
        "transactionHash": _hex(block.transactions[transaction_index].hash),
        "transactionIndex": quantity(transaction_index),
        "logIndex": quantity(log_index),
        "removed": False,
    }


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
