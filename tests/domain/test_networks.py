"""The networks, and that the mock vendor's chain is the one called local here."""

from __future__ import annotations

import pytest
from eth_utils.address import is_checksum_address

from domain.errors import InvalidInput
from domain.networks import ALL, BASE, LOCAL, Network, network
from mock_vendor.accounts import (
    LOCAL_CHAIN_ID,
    LOCAL_NETWORK,
    LOCAL_USDC_ADDRESS,
    TOKEN_NAME,
    TOKEN_VERSION,
)


def test_the_local_token_is_where_the_mock_vendors_chain_deploys_it() -> None:
    assert LOCAL.usdc == LOCAL_USDC_ADDRESS
    assert (LOCAL.caip2, LOCAL.chain_id) == (LOCAL_NETWORK, LOCAL_CHAIN_ID)
    assert (LOCAL.eip712_name, LOCAL.eip712_version) == (TOKEN_NAME, TOKEN_VERSION)


@pytest.mark.parametrize("known", ALL, ids=lambda n: n.x402_v1_name)
def test_a_network_is_found_by_both_its_names(known: Network) -> None:
    assert network(known.caip2) is network(known.x402_v1_name) is known
    assert is_checksum_address(known.usdc)


@pytest.mark.parametrize("name", ["", "eip155:1", "BASE", "eip155:8453 "])
def test_another_name_is_no_network(name: str) -> None:
    with pytest.raises(InvalidInput):
        network(name)


def test_what_is_at_stake_is_said_of_each_network() -> None:
    assert [n.stakes for n in ALL] == ["SIMULATION", "TEST NETWORK", "LIVE"]


def test_only_public_networks_have_pages_to_look_at() -> None:
    assert LOCAL.explorer_link("0xabc") is None
    assert BASE.explorer_link("0xabc") == "https://basescan.org/tx/0xabc"


def test_no_two_networks_share_a_token_domain() -> None:
    domains = {(n.chain_id, n.usdc.lower()) for n in ALL}
    assert len(domains) == len(ALL)
