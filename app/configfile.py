"""Where configuration comes from: the environment, then ``.env``, then the TOML file, then defaults.

Both files are looked for in the working directory and then in the state directory, since launchd starts programs
in ``/``. All problems are found at once, each as a sentence that names the key and the mend.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from app.poolsettings import PoolSettings
from app.settings import Settings

PREFIX = "CIDERMILL_"
CONFIG = "CIDERMILL_CONFIG"
DEFAULT_FILE = "cidermill.toml"
DEFAULT_STATE_DIR = "~/.cidermill"


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def report(self) -> str:
        """Return the problems as text for a terminal."""
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return (
            f"CiderMill cannot start with this configuration:\n{lines}\n"
            "See .env.example and cidermill.toml.example; `cidermill config check` checks again; "
            "`cidermill demo` needs no configuration at all."
        )


def load(environ: Mapping[str, str], cwd: Path) -> Settings:
    """Read the configuration. Raises ConfigError with every problem found."""
    state_dir = Path(environ.get(f"{PREFIX}STATE_DIR", DEFAULT_STATE_DIR)).expanduser()
    folders = (cwd, state_dir)
    env_file = _first(folders, ".env")
    dotenv = {k: v or "" for k, v in dotenv_values(env_file).items()} if env_file else {}
    problems = _unknown(environ, "the environment")
    problems += _unknown(dotenv, f"{env_file}")
    merged = {**dotenv, **environ}
    values = _read_toml(merged.get(CONFIG), folders)
    values |= {
        name: text
        for name in Settings.model_fields
        if name != "pool" and (text := merged.get(f"{PREFIX}{name.upper()}")) is not None
    }
    if problems:
        raise ConfigError(problems)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentences(error, values)) from None  # its text could show a secret


def _first(folders: tuple[Path, ...], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _unknown(names: Mapping[str, str], where: str) -> list[str]:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields if name != "pool"} | {CONFIG}
    return [
        f"{name} in {where}: there is no such setting{_hint(name, known)}"
        for name in sorted(names)
        if name.startswith(PREFIX) and name not in known
    ]


def _hint(name: str, known: set[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _read_toml(named: str | None, folders: tuple[Path, ...]) -> dict[str, Any]:
    if named:
        path = Path(named).expanduser()
        path = path if path.is_absolute() else folders[0] / path
    else:
        found = _first(folders, DEFAULT_FILE)
        if found is None:
            return {}
        path = found
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{CONFIG}: cannot read {path} ({error.strerror})"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} is not TOML: {error}"]) from error


def _sentences(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        text = problem["msg"].removeprefix("Value error, ")
        where = _where(problem["loc"], values)
        if problem["type"] == "extra_forbidden":
            pool = problem["loc"][0] == "pool"
            known = set(PoolSettings.model_fields if pool else Settings.model_fields)
            text = f"there is no such {'key' if pool else 'setting'}{_hint(str(problem['loc'][-1]), known)}"
        elif problem["type"] == "missing":
            text = "it is required: see cidermill.toml.example"
        found += [f"{where}: {line}" if where else line for line in text.splitlines()]
    return found


def _where(loc: tuple[int | str, ...], values: Mapping[str, Any]) -> str:
    """Return the key as it is written: ``pool "mac": labels``."""
    if len(loc) >= 2 and loc[0] == "pool" and isinstance(loc[1], int):
        pools = values.get("pool")
        name = (
            pools[loc[1]].get("name") if isinstance(pools, list) and isinstance(pools[loc[1]], dict) else None
        )
        label = f'pool "{name}"' if isinstance(name, str) else f"pool {loc[1] + 1}"
        rest = ".".join(str(part) for part in loc[2:])
        return f"{label}: {rest}" if rest else label
    return ".".join(str(part) for part in loc)


def prepare_state_dir(settings: Settings) -> Path:
    """Make the state directory, private to this user. Raises ConfigError."""
    path = settings.state_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise ConfigError([f"state_dir: cannot use {path} ({error.strerror})"]) from error
    return path


def admin_token(settings: Settings) -> str:
    """Return the admin token, making one in ``state_dir/admin-token`` (mode 0600) where none is set."""
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    path = settings.state_dir / "admin-token"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        token = path.read_text(encoding="ascii").strip()
        if not token:
            raise ConfigError([f"{path} is empty: delete it, and a new token is made"]) from None
        return token
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token
