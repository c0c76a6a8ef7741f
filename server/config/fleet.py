"""The settings of whoever ticks runs by itself: `gpu-renter worker` and `serve --worker`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, SecretStr

from server.config.fields import Seconds


def _broker_url(value: object) -> object:
    url = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(url, str) and re.fullmatch(r"(rediss?|amqps?|nats)://[^\s/]\S*", url):
        return value
    raise ValueError("it is not the address of a Redis, RabbitMQ or NATS")


BrokerUrl = Annotated[SecretStr, BeforeValidator(_broker_url)]


class FleetSettings(BaseModel):
    """How runs are ticked without anybody asking."""

    task_broker_url: BrokerUrl | None = Field(
        default=None, description="redis://…, amqp://… or nats://…, or leave it out"
    )
    worker_concurrency: int = Field(
        default=32, ge=1, le=1000, description="ticks at once in one worker, 1 to 1000"
    )
    poll_first_s: Seconds = Field(default=2.0, description="seconds, up to 3600")
    poll_lively_s: Seconds = Field(default=15.0, description="seconds, up to 3600")
    poll_most_s: Seconds = Field(default=60.0, description="seconds, up to 3600")
    drain_seconds: Seconds = Field(default=20.0, description="seconds, up to 3600")
