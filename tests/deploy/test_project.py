"""The files that others join the project by: the lock, the bill of materials, what CI runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.conftest import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.M)


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def locked() -> dict[str, str]:
    return {name_of(name): version for name, version in PINNED.findall(LOCK)}


def entries() -> list[str]:
    """The lock's entries, each with its hashes."""
    return re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.M)[1:]


def test_each_locked_package_has_hashes_and_the_lock_names_no_place() -> None:
    assert len(entries()) == len(locked())
    for entry in entries():
        assert PINNED.match(entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert not re.search(r"https?://|file:|--(?:index-url|find-links)", LOCK)


def test_the_lock_holds_all_that_the_project_asks_for() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["local"], *extras["studio"], *extras["dev"]]
    names = {name_of(one) for one in asked} - {PROJECT["name"]}
    assert names <= set(locked())


def test_the_bill_of_materials_names_each_package_of_a_lock(tmp_path: Path) -> None:
    """Of a few of them: the whole takes long, and is made in the same way."""
    made, lock = tmp_path / "sbom.json", tmp_path / "requirements.lock"
    lock.write_text("".join(entries()[:3]))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "cyclonedx_py",
            "requirements",
            "--output-format",
            "JSON",
            "--output-reproducible",
            "--output-file",
            str(made),
            str(lock),
        ],
        check=True,
        capture_output=True,
    )
    bill = json.loads(made.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    found = {name_of(one["name"]): one["version"] for one in bill["components"]}
    assert found == {name_of(name): version for name, version in PINNED.findall(lock.read_text())}
    assert len(found) == 3


def test_ci_runs_what_a_fresh_clone_does_on_each_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    check = workflow["jobs"]["check"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert check["strategy"]["matrix"]["python"] == [oldest, "3.12", "3.13", "3.14"]
    assert any(step.get("run") == ".ci/run" for step in check["steps"])
    assert workflow["permissions"] == {"contents": "read"}


def test_hooks_run_the_projects_own_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks[0]["hooks"])


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")
