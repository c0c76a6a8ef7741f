"""Every setting, read from the environment and a `.env` file in one place: `Settings.load()`.

A setting that is missing where another one needs it, or that contradicts another, is a
ConfigError that names the variable: never a silent fallback. No error shows a secret.

A field's name in capitals is its variable; its description completes "Set it to …".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AliasGenerator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from domain.errors import ConfigError
from domain.vendor_secrets import GPU_VENDOR_SECRET, is_vendor_secret
from server.config.exposure import ExposureSettings
from server.config.fields import BrokerUrl, HttpUrl, MongoUri, Port, Seconds
from server.config.model import ModelSettings
from server.config.payments import PaymentSettings

LOCAL_VENDOR_SECRET: Final = "local-vendor-secret"
"""What the mock vendor expects when GPU_VENDOR_SECRET is not set. Public: for this machine only."""
VENDOR_SECRETS: Final = "vendor_secrets"
"""The one field that is not a variable of its own name."""
DOTENV: Final = Path(".env")
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Mode(NamedTuple):
    """How one of the program's needs is met, for a person to read."""

    need: str
    mode: str
    detail: str


class Settings(PaymentSettings, ModelSettings, ExposureSettings):
    """All settings, checked. `Settings()` reads nothing: it is the mode with nothing configured."""

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=str.upper),
        validate_by_name=True,
        case_sensitive=True,
        enable_decoding=False,  # a value is text, not JSON: no float becomes money
        frozen=True,
        str_strip_whitespace=True,
    )

    # Storage
    mongodb_uri: MongoUri | None = Field(
        default=None,
        description="mongodb://… or mongodb+srv://…, or leave it out",
    )
    mongodb_db_name: str = Field(
        default="agentic_gpu_renter",
        pattern=r'^[^\s/\\."$*<>:|?]{1,63}$',
        description="a database name of at most 63 letters, digits, _ or -",
    )
    data_dir: Path = Field(
        default=Path(".gpu-renter"),
        description="a folder for the local services' data",
    )

    retention_days: float | None = Field(
        default=None, ge=1, le=36_500, description="days, 1 to 36500, or leave it out"
    )
    run_states: int = Field(
        default=40, ge=2, le=1_000, description="states of a run's graph, 2 to 1000"
    )

    # Vendors
    gpu_vendor_secret: SecretStr = Field(
        default=SecretStr(LOCAL_VENDOR_SECRET),
        description="the secret of the seeded vendors, or of the one whose entry names it",
    )
    vendor_secrets: Mapping[str, SecretStr] = Field(
        default={}, description="the variables GPU_VENDOR_SECRET_…, one a vendor, by name"
    )
    vendor_connect_timeout_s: Seconds = Field(default=3.0, description="seconds, up to 3600")
    vendor_read_timeout_s: Seconds = Field(default=10.0, description="seconds, up to 3600")
    vendor_total_timeout_s: Seconds = Field(default=15.0, description="seconds, up to 3600")
    quote_deadline_s: Seconds = Field(default=3.0, description="seconds, up to 3600")
    quote_fresh_minutes: float = Field(
        default=60.0, gt=0, le=10_080, description="minutes that a quote is believed, up to 10080"
    )

    # Runs
    lease_seconds: Seconds = Field(default=60.0, description="seconds, up to 3600")
    max_attempts: int = Field(
        default=5, ge=1, le=100, description="the most jobs of a run, 1 to 100"
    )
    max_open_runs: int = Field(
        default=1_000, ge=1, le=100_000, description="the most open runs in all, 1 to 100000"
    )
    max_open_runs_per_user: int = Field(
        default=100, ge=1, le=100_000, description="the most open runs of one user, 1 to 100000"
    )
    stall_minutes: float = Field(
        default=30.0,
        gt=0,
        le=10_080,
        description="minutes without progress, up to 10080",
    )
    poll_failure_limit: int = Field(
        default=3, ge=1, le=100, description="failed polls in a row, 1 to 100"
    )
    silent_minutes: float = Field(
        default=5.0, ge=0, le=1_440, description="minutes without an answer, up to 1440"
    )

    # Ticks that nobody asks for
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

    # Server and local services
    host: str = Field(default="127.0.0.1", min_length=1, description="the address to listen on")
    port: Port = Field(default=3000, description="a free port, 0 to 65535 (0: any)")
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["auto", "human", "json"] = Field(
        default="auto", description="human, json, or auto: human on a terminal, else json"
    )
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        default=None, description="the http(s) base address of an OTLP collector, or leave it out"
    )
    worker_metrics_port: Port | None = Field(
        default=None, description="a free port, 0 to 65535, or leave it out"
    )
    vendor_port: Port = Field(default=4001, description="a free port, 0 to 65535 (0: any)")
    chain_port: Port = Field(default=8545, description="a free port, 0 to 65535 (0: any)")
    base_price_per_hour: float = Field(
        default=1.4, gt=0, le=1000, description="dollars an hour, up to 1000"
    )
    fail_vendor_id: str = Field(default="", description="the id of a mock vendor, or nothing")
    fail_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="a share of the mock vendors' jobs, 0 to 1",
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, _: object, *, init_settings: PydanticBaseSettingsSource, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`Settings()` reads nothing, so that no demo or test can find a real wallet."""
        return (init_settings,)

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Self:
        """Read the environment, and under it the `.env` file. Empty values count as not set.

        env: instead of this process's environment, and then no `.env` is read unless `dotenv`
        names one. Raises ConfigError, naming the variable.
        """
        found = written(env, dotenv or DOTENV) if env is None or dotenv else env
        given = {k: v.strip() for k, v in found.items() if v and v.strip()}
        _merge_alias(given, "CDP_ACCOUNT_NAME", "X402_WALLET_ID")
        source = EnvSettingsSource(cls)
        source.env_vars = {name: given[name] for name in variables() if name in given}
        values = source()
        named = {n: v for n, v in given.items() if n != GPU_VENDOR_SECRET and is_vendor_secret(n)}
        if named:
            values[VENDOR_SECRETS] = named
        try:
            return cls(**values)
        except ValidationError as error:
            raise _config_error(error) from None

    def completed(self, **changes: Any) -> Self:
        """A checked copy with these fields set."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **changes})

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Raise ConfigError for a public network with the local mode's wallet, store or secret."""
        if not self.network.is_local:
            self._check_public_network()
        return self

    def _check_public_network(self) -> None:
        name = self.network.name
        if self.wallet_mode == "local":
            raise ConfigError(
                "X402_PRIVATE_KEY",
                f"there is no wallet for NETWORK {name}",
                "Set it, or the three CDP_* variables, or leave NETWORK out",
            )
        if self.mongodb_uri is None:
            raise ConfigError(
                "MONGODB_URI",
                f"it is not set, but NETWORK is {name}",
                "Set it: the embedded MongoDB is for the local chain's play money alone",
            )
        public = [
            variable
            for variable, secret in self.vendor_secret_values().items()
            if secret.get_secret_value() == LOCAL_VENDOR_SECRET
        ]
        if public:
            raise ConfigError(
                public[0],
                f"it is the public one of the mock vendor, but NETWORK is {name}",
                "Set it to the secret that its vendor gave you, or leave it out",
            )

    def vendor_secret_values(self) -> dict[str, SecretStr]:
        """The secrets of vendors by their variables. The mock vendor's public one is a default on
        the local network alone.
        """
        given = self.network.is_local or "gpu_vendor_secret" in self.model_fields_set
        shared = {GPU_VENDOR_SECRET: self.gpu_vendor_secret} if given else {}
        return {**shared, **self.vendor_secrets}

    @property
    def needs_mongo(self) -> bool:
        """Whether the embedded MongoDB has to be started."""
        return self.mongodb_uri is None

    @property
    def needs_chain(self) -> bool:
        """Whether the local chain and the mock vendor have to be started."""
        return self.network.is_local and self.rpc_url is None

    @property
    def chain_url(self) -> str:
        """The JSON-RPC address in force. It may hold an API key: do not print it."""
        if self.rpc_url is not None:
            return self.rpc_url.get_secret_value()
        if self.network.is_local:
            return f"http://127.0.0.1:{self.chain_port}"
        return self.network.default_rpc_url

    @property
    def local_vendor_url(self) -> str:
        """Where the mock vendor answers, in the local mode."""
        return f"http://127.0.0.1:{self.vendor_port}"

    def modes(self) -> list[Mode]:
        """What each need is met by, without secrets: hosts, and nothing else of an address."""
        uri, network = self.mongodb_uri, self.network
        mongo = (
            Mode("MongoDB", "embedded", f"data in {self.data_dir}")
            if uri is None
            else Mode("MongoDB", "configured", _host(uri.get_secret_value()))
        )
        planner = (
            Mode("planner", "llm", f"Fireworks, {self.fireworks_model}")
            if self.planner_mode == "llm"
            else Mode("planner", "stub", "deterministic ranking")
        )
        wallet = {
            "local": Mode("wallet", "local", "a funded account on the local chain"),
            "key": Mode("wallet", "key", "X402_PRIVATE_KEY"),
            "cdp": Mode("wallet", "cdp", f"account {self.x402_wallet_id}"),
        }[self.wallet_mode]
        chain = Mode("chain", network.caip2, f"{network.name} at {_host(self.chain_url)}")
        vendors = (
            Mode("vendors", "mock", f"the mock vendor at {_host(self.local_vendor_url)}")
            if self.needs_chain
            else Mode("vendors", "registry", "the vendors collection")
        )
        return [mongo, planner, wallet, chain, vendors]


