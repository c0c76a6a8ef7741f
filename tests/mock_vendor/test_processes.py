"""The chain and the vendor as programs: ready lines, clean stops, and SIGKILL."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from x402 import PaymentRequired
from x402.http import decode_payment_required_header

from mock_vendor.accounts import AGENT_FUNDS, dev_address
from mock_vendor.chain.blocks import ChainError
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.chain.token import TRANSFER, address_bytes, selector, word
from mock_vendor.serve import PortInUse, run_chain

from .shop import SECRET, VENDOR, header_for
from .worlds import balance, send

ROOT = Path(__file__).resolve().parents[2]
STOP_WITHIN_S = 5


class RemoteRpc(JsonRpc):
    """Calls a chain over HTTP, with the face of one in this process."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, params: list[Any]) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self._url, json=request, timeout=20).json()
        if "error" in answer:
            raise ChainError(answer["error"]["message"], answer["error"]["code"])
        return answer["result"]


@contextmanager
def running(*arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program; yields it and its URL once it is ready. Its stdin's end stops it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mock_vendor", *arguments, "--port", "0", "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            ready = json.loads(process.stdout.readline())
            assert (ready["ready"], ready["service"]) == (True, arguments[0])
            yield process, ready["url"]
        finally:
            process.kill()
            process.wait()


def payment(value: int) -> bytes:
    return selector(TRANSFER) + word(address_bytes(dev_address(VENDOR))) + word(value)


def test_a_killed_chain_has_kept_every_transaction_it_answered_for(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    with running("chain", *folder) as (process, url):
        rpc = RemoteRpc(url)
        hashes = [send(rpc, "agent", payment(value)) for value in (1, 2, 3)]
        head = rpc.call("eth_getBlockByNumber", ["latest", False])
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_WITHIN_S)
    with running("chain", *folder) as (process, url):
        rpc = RemoteRpc(url)
        assert rpc.call("eth_getBlockByNumber", [head["number"], False]) == head
        assert all(rpc.call("eth_getTransactionReceipt", [h])["status"] == "0x1" for h in hashes)
        assert balance(rpc, dev_address("agent")) == AGENT_FUNDS - 6
        process.terminate()
        assert process.wait(STOP_WITHIN_S) == 0


def test_a_vendor_serves_over_tcp_drops_connections_and_stops_with_its_parent(
    tmp_path: Path,
) -> None:
    with running("chain") as (_, rpc_url):
        vendor = ("vendor", "--rpc-url", rpc_url, "--data-dir", str(tmp_path), "--admin")
        with running(*vendor, FAIL_RATE="0") as (process, url):
            headers = {"Authorization": f"Bearer {SECRET}", "x-vendor-id": VENDOR}
            with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
                paid_over_tcp(client)
            assert balance(RemoteRpc(rpc_url), dev_address(VENDOR)) == 2_800_000
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(STOP_WITHIN_S) == 0


def paid_over_tcp(client: httpx.Client) -> None:
    """Buy a job whose first answer is cut off."""
    wish = {"jobType": "train", "gpuType": "A100", "maxHours": 2}
    quote = client.post("/quote", json=wish).json()
    body = {"vendorJobTemplateId": quote["vendorJobTemplateId"], "jobParams": {}}
    asked = client.post("/submit-job", json=body)
    required = decode_payment_required_header(asked.headers["PAYMENT-REQUIRED"])
    assert isinstance(required, PaymentRequired)
    paid = {"PAYMENT-SIGNATURE": header_for(required, "payment_over_tcp_1")}
    drop = {"faults": [{"name": "drop_response_after_settling", "times": 1}]}
    assert client.put("/admin/faults", json=drop).status_code == 200
    with pytest.raises(httpx.TransportError):
        client.post("/submit-job", json=body, headers=paid)
    answer = client.post("/submit-job", json=body, headers=paid)
    assert answer.headers["x-idempotent-replay"] == "1"


def test_a_port_in_use_is_refused_by_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} .* in use"):
            run_chain(port=port)
