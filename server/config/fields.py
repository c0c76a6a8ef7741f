"""The kinds of value that settings have: read from text, refused in words that show no secret."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from domain import networks
from domain.errors import InvalidInput
from domain.money import Usd
from domain.networks import Network


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return networks.network(value.strip())
    except InvalidInput:
        raise ValueError("it is not a known network") from None


def _usd(value: object) -> object:
    if isinstance(value, Usd):
        return value
    try:
        return Usd.parse(value)
    except InvalidInput:
        raise ValueError("it is not an amount of dollars") from None


def _http_url(value: object) -> object:
    url = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(url, str) and re.fullmatch(r"https?://[^\s/]\S*", url):
        return value
    raise ValueError("it is not an http(s) address")


def _mongodb_uri(value: object) -> object:
    uri = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(uri, str) and re.fullmatch(r"mongodb(\+srv)?://[^\s/]\S*", uri):
        return value
    raise ValueError("it is not a MongoDB address")


def _private_key(value: object) -> object:
    key = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(key, str) and re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", key) and int(key, 16):
        return SecretStr(key if key.startswith("0x") else f"0x{key}")
    raise ValueError("it is not a private key")


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Dollars = Annotated[Usd, BeforeValidator(_usd)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
SecretHttpUrl = Annotated[SecretStr, BeforeValidator(_http_url)]
MongoUri = Annotated[SecretStr, BeforeValidator(_mongodb_uri)]
PrivateKey = Annotated[SecretStr, BeforeValidator(_private_key)]
NetworkName = Annotated[Network, BeforeValidator(_network)]
