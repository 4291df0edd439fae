"""Where configuration comes from: the environment, then ``.env``, then the TOML file, then defaults.

Both files are looked for in the working directory and then in the state directory, since launchd starts programs
in ``/``. One that holds a secret must be its owner's alone. All problems are found at once, each as a sentence that
names the key and the mend.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from app.poolsettings import PoolSettings
from app.settings import Settings

PREFIX = "CIDERMILL_"
CONFIG = "CIDERMILL_CONFIG"
DEFAULT_FILE = "cidermill.toml"
DEFAULT_STATE_DIR = "~/.cidermill"
SECRETS = frozenset(
    name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)
)
# Kinds of problems that only numbers, switches and choices have: what was given may be shown.
SHOWN = frozenset(
    {
        "bool_parsing",
        "enum",
        "float_parsing",
        "greater_than_equal",
        "int_parsing",
        "less_than_equal",
        "literal_error",
    }
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the configuration comes from, and what stands there, right or wrong."""

    environ: Mapping[str, str] = field(repr=False)
    env_file: Path | None
    dotenv: Mapping[str, str] = field(repr=False)
    toml_file: Path | None  # it need not exist where CIDERMILL_CONFIG names it
    state_dir: Path

    def toml(self) -> dict[str, Any]:
        """Read the TOML file. Raises ConfigError."""
        return _read_toml(self.toml_file) if self.toml_file else {}

    def values(self) -> dict[str, Any]:
        """Return what is set, by the names of settings. Raises ConfigError."""
        merged = {**self.dotenv, **self.environ}
        return self.toml() | {
            name: text
            for name in Settings.model_fields
            if name != "pool" and (text := merged.get(f"{PREFIX}{name.upper()}")) is not None
        }


def sources(environ: Mapping[str, str], cwd: Path) -> Sources:
    """Look for the files of the configuration. Raises ConfigError."""
    env_file = _first((cwd, _state_dir(environ)), ".env")
    dotenv = _read_dotenv(env_file) if env_file else {}
    merged = {**dotenv, **environ}
    return Sources(
        environ=environ,
        env_file=env_file,
        dotenv=dotenv,
        toml_file=_toml_file(merged.get(CONFIG), (cwd, _state_dir(merged))),
        state_dir=_state_dir(merged),
    )


def load(environ: Mapping[str, str], cwd: Path) -> Settings:
    """Read the configuration. Raises ConfigError with every problem found."""
    found = sources(environ, cwd)
    toml = found.toml()
    exposed = [
        *_exposed(
            found.env_file, (name.removeprefix(PREFIX).lower() for name, text in found.dotenv.items() if text)
        ),
        *_exposed(found.toml_file, toml),
    ]
    settings, wrong = _read(found.values())
    unknown = [*_unknown(environ, "the environment"), *_unknown(found.dotenv, f"{found.env_file}")]
    problems = [*unknown, *exposed, *wrong]
    if settings is None or problems:
        raise ConfigError(problems)
    return settings


def _read(values: Mapping[str, Any]) -> tuple[Settings | None, list[str]]:
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:  # its text could show a secret: it goes no further
        found = _sentences(error, values)
        wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
    if not wrong:
        return None, found
    # Rules about the whole are tried only once each value is right: try them on the values that are.
    _, more = _read({name: value for name, value in values.items() if name not in wrong})
    left_out = wrong & set(Settings.model_fields)
    return None, found + [line for line in more if not any(name in line for name in left_out)]


def _state_dir(environ: Mapping[str, str]) -> Path:
    return _expand(environ.get(f"{PREFIX}STATE_DIR") or DEFAULT_STATE_DIR, f"{PREFIX}STATE_DIR")


def _expand(text: str, key: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError([f"{key}: there is no home directory for {text}: write the whole path"]) from error


def _first(folders: tuple[Path, ...], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        # A value means what it says: a secret may hold "${".
        return {name: text or "" for name, text in dotenv_values(path, interpolate=False).items()}
    except OSError as error:
        raise ConfigError([f"cannot read {path} ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not UTF-8 text"]) from error


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


def _toml_file(named: str | None, folders: tuple[Path, ...]) -> Path | None:
    # An absolute path stays what it is.
    return folders[0] / _expand(named, CONFIG) if named else _first(folders, DEFAULT_FILE)


def _exposed(path: Path | None, names: Iterable[str]) -> list[str]:
    """Say that a file holds secrets and is not its owner's alone."""
    held = sorted(SECRETS & set(names))
    if path is None or not held or not stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    return [f"{path} holds {' and '.join(held)}, and others may use it: run `chmod 600 {path}`"]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{CONFIG}: cannot read {path} ({error.strerror})"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path} is not TOML: {error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not TOML: it is not UTF-8 text"]) from error


def _sentences(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        where = _where(problem["loc"], values)
        found += [f"{where}: {line}" if where else line for line in _mend(problem).splitlines()]
    return found


def _mend(problem: ErrorDetails) -> str:
    """Say what is wrong with one value, and with which; never with a secret, nor with free text that may hold one."""
    loc, given = problem["loc"], problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            pool = loc[0] == "pool"
            known = set(PoolSettings.model_fields if pool else Settings.model_fields)
            return f"there is no such {'key' if pool else 'setting'}{_hint(str(loc[-1]), known)}"
        case "missing":
            return "it is required: see cidermill.toml.example"
        case "tuple_type" if loc == ("pool",):
            return "write [[pool]], with two brackets, above the keys of each pool"
        case "tuple_type":
            return 'write a list, such as ["one", "two"]'
        case kind if kind in SHOWN:
            return f"{problem['msg']}; it is {str(given)[:60]!r}"
    return problem["msg"].removeprefix("Value error, ")


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
        for kept in path.glob("cidermill.db*"):  # brought back from a copy, they may be open to others
            kept.chmod(0o600)
    except OSError as error:
        raise ConfigError([f"state_dir: cannot use {path} ({error.strerror})"]) from error
    return path


def lock_state_dir(settings: Settings) -> None:
    """Hold the state directory until this process ends: two at once would fight over slots. Raises ConfigError."""
    path = settings.state_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        msg = (
            f"state_dir: another CiderMill uses {settings.state_dir} now: stop it, or give this one a state_dir "
            "and host_name of its own (and run uvicorn with one worker)"
        )
        raise ConfigError([msg]) from error


def admin_token(settings: Settings) -> str:
    """Return the admin token, making one in ``state_dir/admin-token`` (mode 0600) where none is set.

    Raises ConfigError.
    """
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    path = settings.state_dir / "admin-token"
    try:
        token = _make_token(path) or _kept_token(path)
    except OSError as error:
        raise ConfigError([f"admin_token: cannot use {path} ({error.strerror})"]) from error
    if not token or not token.isascii():
        raise ConfigError([f"admin_token: {path} holds no token: delete it, and a new one is made"])
    return token


def _make_token(path: Path) -> str | None:
    """Make a token where there is no file yet; only one of two who try at once succeeds."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token


def _kept_token(path: Path) -> str:
    path.chmod(0o600)
    return path.read_text(encoding="utf-8", errors="replace").strip()
