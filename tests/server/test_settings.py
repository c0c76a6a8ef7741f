"""Settings: complete by themselves, and clear when they are wrong. No message shows a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from domain import networks
from domain.errors import ConfigError
from domain.money import Usd
from domain.vendor_secrets import is_vendor_secret
from server.config.settings import (
    LOCAL_VENDOR_SECRET,
    Settings,
    secret_variables,
    variables,
    without_secrets,
)

KEY = "0x" + "a5" * 32
CDP = {"CDP_API_KEY_ID": "id", "CDP_API_KEY_SECRET": "shh", "CDP_WALLET_SECRET": "hush"}
PUBLIC = {
    "NETWORK": "base-sepolia",
    "X402_PRIVATE_KEY": KEY,
    "GPU_VENDOR_SECRET": "given",
    "MONGODB_URI": "mongodb://127.0.0.1:1",
}
ROOT = Path(__file__).resolve().parents[2]


def test_with_nothing_configured_everything_is_local() -> None:
    settings = Settings.load({})

    assert settings.needs_mongo
    assert settings.needs_chain
    assert settings.planner_mode == "stub"
    assert settings.wallet_mode == "local"
    assert settings.network == networks.LOCAL
    assert settings.mongodb_db_name == "agentic_gpu_renter"
    assert settings.gpu_vendor_secret.get_secret_value() == LOCAL_VENDOR_SECRET
    assert settings.chain_url == "http://127.0.0.1:8545"
    assert settings.local_vendor_url == "http://127.0.0.1:4001"
    assert settings == Settings()


def test_the_seeds_blank_env_file_is_the_local_mode(tmp_path: Path) -> None:
    names = ("MONGODB_URI", "FIREWORKS_API_KEY", "X402_WALLET_ID", "X402_PRIVATE_KEY", *CDP)
    dotenv = tmp_path / "blank.env"
    dotenv.write_text("".join(f"{name}=\n" for name in names) + "PLANNER_MODE=stub\n")

    assert Settings.load({}, dotenv) == Settings(planner_mode="stub")


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    dotenv = tmp_path / "some.env"
    dotenv.write_text("PORT=1000\nHOST=0.0.0.0\nUNRELATED=1\n")

    settings = Settings.load({"PORT": "2000"}, dotenv)

    assert (settings.host, settings.port) == ("0.0.0.0", 2000)


def test_the_env_file_of_the_current_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MAX_ATTEMPTS=7\nGPU_VENDOR_SECRET='a${b}c'\n")
    monkeypatch.setenv("MAX_PAYMENT_USD", "2.50")

    settings = Settings.load()

    assert settings.max_attempts == 7
    assert settings.max_payment_usd == Usd.parse("2.50")
    assert settings.gpu_vendor_secret.get_secret_value() == "a${b}c"


def test_a_given_environment_keeps_the_current_folder_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_ATTEMPTS=7\n")

    assert Settings.load({}).max_attempts == 5


@pytest.mark.parametrize("name", ["eip155:84532", "base-sepolia", " base-sepolia "])
def test_a_network_has_a_caip2_and_a_short_name(name: str) -> None:
    settings = Settings.load({**PUBLIC, "NETWORK": name})

    assert settings.network == networks.BASE_SEPOLIA
    assert settings.chain_url == networks.BASE_SEPOLIA.default_rpc_url
    assert not settings.needs_chain


def test_an_rpc_url_replaces_the_networks_and_the_local_chain() -> None:
    settings = Settings.load({"RPC_URL": "http://127.0.0.1:9999"})

    assert settings.chain_url == "http://127.0.0.1:9999"
    assert not settings.needs_chain


def test_a_fireworks_key_turns_the_planner_on() -> None:
    assert Settings.load({"FIREWORKS_API_KEY": "k"}).planner_mode == "llm"


def test_the_planner_may_stay_deterministic_with_a_key() -> None:
    env = {"FIREWORKS_API_KEY": "k", "PLANNER_MODE": "STUB"}

    assert Settings.load(env).planner_mode == "stub"


def test_a_private_key_is_a_wallet_with_or_without_its_0x() -> None:
    for written in (KEY, KEY.removeprefix("0x")):
        settings = Settings.load({"X402_PRIVATE_KEY": written})
        assert settings.wallet_mode == "key"
        assert settings.x402_private_key is not None
        assert settings.x402_private_key.get_secret_value() == KEY


def test_three_cdp_variables_are_a_wallet() -> None:
    settings = Settings.load(CDP)

    assert settings.wallet_mode == "cdp"
    assert settings.x402_wallet_id == "agentic-gpu-renter"


@pytest.mark.parametrize("name", ["X402_WALLET_ID", "CDP_ACCOUNT_NAME"])
def test_the_cdp_account_has_a_name(name: str) -> None:
    assert Settings.load({**CDP, name: "payer"}).x402_wallet_id == "payer"


@pytest.mark.parametrize(
    ("env", "variable", "says"),
    [
        ({"PLANNER_MODE": "llm"}, "FIREWORKS_API_KEY", "PLANNER_MODE is llm"),
        ({"FIREWORKS_API_BASE": "http://x"}, "FIREWORKS_API_KEY", "FIREWORKS_API_BASE is set"),
        ({"CDP_API_KEY_ID": "id"}, "CDP_API_KEY_SECRET", "CDP_API_KEY_ID is set"),
        (
            {k: v for k, v in CDP.items() if k != "CDP_WALLET_SECRET"},
            "CDP_WALLET_SECRET",
            "it is missing",
        ),
        ({"CDP_BASE_PATH": "http://x"}, "CDP_API_KEY_ID", "CDP_BASE_PATH is set"),
        ({**CDP, "X402_PRIVATE_KEY": KEY}, "X402_PRIVATE_KEY", "two wallets"),
        ({"X402_WALLET_ID": "payer"}, "CDP_API_KEY_ID", "names a CDP account"),
        (
            {**CDP, "X402_WALLET_ID": "one", "CDP_ACCOUNT_NAME": "two"},
            "CDP_ACCOUNT_NAME",
            "contradicts X402_WALLET_ID",
        ),
        ({"NETWORK": "base"}, "X402_PRIVATE_KEY", "no wallet for NETWORK Base"),
        (
            {**PUBLIC, "MONGODB_URI": ""},
            "MONGODB_URI",
            "it is not set, but NETWORK is Base Sepolia",
        ),
        (
            {**PUBLIC, "GPU_VENDOR_SECRET": LOCAL_VENDOR_SECRET},
            "GPU_VENDOR_SECRET",
            "public one of the mock vendor",
        ),
        (
            {**PUBLIC, "GPU_VENDOR_SECRET_ACME": LOCAL_VENDOR_SECRET},
            "GPU_VENDOR_SECRET_ACME",
            "public one of the mock vendor",
        ),
        ({"MAX_PAYMENT_USD": "0"}, "MAX_PAYMENT_USD", "above 0"),
    ],
)
def test_a_half_configured_mode_names_what_is_missing(
    env: dict[str, str], variable: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(env)

    assert caught.value.variable == variable
    assert says in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MONGODB_URI", "hunter2@host"),
        ("MONGODB_URI", "mongodb://"),
        ("MONGODB_DB_NAME", "hunter2 two"),
        ("PLANNER_MODE", "hunter2"),
        ("NETWORK", "hunter2"),
        ("RPC_URL", "ftp://hunter2"),
        ("X402_PRIVATE_KEY", "0xhunter2"),
        ("X402_PRIVATE_KEY", "0x" + "0" * 64),
        ("MAX_PAYMENT_USD", "hunter2"),
        ("MAX_PAYMENT_USD", "-1"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "nan"),
        ("VENDOR_TOTAL_TIMEOUT_S", "hunter2"),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_ATTEMPTS", "2.5"),
        ("POLL_FAILURE_LIMIT", "hunter2"),
        ("PORT", "65536"),
        ("VENDOR_PORT", "hunter2"),
        ("LOG_LEVEL", "hunter2"),
        ("FAIL_RATE", "1.5"),
        ("X402_WALLET_ID", "hunter2 two"),
    ],
)
def test_a_wrong_value_is_named_and_not_repeated(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(
            {**CDP, variable: value} if variable == "X402_WALLET_ID" else {variable: value}
        )

    assert caught.value.variable == variable
    assert caught.value.remedy.startswith("Set it to ")
    assert "hunter2" not in str(caught.value)


def test_secrets_are_never_shown() -> None:
    uri = "mongodb://user:topsecret@db.example:27017/x?authSource=topsecret"
    settings = Settings.load(
        {
            **PUBLIC,
            "GPU_VENDOR_SECRET": "topsecret",
            "GPU_VENDOR_SECRET_ACME": "topsecret",
            "MONGODB_URI": uri,
            "RPC_URL": "https://rpc.example/v2/topsecret",
            "FIREWORKS_API_KEY": "topsecret",
        }
    )

    shown = f"{settings!r} {settings} {settings.modes()} {settings.model_dump_json()}"

    assert "topsecret" not in shown
    assert KEY not in shown
    assert "db.example:27017" in shown
    assert "rpc.example" in shown


def test_the_modes_in_force_can_be_read() -> None:
    local = {mode.need: mode.mode for mode in Settings.load({}).modes()}
    anywhere = Settings.load({"CHAIN_PORT": "0", "VENDOR_PORT": "0"}).modes()
    assert [mode.detail for mode in anywhere if mode.need in ("chain", "vendors")] == [
        "local chain at a free port of 127.0.0.1",
        "the mock vendor at a free port of 127.0.0.1",
    ]
    public = {mode.need: mode.mode for mode in Settings.load({**PUBLIC}).modes()}

    assert local == {
        "MongoDB": "embedded",
        "planner": "stub",
        "wallet": "local",
        "chain": "eip155:31337",
        "vendors": "mock",
    }
    assert public["wallet"] == "key"
    assert public["chain"] == "eip155:84532"
    assert public["vendors"] == "registry"


def test_completed_settings_are_checked_again() -> None:
    settings = Settings.load({"MAX_ATTEMPTS": "7"})

    completed = settings.completed(mongodb_uri="mongodb://127.0.0.1:1/")

    assert not completed.needs_mongo
    assert completed.mongodb_uri == SecretStr("mongodb://127.0.0.1:1/")
    assert completed.max_attempts == 7
    with pytest.raises(ConfigError, match="PLANNER_MODE is llm"):
        settings.completed(planner_mode="llm")


def test_settings_that_are_made_and_not_loaded_read_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MAX_ATTEMPTS=7\n")
    monkeypatch.setenv("X402_PRIVATE_KEY", KEY)

    settings = Settings(max_open_runs=3)

    assert (settings.wallet_mode, settings.max_attempts) == ("local", 5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Settings(), "port", 1)  # noqa: B010 -- mypy knows that it cannot be set


def test_each_vendor_has_a_variable_of_its_own() -> None:
    env = {**PUBLIC, "GPU_VENDOR_SECRET": "", "GPU_VENDOR_SECRET_ACME": "a", "VENDOR_SECRETS": "x"}

    settings = Settings.load(env).completed(max_attempts=7)

    assert settings.vendor_secret_values() == {"GPU_VENDOR_SECRET_ACME": SecretStr("a")}
    assert [name for name in variables() if is_vendor_secret(name)] == ["GPU_VENDOR_SECRET"]


def test_programs_that_we_start_do_not_inherit_secrets() -> None:
    kept = without_secrets({"MONGODB_URI": "m", "GPU_VENDOR_SECRET_ACME": "a", "PATH": "/bin"})
    assert kept == {"PATH": "/bin"}
    assert {"X402_PRIVATE_KEY", "CDP_WALLET_SECRET", "MONGODB_URI"} <= secret_variables()
    assert "FAIL_RATE" not in secret_variables()


def test_the_example_file_explains_every_variable_and_sets_none_but_defaults() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    written = re.findall(r"^(#\s?)?([A-Z][A-Z0-9_]+)=(.*)$", example, flags=re.M)
    known = set(variables()) - {"CDP_ACCOUNT_NAME"}

    assert {name for _, name, _ in written} == known
    assert Settings.load({}, ROOT / ".env.example") == Settings()
    every = {name: value for _, name, value in written if value}
    assert Settings.load(every) == Settings()


def test_as_many_states_are_kept_by_default_as_the_saver_keeps_by_itself() -> None:
    """The settings import no graph, which takes seconds to load."""
    from graph.persistence.checkpoints import MOST_STATES

    assert Settings.load({}).run_states == MOST_STATES
