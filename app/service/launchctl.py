"""launchd, asked and told through ``launchctl``.

What ``launchctl print`` says is meant for people and may change with macOS: only lines at its first level are read,
and what is not there is unknown (None).
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 30.0  # s for one command
PAUSE = 0.1  # s between two looks
FIRST_LEVEL = re.compile(r"^\t(?P<key>[a-z][a-z ]*) = (?P<value>[^{\n]+)$", re.MULTILINE)


class ServiceError(Exception):
    """It cannot be done; the text says why, and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What launchd says of a service that it has loaded."""

    state: str | None  # "running", "spawn scheduled", "not running"
    pid: int | None
    runs: int | None  # how often it was started
    last_exit: str | None  # "0", "78: EX_CONFIG", "(never exited)"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.pid is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launchctl:
    """The services of one user's session on the screen."""

    uid: int
    command: str = "/bin/launchctl"

    @property
    def domain(self) -> str:
        """The user's session, as launchctl names it."""
        return f"gui/{self.uid}"

    def has_session(self) -> bool:
        """Whether the user is logged in on the screen, whoever asks, over SSH too."""
        return self._run("print", self.domain).returncode == 0

    def service(self, label: str) -> Loaded | None:
        """Return what launchd says of the service; None where it has not loaded it."""
        said = self._run("print", f"{self.domain}/{label}")
        return _read(said.stdout) if said.returncode == 0 else None

    def bootstrap(self, label: str, plist: Path) -> None:
        """Load and start the service, now and at each login. Raises ServiceError."""
        self._run("enable", f"{self.domain}/{label}")  # it stays disabled for ever once someone disabled it
        said = self._run("bootstrap", self.domain, str(plist))
        if said.returncode != 0:
            msg = (
                f"launchd did not take {plist}: {_words(said)}. See whether System Settings, General, Login Items "
                "allows cidermill in the background; `log show --last 5m --predicate 'process == \"launchd\"'` says more"
            )
            raise ServiceError(msg)

    def bootout(self, label: str, *, within: float) -> None:
        """Stop and unload the service, and wait until it is gone, *within* seconds. Raises ServiceError."""
        said = self._run("bootout", f"{self.domain}/{label}")
        limit = time.monotonic() + within
        while self.service(label) is not None:  # it answers before the process has ended
            if time.monotonic() > limit:
                msg = f"launchd has not stopped {label} within {within:.0f} s: {_words(said) or 'try again'}"
                raise ServiceError(msg)
            time.sleep(PAUSE)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except OSError as error:
            msg = f"{self.command} cannot be run ({error.strerror}): launch agents are a thing of macOS"
            raise ServiceError(msg) from error
        except subprocess.TimeoutExpired as error:
            msg = f"launchctl {arguments[0]} did not answer within {TIMEOUT:.0f} s: try again, or restart the Mac"
            raise ServiceError(msg) from error


def _read(text: str) -> Loaded:
    found = {match["key"]: match["value"].strip() for match in FIRST_LEVEL.finditer(text)}
    return Loaded(
        state=found.get("state"),
        pid=_number(found.get("pid")),
        runs=_number(found.get("runs")),
        last_exit=found.get("last exit code"),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _words(said: subprocess.CompletedProcess[str]) -> str:
    return " ".join((said.stderr or said.stdout).split()).rstrip(".")
