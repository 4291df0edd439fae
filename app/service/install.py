"""Install, remove and look at the launch agent. Doing it twice is doing it once.

Nothing is written before all of it can work: the configuration is read as launchd's process will read it, and the
user must be logged in on the screen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.configfile import CONFIG, DEFAULT_FILE, ConfigError, load, prepare_state_dir
from app.service.agent import LABEL, STOP_SECONDS, LaunchAgent
from app.service.launchctl import Launchctl, Loaded, ServiceError

LINUX = (
    "launch agents are a thing of macOS: on Linux use contrib/systemd/cidermill.service (docs/service.md), or run "
    "`cidermill serve` yourself"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it is installed: a user of a machine."""

    home: Path
    cwd: Path
    environ: Mapping[str, str]
    platform: str
    uid: int
    program: Path
    launchctl: Launchctl

    @classmethod
    def here(cls) -> Place:
        """Return this user on this machine."""
        uid = os.getuid()
        return cls(
            home=Path.home(),
            cwd=Path.cwd(),
            environ=os.environ,
            platform=sys.platform,
            uid=uid,
            program=Path(sys.executable).with_name("cidermill"),
            launchctl=Launchctl(uid=uid),
        )

    @property
    def plist(self) -> Path:
        """The file that launchd reads at each login."""
        return self.home / "Library/LaunchAgents" / f"{LABEL}.plist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the agent is."""

    installed: bool  # its file is there
    loaded: Loaded | None
    session: bool  # the user is logged in on the screen
    agent: Mapping[str, Any]  # the file's content

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self.loaded is not None and self.loaded.is_running

    @property
    def mend(self) -> str | None:
        """What to do where it does not run."""
        if self.is_running:
            return None
        if not self.session:
            return "log in on the Mac's screen (automatic login keeps it so): launchd starts it in that session only"
        if not self.installed or self.loaded is None:
            return "run `cidermill service install`"
        return f"see why it ended: `tail {self.agent.get('StandardErrorPath')}`, and server.log beside it"


def install(place: Place) -> str:
    """Install and start the agent, or renew it; return what was done. Raises ServiceError or ConfigError."""
    _check_place(place)
    agent = _agent(place)
    wanted, written = agent.plist(), _read(place.plist)
    loaded = place.launchctl.service(LABEL)
    if wanted == written and loaded is not None:
        return f"{LABEL} is installed already, and as it should be"
    if loaded is not None:
        place.launchctl.bootout(LABEL, within=STOP_SECONDS + 10)
    _write(place.plist, wanted)
    place.launchctl.bootstrap(LABEL, place.plist)
    return f"{LABEL} is installed, and starts now and at each login; its log is {agent.log}"


def uninstall(place: Place) -> str:
    """Stop and remove the agent; VMs and the state directory stay. Raises ServiceError."""
    _check_user(place)
    loaded = place.launchctl.service(LABEL)
    if loaded is not None:
        place.launchctl.bootout(LABEL, within=STOP_SECONDS + 10)
    if loaded is None and not place.plist.exists():
        return f"{LABEL} is not installed"
    place.plist.unlink(missing_ok=True)
    return f"{LABEL} is stopped and removed; VMs that run go on, and the state directory stays"


def status(place: Place) -> Status:
    """Look at the agent. Raises ServiceError."""
    _check_user(place)
    written = _read(place.plist)
    return Status(
        installed=written is not None,
        loaded=place.launchctl.service(LABEL),
        session=place.launchctl.has_session(),
        agent=_content(place.plist, written),
    )


def _check_user(place: Place) -> None:
    if place.platform != "darwin":
        raise ServiceError(LINUX)
    if place.uid == 0:
        msg = "not as root: run it, without sudo, as the user who is logged in on the Mac's screen"
        raise ServiceError(msg)


def _check_place(place: Place) -> None:
    _check_user(place)
    if not os.access(place.program, os.X_OK):
        msg = f"there is no command {place.program}: install CiderMill with `uv tool install` or pip (docs/operating.md)"
        raise ServiceError(msg)
    if not place.launchctl.has_session():
        msg = (
            "you are not logged in on this Mac's screen, and VMs start in such a session only: log in there (turn on "
            "automatic login, so that it is so after a restart), and run this again, over SSH too"
        )
        raise ServiceError(msg)


def _agent(place: Place) -> LaunchAgent:
    """Return the agent of the configuration in force here, if the server will find the same under launchd."""
    settings = load(place.environ, place.cwd)
    agent = LaunchAgent(
        program=place.program,
        state_dir=settings.state_dir,
        config=_config(place, settings.state_dir),
        log=settings.log_path or settings.state_dir / "server.log",
    )
    prepare_state_dir(settings)  # launchd starts nothing in a directory that is not there
    mend = f"put what this shell or {place.cwd / '.env'} sets into {settings.state_dir / '.env'} (chmod 600)"
    try:
        seen = load({"HOME": str(place.home), **agent.environment}, settings.state_dir)
    except ConfigError as error:
        raise ConfigError([*error.problems, f"launchd does not see this shell: {mend}"]) from error
    lost = [name for name in settings.differing(seen) if name != "log_path"]
    if lost:
        msg = f"under launchd {', '.join(lost)} would have another value than here: {mend}"
        raise ServiceError(msg)
    return agent


def _config(place: Place, state_dir: Path) -> Path | None:
    named = place.environ.get(CONFIG)
    if named:
        return (place.cwd / Path(named).expanduser()).absolute()
    files = (folder / DEFAULT_FILE for folder in (place.cwd, state_dir))
    return next((file.absolute() for file in files if file.is_file()), None)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _content(path: Path, written: bytes | None) -> Mapping[str, Any]:
    import plistlib

    if written is None:
        return {}
    try:
        found: Mapping[str, Any] = plistlib.loads(written)
    except ValueError as error:
        msg = f"{path} is no property list: `cidermill service install` writes it anew"
        raise ServiceError(msg) from error
    return found


def _write(path: Path, text: bytes) -> None:
    """Put the file in place whole; launchd takes none that others may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(text)
    new.chmod(0o644)
    new.replace(path)
