"""What runs beside us: the services that `gpu-renter serve` started on a DATA_DIR.

It notes them in `<DATA_DIR>/services.json`, which holds addresses and process ids, no secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from domain.errors import ConfigError
from server.config.settings import Settings
from server.local.mongodb import with_password


@dataclass(frozen=True, slots=True)
class Service:
    """One started program and where it answers."""

    name: str
    url: str
    pid: int | None


def services_file(folder: Path) -> Path:
    return folder / "services.json"


def read_services(folder: Path) -> dict[str, Service]:
    """What the file says, by name. Empty when there is none or it cannot be read."""
    try:
        content = json.loads(services_file(folder).read_text(encoding="utf-8"))
        services = [Service(s["name"], s["url"], s["pid"]) for s in content["services"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {service.name: service for service in services}


def completion(services: Mapping[str, Service], folder: Path) -> dict[str, Any]:
    """The settings that say where these services answer, MongoDB with the password of `folder`."""
    changes: dict[str, Any] = {}
    if "mongodb" in services:
        changes["mongodb_uri"] = with_password(services["mongodb"].url, folder)
    if "chain" in services:
        changes["rpc_url"] = services["chain"].url
        changes["chain_port"] = urlsplit(services["chain"].url).port
    if "vendor" in services:
        changes["vendor_port"] = urlsplit(services["vendor"].url).port
    return changes


def settings_of_serve() -> Settings:
    """The settings, completed with what `gpu-renter serve` runs on this DATA_DIR.

    Raises ConfigError when something is neither set nor running.
    """
    settings = Settings.load()
    running = read_services(settings.data_dir)
    needed = [
        *(["mongodb"] if settings.needs_mongo else []),
        *(["chain", "vendor"] if settings.needs_chain else []),
    ]
    found = {name: running[name] for name in needed if name in running}
    settings = settings.completed(**completion(found, settings.data_dir))
    missing = "MONGODB_URI" if settings.needs_mongo else "RPC_URL" if settings.needs_chain else ""
    if missing:
        raise ConfigError(
            missing, "it is not set, and no local stack runs", "Set it, or run: gpu-renter serve"
        )
    return settings
