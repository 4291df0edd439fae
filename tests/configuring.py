"""Configurations that are right, but for the changes that a test makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.configfile import ConfigError, load
from app.settings import Settings

SECRET = "correct-horse-battery-staple"
POOL = {"name": "mac", "labels": ["sequoia"], "image": "sequoia", "repositories": ["acme/*"]}
TOP = {"github_token": "ghp_of-the-tests", "github_webhook_secret": SECRET, "host_name": "mini"}
FLEET = {
    "backend": "orchard",
    "orchard_url": "https://fleet.example:6120",
    "orchard_account": "cidermill",
    "orchard_token": "the-token-of-a-fleet",
}


def as_toml(values: dict[str, Any]) -> str:
    """Write flat values as TOML: what JSON writes for them is TOML too. None leaves a key out."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None)


def read(folder: Path, pool: dict[str, Any] | None = None, **top: Any) -> Settings:
    """Load a configuration that is right but for the changes given."""
    text = as_toml(TOP | top) + "[[pool]]\n" + as_toml(POOL | (pool or {}))
    (folder / "cidermill.toml").write_text(text)
    environ = {} if "state_dir" in top else {"CIDERMILL_STATE_DIR": str(folder / "state")}
    return load(environ, folder)


def problems(folder: Path, pool: dict[str, Any] | None = None, **top: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, pool, **top)
    return refused.value.problems
