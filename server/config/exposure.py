"""Settings of a server that others reach: who may ask, how often, and who is told."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, model_validator

from domain.errors import ConfigError
from server.config.fields import HttpUrl

SHORTEST_WEBHOOK_SECRET: Final = 24
"""Bytes, by the Standard Webhooks specification."""

NO_ORIGIN: Final = "none"
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)


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
    """Origins as browsers write them, with one comma between."""
    origins = [] if text.lower() == NO_ORIGIN else [part.strip() for part in text.split(",")]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError("it is not a list of origins (https://host, no path)")
    return ",".join(origins)


class ExposureSettings(BaseModel):
    """What a server needs to be reached from outside."""

    api_keys: Literal["auto", "required"] = Field(
        default="auto", description="auto (required unless HOST is this machine's own) or required"
    )
    renter_api_key: SecretStr | None = Field(
        default=None, description="an API key, for the commands that ask a server"
    )
    rate_limit_per_minute: int = Field(
        default=600, ge=1, le=1_000_000, description="requests a minute of one key, 1 to 1000000"
    )
    rate_limit_anonymous_per_minute: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        description="refused requests a minute of one address, 1 to 1000000",
    )
    public_url: HttpUrl | None = Field(
        default=None, description="the http(s) address at which vendors reach this API"
    )
    studio_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="https://smith.langchain.com",
        description="origins such as https://smith.langchain.com, with commas between, or none",
    )
    webhook_url: HttpUrl | None = Field(
        default=None, description="an http(s) address that is told what happens"
    )
    webhook_secret: Annotated[SecretStr, BeforeValidator(_webhook_secret)] | None = Field(
        default=None, description="whsec_ and 24 to 64 random bytes in base64"
    )

    @property
    def pages_of_studio(self) -> frozenset[str]:
        """The origins whose pages may use `langgraph dev`, besides its own."""
        return frozenset(filter(None, self.studio_origins.split(",")))

    @model_validator(mode="after")
    def _whole_webhook(self) -> Self:
        """Raise ConfigError for an address without a secret, or the other way round."""
        for name, other in (("webhook_url", "webhook_secret"), ("webhook_secret", "webhook_url")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ConfigError(
                    other.upper(),
                    f"it is missing, but {name.upper()} is set",
                    "Webhooks need both; leave both out for none",
                )
        return self
