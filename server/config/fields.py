"""The kinds of value that settings have: read from text, refused in words that show no secret."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from domain import networks
from domain.errors import InvalidInput
from domain.money import Usd
from domain.networks import Network

SHORTEST_WEBHOOK_SECRET: Final = 24
"""Bytes, by the Standard Webhooks specification."""

NO_ORIGIN: Final = "none"
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)


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


def _address(schemes: str, kind: str) -> BeforeValidator:
    """Refuse what is no address of one of these schemes, a regular expression."""

    def check(value: object) -> object:
        url = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(url, str) and re.fullmatch(rf"({schemes})://[^\s/]\S*", url):
            return value
        raise ValueError(f"it is not {kind}")

    return BeforeValidator(check)


def _private_key(value: object) -> object:
    key = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(key, str) and re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", key) and int(key, 16):
        return SecretStr(key if key.startswith("0x") else f"0x{key}")
    raise ValueError("it is not a private key")


def _webhook_secret(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    try:
        key = b64decode(str(text).removeprefix("whsec_") + "==")
    except (binascii.Error, ValueError):
        key = b""
    if SHORTEST_WEBHOOK_SECRET <= len(key) <= 64:
        return SecretStr(str(text))
    raise ValueError("it is not 24 to 64 bytes in base64")


def _origins(text: str) -> str:
    """Origins as browsers write them, with one comma between; `none` where there are none."""
    origins = [] if text.lower() == NO_ORIGIN else [part.strip() for part in text.split(",")]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError("it is not a list of origins (https://host, no path)")
    return ",".join(origins) or NO_ORIGIN


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Dollars = Annotated[Usd, BeforeValidator(_usd)]
_AN_HTTP_URL: Final = _address("https?", "an http(s) address")
HttpUrl = Annotated[str, _AN_HTTP_URL]
SecretHttpUrl = Annotated[SecretStr, _AN_HTTP_URL]
MongoUri = Annotated[SecretStr, _address(r"mongodb(\+srv)?", "a MongoDB address")]
BrokerUrl = Annotated[
    SecretStr, _address("rediss?|amqps?|nats", "the address of a Redis, RabbitMQ or NATS")
]
PrivateKey = Annotated[SecretStr, BeforeValidator(_private_key)]
WebhookSecret = Annotated[SecretStr, BeforeValidator(_webhook_secret)]
NetworkName = Annotated[Network, BeforeValidator(_network)]
Origins = Annotated[str, AfterValidator(_origins)]
