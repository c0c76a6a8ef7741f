"""The queue between workers, by the scheme of TASK_BROKER_URL: Redis, RabbitMQ or NATS.

What is in it are hints, which run is due: none is acknowledged late, sent again or kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from taskiq import AsyncBroker

from domain.errors import ConfigError

REDIS_PATIENCE_S: Final = 5
"""How long Redis may take for an answer, or for a connection."""
RABBIT_KEEPS_MS: Final = 3_600_000
"""How long RabbitMQ keeps the queue of refused hints, which nobody reads and Taskiq declares."""
REDIS_WAIT_S: Final = 2
"""How long one BRPOP waits: a connection that died silently is noticed soon after."""


def open_broker(url: SecretStr, queue: str) -> AsyncBroker:
    """The broker; connects when it is started. Raises ConfigError for an extra that is missing."""
    address = url.get_secret_value()
    match urlsplit(address).scheme:
        case "redis" | "rediss":
            return _redis(address, queue)
        case "amqp" | "amqps":
            return _rabbit(_optional("taskiq_aio_pika", "RabbitMQ"), address, queue)
        case _:
            nats: AsyncBroker = _optional("taskiq_nats", "NATS").NatsBroker(
                [address], subject=queue, queue="gpu-renter"
            )
            return nats


def _rabbit(package: Any, address: str, queue: str) -> AsyncBroker:
    """Classic queues: quorum queues, which are Taskiq's default, can go neither with their last
    consumer nor after a while.
    """
    classic = package.QueueType.CLASSIC
    hints = package.Queue(name=queue, type=classic, auto_delete=True)
    dead = package.Queue(
        name=f"{queue}.dead", type=classic, arguments={"x-expires": RABBIT_KEEPS_MS}
    )
    broker: AsyncBroker = package.AioPikaBroker(
        address,
        exchange=package.Exchange(name=queue, auto_delete=True),
        dead_letter_queue=dead,
    ).with_queue(hints)
    return broker


def _redis(address: str, queue: str) -> AsyncBroker:
    """A list, not a stream: FLUSHALL takes a stream's consumer group with it, and a hint needs
    neither acknowledgement nor history, for the run's document says what is due.
    """
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from taskiq_redis import ListQueueBroker

    class Hints(ListQueueBroker):
        """Taskiq's own takes no connection error of Redis, and waits on a dead one for ever."""

        async def listen(self) -> AsyncGenerator[bytes, None]:
            while True:
                async with Redis(connection_pool=self.connection_pool) as redis:
                    popped = await redis.brpop([self.queue_name], timeout=REDIS_WAIT_S)
                if popped is not None:
                    _, message = popped
                    yield message if isinstance(message, bytes) else message.encode()

    return Hints(
        address,
        queue_name=queue,
        socket_timeout=REDIS_PATIENCE_S,
        socket_connect_timeout=REDIS_PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


def _optional(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            "TASK_BROKER_URL",
            f"{name} needs the package {module.replace('_', '-')}, which is not installed",
            "pip install 'agentic-gpu-renter[brokers]', or use a redis:// address",
        ) from None
