"""The launch agent: what launchd is told about us, as a property list.

An agent of the logged-in user, not a daemon: macOS starts VMs only in a session on the screen, with its keychain
(docs/service.md says what each key is for).
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "org.cidermill.server"
PATH = "/opt/homebrew/bin:/opt/homebrew/sbin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
OPEN_FILES = 4096  # launchd allows 256
STOP_SECONDS = 20  # until launchd kills us; we need five
THROTTLE_SECONDS = 10  # between two starts, should we end at once


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAgent:
    """The agent of one installation."""

    program: Path  # the `cidermill` command
    state_dir: Path
    config: Path | None  # the TOML file, where there is one
    log: Path  # which the server writes and rotates by itself

    @property
    def environment(self) -> dict[str, str]:
        """What the server gets of an environment beside what launchd gives; it holds no secret."""
        config = {"CIDERMILL_CONFIG": str(self.config)} if self.config else {}
        return {
            "PATH": PATH,
            "CIDERMILL_STATE_DIR": str(self.state_dir),
            "CIDERMILL_LOG_PATH": str(self.log),
            **config,
        }

    @property
    def output(self) -> Path:
        """Where launchd writes what is said before there is a log, or when the interpreter itself fails."""
        return self.state_dir / "launchd.log"

    def plist(self) -> bytes:
        """Return the property list as launchd reads it."""
        return plistlib.dumps(self._keys(), sort_keys=False)

    def _keys(self) -> Mapping[str, Any]:
        return {
            "Label": LABEL,
            "ProgramArguments": [str(self.program), "serve"],
            "WorkingDirectory": str(self.state_dir),
            "EnvironmentVariables": self.environment,
            "RunAtLoad": True,
            "KeepAlive": True,
            "ThrottleInterval": THROTTLE_SECONDS,
            "ExitTimeOut": STOP_SECONDS,
            "ProcessType": "Interactive",
            "LimitLoadToSessionType": "Aqua",
            "AbandonProcessGroup": True,
            "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
            "Umask": 0o077,
            "StandardOutPath": str(self.output),
            "StandardErrorPath": str(self.output),
        }