def written(env: Mapping[str, str] | None = None, dotenv: Path = DOTENV) -> dict[str, str | None]:
    """The variables of the environment, and under it of the `.env` file, as they are written.

    pydantic-settings would put other variables in the place of `${…}` in a secret of that file.
    """
    return {**dotenv_values(dotenv, interpolate=False), **(os.environ if env is None else env)}


def variables() -> tuple[str, ...]:
    """The names of all variables that are read."""
    fields = (name for name in Settings.model_fields if name != VENDOR_SECRETS)
    return (*(name.upper() for name in fields), "CDP_ACCOUNT_NAME")


def secret_variables() -> frozenset[str]:
    """The settings that a program we start must not inherit."""
    fields = Settings.model_fields.items()
    return frozenset(n.upper() for n, f in fields if "SecretStr" in str(f.annotation))


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that we start: ours without the settings that are secret."""
    secret = secret_variables()
    return {k: v for k, v in env.items() if k not in secret and not is_vendor_secret(k)}


def _merge_alias(given: dict[str, str], alias: str, name: str) -> None:
    value = given.pop(alias, None)
    if value is not None and given.setdefault(name, value) != value:
        raise ConfigError(alias, f"it contradicts {name}", "They mean the same: set one of them")


def _config_error(error: ValidationError) -> ConfigError:
    """The first problem, in words. Pydantic's own text repeats the value, which may be secret."""
    problem = error.errors(include_url=False, include_input=False)[0]
    variable = str(problem["loc"][0])
    text = problem["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if problem["type"] == "string_pattern_mismatch":
        text = "it has characters or a length that are not allowed"
    described = Settings.model_fields[variable.lower()].description
    return ConfigError(variable, text, f"Set it to {described}")


def _host(address: str) -> str:
    """Host and port of an address, without user, password, path and query."""
    host = urlsplit(address).netloc.rpartition("@")[2]
    return f"a free port of {host.removesuffix(':0')}" if host.endswith(":0") else host
