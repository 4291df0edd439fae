"""Who may read the files: what we write is its owner's alone, and what we are given must be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.configfile import ConfigError, load
from app.main import create_app
from app.settings import Settings
from tests.api.conftest import SECRET, HostWithLogs, SmallGitHub
from tests.api.test_composition import some_settings
from tests.conftest import Clock

POOL = '[[pool]]\nname = "mac"\nlabels = ["m"]\nimage = "sequoia"\nrepositories = ["acme/*"]\n'
TOKEN = "github_pat_0123456789abcdefghij"
TOML = f'github_token = "{TOKEN}"\ngithub_webhook_secret = "{SECRET}"\n'
ENV = f"CIDERMILL_GITHUB_TOKEN={TOKEN}\nCIDERMILL_GITHUB_WEBHOOK_SECRET={SECRET}\n"
OPEN = [0o644, 0o640, 0o620, 0o604, 0o602, 0o660, 0o777]
PRIVATE = [0o600, 0o400, 0o700]


def configured(folder: Path, *, env: str = "", toml: str = "", modes: tuple[int, int]) -> Settings:
    for name, text, mode in ((".env", env, modes[0]), ("cidermill.toml", toml + POOL, modes[1])):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    return load({"CIDERMILL_STATE_DIR": str(folder / "state")}, folder)


@pytest.mark.parametrize("mode", OPEN, ids=oct)
@pytest.mark.parametrize("name", [".env", "cidermill.toml"])
def test_open_files_with_secrets(tmp_path: Path, name: str, mode: int) -> None:
    """A file with secrets that anybody else may use stops the start, with the command that mends it."""
    given = {"env": ENV, "modes": (mode, 0o644)} if name == ".env" else {"toml": TOML, "modes": (0o644, mode)}
    with pytest.raises(ConfigError) as refused:
        configured(tmp_path, **given)  # type: ignore[arg-type]
    (problem,) = refused.value.problems
    assert f"run `chmod 600 {tmp_path / name}`" in problem
    assert "github_token and github_webhook_secret" in problem
    assert TOKEN not in refused.value.report()
    assert SECRET not in refused.value.report()


@pytest.mark.parametrize("mode", PRIVATE, ids=oct)
def test_private_files(tmp_path: Path, mode: int) -> None:
    """Files that are their owner's alone are taken."""
    assert configured(tmp_path, env=ENV, modes=(mode, 0o644)).github_token is not None
    assert configured(tmp_path, toml=TOML, modes=(0o644, mode)).github_token is not None


def test_open_files_without_secrets(tmp_path: Path) -> None:
    """A TOML file that holds pools alone, as the example does, may be open to all."""
    assert configured(tmp_path, env=ENV, modes=(0o600, 0o666)).pools


def test_a_reload_minds_it_too(tmp_path: Path) -> None:
    """A file that was opened to others while we run is refused by the next reading."""
    configured(tmp_path, env=ENV, modes=(0o600, 0o644))
    with pytest.raises(ConfigError, match="chmod 600"):
        configured(tmp_path, env=ENV, modes=(0o644, 0o644))


@pytest.fixture
def _open_umask() -> Iterator[None]:
    """Have the process make everything readable by all, as far as it does not say otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
@pytest.mark.parametrize("before", ["nothing", "an open directory", "open files"])
async def test_state_directory(tmp_path: Path, before: str) -> None:
    """Whatever the umask, and whatever was there, all in the state directory is its owner's alone."""
    folder, clock = tmp_path / "state", Clock()
    if before != "nothing":
        folder.mkdir(mode=0o777)
    if before == "open files":
        for name in ("cidermill.db", "admin-token"):
            (folder / name).touch(mode=0o666)
        (folder / "admin-token").write_text("a-token-that-was-kept")
    settings = some_settings(folder, admin_token=None)
    app = create_app(settings, github=SmallGitHub(), vms=HostWithLogs(clock), clock=clock)
    async with app.router.lifespan_context(app):
        await app.state.context.store.set_draining(True)
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"cidermill.db", "cidermill.db-wal", "cidermill.db-shm", "admin-token"} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
