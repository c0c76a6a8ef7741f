"""A web3 provider that calls a chain of this process directly, without HTTP."""

from typing import Any

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from mock_vendor.chain.blocks import ChainView
from mock_vendor.chain.rpc import JsonRpc


class InProcessProvider(JSONBaseProvider):
    """For `Web3(InProcessProvider(chain))`. Override `make_request` to make it fail in tests."""

    def __init__(self, chain: ChainView) -> None:
        super().__init__()
        self._rpc = JsonRpc(chain)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer one JSON-RPC call."""
        request = self.decode_rpc_response(self.encode_rpc_request(method, params))
        answer: Any = self._rpc.answer(request)
        return answer  # type: ignore[no-any-return]

    def is_connected(self, show_traceback: bool = False) -> bool:  # noqa: ARG002 - web3's signature
        """Return True: there is nothing to connect to."""
        return True
