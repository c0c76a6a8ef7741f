"""Minting on the local chain, for `gpu-renter wallet fund`: its dollars are worth nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.errors import DependencyDown

if TYPE_CHECKING:
    import httpx

    from domain.money import Usd
    from server.config.settings import Settings


async def mint(settings: Settings, http: httpx.AsyncClient, to: str, amount: Usd) -> str:
    """Mint on the local chain, as the deployer of its token; the transaction's hash.

    The deployer's key is public. It is used on chain 31337 only, and only after the RPC has said
    that it serves that chain.
    """
    from eth_account import Account

    from domain.networks import LOCAL
    from mock_vendor.accounts import dev_address, dev_key
    from mock_vendor.chain.blocks import BASE_FEE_WEI
    from mock_vendor.chain.token import MINT, address_bytes, selector, word
    from tools.payments.chain import ChainReader

    await ChainReader(LOCAL, settings.chain_url, http).check()
    count = await _rpc(settings, http, "eth_getTransactionCount", dev_address("deployer"), "latest")
    transaction = {
        "nonce": int(count, 16),
        "gasPrice": BASE_FEE_WEI,
        "gas": 200_000,
        "value": 0,
        "data": selector(MINT) + word(address_bytes(to)) + word(amount.micros),
        "chainId": LOCAL.chain_id,
        "to": LOCAL.usdc,
    }
    signed = Account.sign_transaction(transaction, dev_key("deployer"))
    raw = "0x" + bytes(signed.raw_transaction).hex()
    return await _rpc(settings, http, "eth_sendRawTransaction", raw)


async def _rpc(settings: Settings, http: httpx.AsyncClient, method: str, *params: str) -> str:
    import httpx

    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    try:
        answer = (await http.post(settings.chain_url, json=call)).json()
    except (httpx.HTTPError, ValueError) as error:
        raise DependencyDown(
            f"The local chain did not answer {method} ({type(error).__name__})",
            "Start it: gpu-renter serve",
        ) from None
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, str):
        raise DependencyDown(f"The local chain refused {method}", "Start it anew")
    return result
