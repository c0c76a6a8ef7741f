"""Settings of a server that others reach: who may ask, how often, and who is told."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from domain.errors import ConfigError
from server.config.fields import NO_ORIGIN, HttpUrl, Origins, WebhookSecret


class ExposureSettings(BaseSettings):
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
    studio_origins: Origins = Field(
        default="https://smith.langchain.com",
        description="origins such as https://smith.langchain.com, with commas between, or none",
    )
    webhook_url: HttpUrl | None = Field(
        default=None, description="an http(s) address that is told what happens"
    )
    webhook_secret: WebhookSecret | None = Field(
        default=None, description="whsec_ and 24 to 64 random bytes in base64"
    )

    @property
    def pages_of_studio(self) -> frozenset[str]:
        """The origins whose pages may use `langgraph dev`, besides its own."""
        return frozenset(self.studio_origins.split(",")) - {NO_ORIGIN}

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
