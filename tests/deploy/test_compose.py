"""compose.yaml: what must hold of the fleet that it describes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner

from mock_vendor.__main__ import _parser
from mock_vendor.vendor.settings import VendorSettings
from server import cli
from server.config.settings import Settings, secret_variables, variables
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AGENTS = [name for name, one in SERVICES.items() if one["image"] == "gpu-renter"]
MOCKS = [name for name, one in SERVICES.items() if one["image"] == "gpu-renter-local"]


def test_it_is_the_whole_fleet() -> None:
    assert set(SERVICES) == {
        "server",
        "worker-1",
        "worker-2",
        "seed",
        "mongo",
        "redis",
        "chain",
        "vendor",
    }
    assert SERVICES["worker-1"] == SERVICES["worker-2"]


@pytest.mark.parametrize("name", AGENTS)
def test_each_command_of_the_agent_is_one_that_it_has(name: str) -> None:
    shown = CliRunner().invoke(cli.app, [*SERVICES[name]["command"], "--help"])

    assert shown.exit_code == 0, shown.output
    assert f"gpu-renter {SERVICES[name]['command'][0]}" in shown.output


@pytest.mark.parametrize("name", MOCKS)
def test_each_command_of_the_mock_services_is_one_that_they_have(name: str) -> None:
    assert SERVICES[name]["entrypoint"] == ["python", "-m", "mock_vendor"]
    options = _parser().parse_args(SERVICES[name]["command"])

    assert options.service == name
    assert options.host == "0.0.0.0"
    assert str(options.port) in str(SERVICES[name]["healthcheck"]["test"])


@pytest.mark.parametrize("name", AGENTS)
def test_the_agents_settings_are_ones_that_it_reads(name: str) -> None:
    given = SERVICES[name]["environment"]
    filled = {key: _filled(value) for key, value in given.items()}

    assert set(given) <= set(variables())
    settings = Settings.load(filled)
    assert not settings.needs_mongo
    assert not settings.needs_chain
    assert settings.network.is_local, "a try-out pays nothing of value"


def test_the_vendors_settings_are_ones_that_it_reads() -> None:
    aliases = {f.validation_alias for f in VendorSettings.model_fields.values()}

    assert set(SERVICES["vendor"]["environment"]) <= aliases


def test_a_secret_is_never_written_down() -> None:
    public = {"local-vendor-secret", ""}
    for one in SERVICES.values():
        for key in secret_variables() & set(one.get("environment", {})):
            value = one["environment"][key]
            if key in ("MONGODB_URI", "TASK_BROKER_URL", "RPC_URL"):
                assert "@" not in value
            else:
                found = re.fullmatch(rf"\$\{{{key}:-(.*)\}}", value)
                assert found, key
                assert found[1] in public


@pytest.mark.parametrize("name", [*AGENTS, *MOCKS, "redis"])
def test_ours_are_locked_down(name: str) -> None:
    one = SERVICES[name]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in one["tmpfs"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(one)


def test_only_the_server_is_reached_from_outside_and_only_from_this_machine() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}

    assert published == {"server": ["127.0.0.1:3000:3000"]}


def test_mongodb_is_the_replica_set_that_its_clients_ask_for() -> None:
    command, check = SERVICES["mongo"]["command"], str(SERVICES["mongo"]["healthcheck"]["test"])
    name = command[command.index("--replSet") + 1]

    assert f'_id: "{name}"' in check
    assert 'host: "mongo:27017"' in check
    for agent in AGENTS:
        uri = SERVICES[agent]["environment"]["MONGODB_URI"]
        assert uri == f"mongodb://mongo:27017/?replicaSet={name}"


def test_whoever_is_waited_for_can_tell_that_it_is_ready() -> None:
    for one in SERVICES.values():
        for other, how in one.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert SERVICES[other]["healthcheck"]["test"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "on-failure"


def test_each_volume_is_declared_and_used() -> None:
    used = {v.partition(":")[0] for one in SERVICES.values() for v in one.get("volumes", [])}

    assert used == set(COMPOSE["volumes"])


def test_no_image_is_named_with_a_registry_and_each_foreign_one_with_its_exact_version() -> None:
    for one in SERVICES.values():
        tag = r"" if "build" in one else r":\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?"
        assert re.fullmatch(rf"[a-z-]+{tag}", one["image"])


def _filled(value: str) -> str:
    """A value with the defaults of its ${VARIABLES}."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))
