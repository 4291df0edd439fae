"""A Mac's user as far as ``cidermill service`` sees one: a home, a configuration, and a stand-in launchctl."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.service.install import Place
from app.service.launchctl import Launchctl

UID = 501
TOML = """
host_name = "mini"
github_app_id = "1"
{more}
[[pool]]
name = "mac"
labels = ["sequoia"]
image = "sequoia"
repositories = ["acme/*"]
"""


@dataclass(slots=True)
class Mac:
    """One user of a Mac, and what launchd holds for them."""

    place: Place
    folder: Path

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def launchd(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return kept

    def set(self, **changes: Any) -> None:
        (self.folder / "state.json").write_text(json.dumps(self.launchd | changes))

    def verbs(self) -> list[str]:
        """Return what launchd was told to do, and forget it; questions left out."""
        done = [call[0] for call in self.launchd["calls"] if call[0] != "print"]
        self.set(calls=[])
        return done

    def move(self, **changes: Any) -> None:
        self.place = replace(self.place, **changes)

    def configure(self, more: str = "") -> Path:
        file = self.state_dir / "cidermill.toml"
        file.write_text(TOML.format(more=more))
        return file


def secrets_of(folder: Path, key: str) -> None:
    (folder / "app.pem").write_text(key)
    (folder / ".env").write_text(
        f"CIDERMILL_GITHUB_PRIVATE_KEY_PATH={folder / 'app.pem'}\nCIDERMILL_GITHUB_WEBHOOK_SECRET={'s' * 32}\n"
    )


@pytest.fixture(scope="session")
def key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = rsa.generate_private_key(65537, 2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def keep_secrets(key: str) -> Callable[[Path], None]:
    """Return what puts the App's key and an .env with the secrets into a folder."""
    return lambda folder: secrets_of(folder, key)


@pytest.fixture
def mac(tmp_path: Path, keep_secrets: Callable[[Path], None]) -> Mac:
    """Return a user who is logged in on the screen, configured in the state directory, with nothing installed."""
    command = tmp_path / "launchctl"
    source = Path(__file__).with_name("launchctl.py").read_text(encoding="utf-8")
    command.write_text(source.replace("/usr/bin/env python3", f"{sys.executable} -IS", 1))
    command.chmod(0o700)
    (tmp_path / "state.json").write_text(
        json.dumps({"session": True, "services": {}, "disabled": [], "lingers": 2, "calls": []})
    )
    program = tmp_path / "bin/cidermill"
    program.parent.mkdir()
    shutil.copy("/bin/sh", program)
    for folder in ("state", "elsewhere"):
        (tmp_path / folder).mkdir(mode=0o700)
    keep_secrets(tmp_path / "state")
    mac = Mac(
        Place(
            home=tmp_path / "home",
            cwd=tmp_path / "elsewhere",
            environ={"CIDERMILL_STATE_DIR": str(tmp_path / "state")},
            platform="darwin",
            uid=UID,
            program=program,
            launchctl=Launchctl(uid=UID, command=str(command)),
        ),
        tmp_path,
    )
    mac.configure()
    return mac
