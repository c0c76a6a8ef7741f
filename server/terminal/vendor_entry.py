"""A registry entry from what a person typed: money goes to `pay_to`, so it is checked closely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from domain.errors import InvalidInput
from domain.goals import GPU_TYPES
from domain.goals.gpus import canonical
from domain.money import Usd
from domain.quotes import Vendor
from domain.vendor_secrets import GPU_VENDOR_SECRET, checked_secret_env
from server.terminal.money import payee

LONGEST_NAME: Final = 100
MOST_GPU_TYPES: Final = 50

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_GPU: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}", re.ASCII)


def vendor_entry(
    *,
    vendor_id: str,
    name: str,
    endpoint: str,
    price_per_hour: str,
    reliability: float,
    gpu_types: Sequence[str],
    pay_to: str | None,
    secret_env: str | None,
    no_secret: bool,
    local: bool,
) -> Vendor:
    """The checked entry. Raises InvalidInput, naming the option.

    no_secret: that the vendor gets none was said, and is not only left open.
    local: whether the network is the local one, where the vendor may be reached without TLS.
    """
    if not _ID.fullmatch(vendor_id):
        raise InvalidInput("--id", f"{vendor_id[:64]!r} is not 1 to 64 letters, digits, . _ or -")
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidInput("--name", f"it is not 1 to {LONGEST_NAME} printable characters")
    price = Usd.parse(price_per_hour, "--price-per-hour", above_zero=True)
    types = tuple(dict.fromkeys(_as_goals_name(gpu.strip()) for gpu in gpu_types))
    if not 0 < len(types) <= MOST_GPU_TYPES or not all(_GPU.fullmatch(gpu) for gpu in types):
        raise InvalidInput("--gpu", "it is not a GPU's name", "Give one like A100, once for each")
    return Vendor(
        vendor_id=vendor_id,
        name=name.strip(),
        endpoint=checked_endpoint(endpoint, local=local),
        price_per_hour=price,
        reliability=reliability,
        gpu_types=types,
        pay_to=None if pay_to is None else payee("--pay-to", pay_to),
        secret_env=_secret_env(secret_env, no_secret),
    )


def _secret_env(name: str | None, no_secret: bool) -> str | None:
    if name is not None and no_secret:
        raise InvalidInput("--secret-env", "it is given, and so is --no-secret", "Give one of them")
    if name is None and not no_secret:
        raise InvalidInput(
            "--secret-env",
            "it is missing",
            f"Name the variable with the secret that this vendor gave you, one that begins with "
            f"{GPU_VENDOR_SECRET}_, or say --no-secret",
        )
    return None if name is None else checked_secret_env(name)


def _as_goals_name(gpu: str) -> str:
    """A GPU's name as goals are read: "rtx 4090" is RTX4090; one that no goal knows, as it is."""
    known = canonical(gpu)
    return known if known in GPU_TYPES else gpu


def checked_endpoint(endpoint: str, *, local: bool) -> str:
    """The base address of a vendor's API, without a slash at its end. Raises InvalidInput."""
    shown, remedy = repr(endpoint[:100]), "Give one like https://gpu.example.com"
    try:
        url = urlsplit(endpoint)
        usable = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable or url.scheme not in ("http", "https") or not endpoint.isprintable():
        raise InvalidInput("--endpoint", f"{shown} is not an http(s) address", remedy)
    if " " in endpoint or url.query or url.fragment:
        raise InvalidInput("--endpoint", f"{shown} is not a base address", remedy)
    if url.username or url.password:
        raise InvalidInput(
            "--endpoint", "it holds a user or a password", "Give a secret by --secret-env"
        )
    if url.scheme == "http" and not local:
        raise InvalidInput(
            "--endpoint",
            f"{shown} is not encrypted",
            "Use https; http is for the local network only",
        )
    return endpoint.rstrip("/")
