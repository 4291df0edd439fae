"""The Packer template: complete, typed, without a secret, and its README true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

PACKER = Path(__file__).parent.parent / "packer"
SCRIPTS = sorted(PACKER.glob("scripts/*.sh"))


def unquote(value: Any) -> Any:
    """Return what the parser read without the quotes it keeps."""
    if isinstance(value, str):
        return value.removeprefix('"').removesuffix('"')
    if isinstance(value, dict):
        return {unquote(key): unquote(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unquote(item) for item in value]
    return value


def parsed(name: str) -> dict[str, Any]:
    with (PACKER / name).open(encoding="utf-8") as file:
        found: dict[str, Any] = unquote(hcl2.load(file))
    return found


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return parsed("macos.pkr.hcl")


@pytest.fixture(scope="module")
def variables() -> dict[str, dict[str, Any]]:
    return {name: body for block in parsed("variables.pkr.hcl")["variable"] for name, body in block.items()}


def test_versions_are_required(template: dict[str, Any]) -> None:
    """Packer and the plugin are required at the versions whose behaviour the template relies on."""
    (packer,) = template["packer"]
    assert packer["required_version"] == ">= 1.10.0"
    (plugins,) = packer["required_plugins"]
    assert plugins["tart"] == {"source": "github.com/cirruslabs/tart", "version": ">= 1.21.0"}


def test_the_source_has_what_validate_does_not_miss(template: dict[str, Any]) -> None:
    """What `packer validate` lets pass is there: a name, a base, and a user with a password."""
    source = template["source"][0]["tart-cli"]["macos"]
    for field in ("vm_name", "vm_base_name", "ssh_username", "ssh_password", "disk_size_gb", "cpu_count"):
        assert source[field]
    assert source["headless"] is True
    assert "recovery_partition" not in source


def test_every_variable_is_typed_and_described(variables: dict[str, dict[str, Any]]) -> None:
    """Each variable has a type and a description, and each that can be wrong a rule with a sentence."""
    assert {"runner_version", "runner_sha256", "macos", "xcode", "disk_size_gb"} <= set(variables)
    for name, variable in variables.items():
        assert variable["type"], name
        assert variable["description"].endswith("."), name
        if variable["type"] not in {"bool", "${bool}"}:
            (rule,) = variable["validation"]
            assert rule["error_message"].endswith("."), name


def test_readme_lists_every_variable(variables: dict[str, dict[str, Any]]) -> None:
    """The README's table says the same as the template, variable by variable."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", (PACKER / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == {name: variable["description"] for name, variable in variables.items()}


def test_files_are_named_from_the_template_and_exist(template: dict[str, Any]) -> None:
    """Each provisioner's script is named relative to the template, whatever the working directory."""
    (build,) = template["build"]
    named = [block["shell"]["script"] for block in build["provisioner"]]
    assert [name.removeprefix("${path.root}/") for name in named] == [
        "scripts/system.sh", "scripts/tools.sh", "scripts/agent.sh", "scripts/runner.sh", "scripts/verify.sh",
    ]  # fmt: skip
    assert all(name.startswith("${path.root}/") for name in named)
    assert sorted(PACKER / name.removeprefix("${path.root}/") for name in named) == SCRIPTS


def test_no_secret() -> None:
    """Nothing in here looks like a token or a key, or asks for one."""
    for file in [*PACKER.glob("*.hcl"), *SCRIPTS]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"ghp_|ghs_|github_pat_|PRIVATE KEY|token", text, re.IGNORECASE), file.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse(script: Path) -> None:
    """Each script is executable, stops at the first failure, also in a pipeline, and bash can read it."""
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    subprocess.run(["/bin/bash", "-n", str(script)], check=True)


def test_the_runner_is_checked_before_it_is_unpacked() -> None:
    """The archive's checksum stands between its download and its use."""
    text = (PACKER / "scripts/runner.sh").read_text(encoding="utf-8")
    assert text.index("curl ") < text.index("shasum -a 256 --check") < text.index("tar -xzf")


@pytest.mark.parametrize(
    "command", [["fmt", "-check", "-recursive"], ["validate", "-syntax-only"]], ids=["fmt", "syntax"]
)
def test_packer_itself(command: list[str]) -> None:
    """Packer finds the template well formatted and its syntax right."""
    program = os.environ.get("PACKER_BIN") or shutil.which("packer")
    if program is None:
        pytest.skip("no packer: neither PACKER_BIN nor one on PATH")
    said = subprocess.run(
        [program, *command, str(PACKER)],
        env=os.environ | {"CHECKPOINT_DISABLE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
