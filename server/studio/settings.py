"""The settings of LangGraph's server: the environment's, and what `gpu-renter serve` runs."""

from __future__ import annotations

from domain.errors import ConfigError
from server.config.settings import Settings
from server.local.running import completion, read_services


def studio_settings() -> Settings:
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
