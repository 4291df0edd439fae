"""The files that setting up writes: the App's key, ``.env`` and the TOML file.

Each is replaced at once or not at all, readable by its owner alone, and no line is lost: of ``.env`` the lines of the
settings that were asked for change, of the TOML file the keys of one pool. What only an App has goes with it: a token or
a key as text, which would contradict it, becomes a comment.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

import tomlkit
from dotenv.parser import parse_stream
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from app.configfile import DEFAULT_FILE, DEFAULT_STATE_DIR, PREFIX, ConfigError, Sources
from app.poolsettings import PoolSettings

EXAMPLES = (Path(__file__).parent / "examples", Path(__file__).parents[2])  # installed, and in a checkout
KEY_FILE = "app.pem"
INLINE_COMMENT = re.compile(r"[ \t]+#[^\n'\"]*$")
PLAIN = re.compile(r"[A-Za-z0-9_./:@%+~-]+")
EXAMPLE_REPOSITORY = "your-org/your-repo"


class Unwritable(Exception):
    """A file cannot be written; the text says which, why, and the mend."""


class Files:
    """Where everything is to stand: where the service would find it, or else in the state directory."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.state_dir = _state_dir(sources)
        self.env = sources.env_file or sources.state_dir / ".env"
        self.toml = sources.toml_file or sources.state_dir / DEFAULT_FILE

    def check(self) -> None:
        """Try whether all of it can be written, before GitHub hands over what it shows once. Raises Unwritable."""
        _make_private(self.state_dir)
        for folder in {self.state_dir, self.env.parent, self.toml.parent}:
            try:
                with tempfile.NamedTemporaryFile(dir=folder, prefix=".cidermill-"):
                    pass
            except OSError as error:
                raise _unwritable(folder, error) from error

    def write_key(self, pem: str, app_id: int) -> Path:
        """Write the App's key beside any other there is, and return where. Raises Unwritable."""
        _make_private(self.state_dir)
        path = self.state_dir / KEY_FILE
        if path.exists() and path.read_text(encoding="ascii", errors="replace") != pem:
            path = self.state_dir / f"app-{app_id}.pem"
        write(path, pem)
        return path

    def write_settings(self, values: Mapping[str, str], *, without: Sequence[str] = ()) -> None:
        """Set settings in ``.env``, and make comments of those that contradict them. Raises Unwritable."""
        text = _read(self.env) if self.env.exists() else example(".env.example")
        for name in without:
            text = commented(text, f"{PREFIX}{name.upper()}")
        for name, value in values.items():
            text = with_value(text, f"{PREFIX}{name.upper()}", value)
        write(self.env, text)

    def overridden(self, names: Sequence[str]) -> list[str]:
        """Return the variables of the environment that go before what was written."""
        return [name for name in (f"{PREFIX}{n.upper()}" for n in names) if name in self._sources.environ]

    def pools(self) -> list[dict[str, object]]:
        """Return the pools there are, but for the example's. Raises Unwritable."""
        found = _parse(self.toml).get("pool", []) if self.toml.exists() else []
        return [dict(pool.unwrap()) for pool in found if not _is_example(pool)]

    def pool(self, name: str) -> dict[str, object]:
        """Return the keys of a pool, none where there is no such pool. Raises Unwritable."""
        return next((pool for pool in self.pools() if pool.get("name") == name), {})

    def write_pool(self, keys: Mapping[str, object]) -> None:
        """Set the keys of the pool of that name, or add it; all else stays. Raises Unwritable."""
        document = (
            _parse(self.toml) if self.toml.exists() else tomlkit.parse(example("cidermill.toml.example"))
        )
        pools = document.get("pool")
        if not isinstance(pools, AoT):
            pools = tomlkit.aot()
            document["pool"] = pools
        pool = next((one for one in pools if _is_example(one) or one.get("name") == keys["name"]), None)
        if pool is None:
            pool = tomlkit.table()
            pools.append(pool)
        for key, value in keys.items():
            present = pool[key].unwrap() if key in pool else PoolSettings.model_fields[key].default
            if present != value:
                pool[key] = value
        write(self.toml, tomlkit.dumps(document))


def _is_example(pool: Table) -> bool:
    return bool(pool.get("repositories") == [EXAMPLE_REPOSITORY])


def _state_dir(sources: Sources) -> Path:
    try:
        named = sources.values().get("state_dir")
    except (
        ConfigError
    ):  # a TOML file that is named and not there yet, or is broken, and told of where it is read
        named = sources.environ.get(f"{PREFIX}STATE_DIR")
    return Path(str(named or DEFAULT_STATE_DIR)).expanduser().absolute()


def example(name: str) -> str:
    """Return the text of an example that ships with the program."""
    return next(folder / name for folder in EXAMPLES if (folder / name).is_file()).read_text(encoding="utf-8")


def with_value(text: str, name: str, value: str) -> str:
    """Return the text of a ``.env`` in which *name* has *value*: in its line, below its comment, or at the end."""
    line = f"{name}={_quoted(value)}\n"
    lines = _lines(text)
    places = [n for n, (key, _) in enumerate(lines) if key == name]
    if places:
        old = lines[places[-1]][1]
        before = old[: len(old) - len(old.lstrip())]
        comment = INLINE_COMMENT.search(old.rstrip())
        new = before + line.rstrip() + (comment[0] if comment else "") + "\n"
        lines[places[-1]] = (name, new)
        return "".join(original for _, original in lines)
    example = re.compile(rf"^#\s*(?:Example:\s*)?{re.escape(name)}=.*(?:\n|\Z)", re.MULTILINE)
    found = example.search(text)
    if found is None:
        return f"{_ended(text)}{line}"
    return f"{_ended(text[: found.end()])}{line}{text[found.end() :]}"


def commented(text: str, name: str) -> str:
    """Return the text of a ``.env`` in which the lines of *name* are comments."""
    return "".join(
        re.sub(r"^(?=.)", "# ", original, flags=re.MULTILINE) if key == name else original
        for key, original in _lines(text)
    )


def _lines(text: str) -> list[tuple[str | None, str]]:
    """Split into (name, text), one for each setting, comments and empty lines in between."""
    return [(binding.key, binding.original.string) for binding in parse_stream(StringIO(text))]


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _quoted(value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as text ({error}): mend it, or move it away"
        raise Unwritable(msg) from error


def _parse(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(_read(path))
    except TOMLKitError as error:
        msg = f"{path} is not TOML ({error}): mend it, or move it away"
        raise Unwritable(msg) from error


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write(path: Path, text: str) -> None:
    """Replace a file at once, its owner's alone whatever it was before. Raises Unwritable."""
    path = path.resolve()  # a link stays a link
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".cidermill-", encoding="utf-8", newline="", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> Unwritable:
    return Unwritable(
        f"{path} cannot be written ({error.strerror}): make it writable for this user, or free some space"
    )
