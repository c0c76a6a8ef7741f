"""Ethereum JSON-RPC over any `ChainView`: the methods a wallet, an agent and a facilitator call.

Quantities and bytes are the standard's hex strings throughout.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mock_vendor.chain.blocks import BASE_FEE_WEI, Block, Call, ChainError, ChainView, logs_between
from mock_vendor.chain.rpc_json import (
    as_json,
    block_json,
    log_json,
    receipt_json,
    transaction_json,
)

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
Handler = Callable[[list[Any]], Any]


class InvalidParams(ChainError):
    """The parameters are not what the method takes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=-32602)


class JsonRpc:
    """Answers JSON-RPC calls from one chain. Thread-safe as far as the chain is."""

    def __init__(self, chain: ChainView) -> None:
        self._chain = chain
        self._handlers: dict[str, Handler] = {
            "eth_chainId": lambda _: chain.chain_id,
            "net_version": lambda _: str(chain.chain_id),
            "web3_clientVersion": lambda _: "agentic-gpu-renter-local-chain",
            "eth_syncing": lambda _: False,
            "eth_blockNumber": lambda _: chain.head().number,
            "eth_gasPrice": lambda _: BASE_FEE_WEI,
            "eth_maxPriorityFeePerGas": lambda _: 0,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_call": self._call,
            "eth_estimateGas": lambda p: chain.estimate_gas(_call(_at(p, 0))),
            "eth_getLogs": self._logs,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_sendRawTransaction": lambda p: chain.submit(_bytes(_at(p, 0))),
            "eth_getTransactionCount": lambda p: self._state(chain.nonce, p),
            "eth_getBalance": lambda p: self._state(chain.balance, p),
            "eth_getCode": lambda p: self._state(chain.code, p),
            "evm_increaseTime": lambda p: chain.increase_time(_int(_at(p, 0))),
            "evm_mine": self._mine,
        }

    def call(self, method: str, params: list[Any]) -> Any:
        """Return the method's result, as JSON values. Raises ChainError."""
        handler = self._handlers.get(method)
        if handler is None:
            raise ChainError(f"the method {method} does not exist or is not available", -32601)
        return as_json(handler(params))

    def answer(self, request: Any) -> dict[str, Any]:
        """Return the JSON-RPC response object to one request object. Never raises."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, ChainError("invalid request", -32600))
        params = request.get("params", [])
        if not isinstance(params, list):
            return _error(request.get("id"), InvalidParams("params must be a list"))
        try:
            result = self.call(request["method"], params)
        except ChainError as error:
            return _error(request.get("id"), error)
        except Exception:
            logger.exception("json-rpc: %s failed", request["method"])
            return _error(request.get("id"), ChainError("internal error", -32603))
        return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}

    def _resolve(self, tag: Any) -> Block | None:
        if tag in (None, "latest", "pending", "safe", "finalized"):
            return self._chain.head()
        if tag == "earliest":
            return self._chain.block(0)
        return self._chain.block(_int(tag))

    def _must_resolve(self, tag: Any) -> Block:
        block = self._resolve(tag)
        if block is None:
            raise ChainError(f"block {tag} not found")
        return block

    def _state(self, read: Callable[[bytes, Block], Any], params: list[Any]) -> Any:
        tag = params[1] if len(params) > 1 else "latest"
        return read(_address(_at(params, 0)), self._must_resolve(tag))

    def _block_by_number(self, params: list[Any]) -> Any:
        block = self._resolve(_at(params, 0))
        return block and block_json(block, self._chain.chain_id, full=_flag(params))

    def _block_by_hash(self, params: list[Any]) -> Any:
        block = self._chain.block_by_hash(_bytes(_at(params, 0)))
        return block and block_json(block, self._chain.chain_id, full=_flag(params))

    def _call(self, params: list[Any]) -> bytes:
        tag = params[1] if len(params) > 1 else "latest"
        return self._chain.call(_call(_at(params, 0)), self._must_resolve(tag))

    def _logs(self, params: list[Any]) -> list[dict[str, Any]]:
        wanted = _at(params, 0)
        if not isinstance(wanted, dict):
            raise InvalidParams("the log filter must be an object")
        head = self._chain.head()
        if "blockHash" in wanted:
            block = self._chain.block_by_hash(_bytes(wanted["blockHash"]))
            if block is None:
                raise ChainError("unknown block")
            first = last = block.number
        else:
            first = self._must_resolve(wanted.get("fromBlock")).number
            tag = wanted.get("toBlock")
            beyond = isinstance(tag, str) and tag.startswith("0x") and _int(tag) > head.number
            last = head.number if beyond else self._must_resolve(tag).number
        only = wanted.get("address")
        addresses = {_address(a) for a in ([only] if isinstance(only, str) else only or [])}
        topics = wanted.get("topics") or []
        return [
            log_json(block, position, index, log)
            for block, position, index, log in logs_between(self._chain, first, last)
            if (not addresses or log.address in addresses) and _topics_match(topics, log.topics)
        ]

    def _receipt(self, params: list[Any]) -> Any:
        found = self._chain.locate(_bytes(_at(params, 0)))
        return found and receipt_json(*found)

    def _transaction(self, params: list[Any]) -> Any:
        found = self._chain.locate(_bytes(_at(params, 0)))
        return found and transaction_json(*found, self._chain.chain_id)

    def _mine(self, params: list[Any]) -> int:
        options = params[0] if params else None
        if isinstance(options, dict):
            options = options.get("timestamp")
        self._chain.mine(None if options is None else _int(options))
        return 0


def create_rpc_app(rpc: JsonRpc) -> Starlette:
    """Return an ASGI app that answers JSON-RPC posts (single or batch) at `/`."""

    async def handle(request: Request) -> Response:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return JSONResponse(_error(None, ChainError("request too large", -32600)), 413)
        try:
            message = json.loads(body)
        except ValueError:
            return JSONResponse(_error(None, ChainError("parse error", -32700)), 400)
        if isinstance(message, list):
            return JSONResponse([await run_in_threadpool(rpc.answer, m) for m in message])
        return JSONResponse(await run_in_threadpool(rpc.answer, message))

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/", handle, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
        ]
    )


def _error(request_id: Any, error: ChainError) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": body}


def _at(params: list[Any], index: int) -> Any:
    if len(params) <= index:
        raise InvalidParams(f"missing parameter {index}")
    return params[index]


def _flag(params: list[Any]) -> bool:
    return len(params) > 1 and params[1] is True


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(value, 16) if value.startswith("0x") else int(value)
    except (ValueError, AttributeError) as error:
        raise InvalidParams(f"not a quantity: {value!r}") from error


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise InvalidParams(f"not hex data: {value!r}")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as error:
        raise InvalidParams(f"not hex data: {value!r}") from error


def _address(value: Any) -> bytes:
    raw = _bytes(value)
    if len(raw) != 20:
        raise InvalidParams(f"not an address: {value!r}")
    return raw


def _call(value: Any) -> Call:
    if not isinstance(value, dict):
        raise InvalidParams("the call must be an object")
    return Call(
        to=_address(value["to"]) if value.get("to") else None,
        data=_bytes(value.get("input") or value.get("data") or "0x"),
        sender=_address(value["from"]) if value.get("from") else b"\x00" * 20,
        value=_int(value.get("value", 0)),
        gas=_int(value["gas"]) if value.get("gas") else Call.gas,
    )


def _topics_match(wanted: list[Any], topics: tuple[bytes, ...]) -> bool:
    if len(wanted) > len(topics):
        return False
    for want, topic in zip(wanted, topics, strict=False):
        options = want if isinstance(want, list) else [want]
        if want is not None and all(o is not None and _bytes(o) != topic for o in options):
            return False
    return True
