"""The launch agent: what launchd is told, and that doing it twice is doing it once."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.configfile import ConfigError
from app.service.agent import LABEL
from app.service.install import install, status, uninstall
from app.service.launchctl import ServiceError
from tests.service.conftest import Mac


def written(mac: Mac) -> dict[str, Any]:
    agent: dict[str, Any] = plistlib.loads(mac.place.plist.read_bytes())
    return agent


def test_the_agent_is_what_a_vm_host_needs(mac: Mac) -> None:
    """The session on the screen, no throttling, VMs left alone, enough files, Homebrew's tart, and no secret."""
    said = install(mac.place)
    agent = written(mac)
    assert mac.place.plist == mac.folder / f"home/Library/LaunchAgents/{LABEL}.plist"
    assert agent["ProgramArguments"] == [str(mac.place.program), "serve"]
    assert agent["WorkingDirectory"] == str(mac.state_dir)
    assert (agent["KeepAlive"], agent["RunAtLoad"], agent["AbandonProcessGroup"]) == (True, True, True)
    assert (agent["ProcessType"], agent["LimitLoadToSessionType"]) == ("Interactive", "Aqua")
    assert agent["SoftResourceLimits"] == {"NumberOfFiles": 4096}
    assert agent["EnvironmentVariables"]["PATH"].startswith("/opt/homebrew/bin:")
    assert agent["EnvironmentVariables"]["CIDERMILL_CONFIG"] == str(mac.state_dir / "cidermill.toml")
    assert agent["EnvironmentVariables"]["CIDERMILL_LOG_PATH"] == str(mac.state_dir / "server.log")
    assert agent["StandardErrorPath"] == agent["StandardOutPath"] == str(mac.state_dir / "launchd.log")
    assert "SessionCreate" not in agent
    assert "ssssssss" not in mac.place.plist.read_text()
    assert mac.place.plist.stat().st_mode & 0o777 == 0o644
    assert str(mac.state_dir / "server.log") in said


def test_install_twice(mac: Mac) -> None:
    """What is as it should be is left alone: the server is not restarted."""
    install(mac.place)
    assert mac.verbs() == ["enable", "bootstrap"]
    assert "already" in install(mac.place)
    assert mac.verbs() == []


def test_install_after_a_change(mac: Mac) -> None:
    """A program that moved is renewed: stopped, waited for until it is gone, and loaded again."""
    install(mac.place)
    moved = mac.folder / "bin/moved"
    mac.place.program.rename(moved)
    mac.move(program=moved)
    mac.verbs()
    install(mac.place)
    assert mac.verbs() == ["bootout", "enable", "bootstrap"]
    assert mac.launchd["services"][LABEL]["program"] == str(moved)


def test_install_where_only_the_file_is_left(mac: Mac) -> None:
    """A file that launchd has not loaded is loaded, though somebody had disabled the service."""
    install(mac.place)
    mac.set(services={}, disabled=[LABEL])
    install(mac.place)
    assert status(mac.place).is_running


def test_uninstall(mac: Mac) -> None:
    """It is stopped, waited for, and its file removed; once more changes nothing; the state stays."""
    install(mac.place)
    assert "removed" in uninstall(mac.place)
    assert not mac.place.plist.exists()
    assert mac.launchd["services"] == {}
    mac.verbs()
    assert "is not installed" in uninstall(mac.place)
    assert mac.verbs() == []
    assert (mac.state_dir / "cidermill.toml").exists()


def test_a_server_that_does_not_stop(mac: Mac) -> None:
    """Where launchd does not let go in time, that is said, and the file stays."""
    install(mac.place)
    mac.set(lingers=10**9)
    with pytest.raises(ServiceError, match="has not stopped"):
        mac.place.launchctl.bootout(LABEL, within=0.2)


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        pytest.param({"platform": "linux"}, "contrib/systemd/cidermill.service", id="Linux"),
        pytest.param({"uid": 0}, "without sudo", id="root"),
        pytest.param({"program": Path("/nowhere/cidermill")}, "uv tool install", id="no such command"),
    ],
)
def test_where_it_cannot_be(mac: Mac, changes: dict[str, Any], mend: str) -> None:
    """Each reason why it cannot be installed names the mend, and nothing is written."""
    mac.move(**changes)
    with pytest.raises(ServiceError, match=mend):
        install(mac.place)
    assert not mac.place.plist.exists()


def test_nobody_on_the_screen(mac: Mac) -> None:
    """Over SSH, with nobody logged in on the screen, it says so and writes nothing."""
    mac.set(session=False)
    with pytest.raises(ServiceError, match="automatic login"):
        install(mac.place)
    assert not mac.place.plist.exists()


def test_launchd_refuses(mac: Mac) -> None:
    """What launchd says is passed on with where to look, since its own words say nothing."""
    mac.set(refuses=True)
    with pytest.raises(ServiceError, match=r"5: Input/output error.*Login Items"):
        install(mac.place)


def test_a_configuration_that_is_not_valid(mac: Mac) -> None:
    """A server that could not start is not installed."""
    mac.configure("slots = 3")
    with pytest.raises(ConfigError, match="Apple allows 2"):
        install(mac.place)
    assert not mac.place.plist.exists()


def test_a_configuration_that_launchd_would_not_see(mac: Mac, keep_secrets: Callable[[Path], None]) -> None:
    """Secrets in this shell's folder are not there under launchd: that is said, and where they belong."""
    keep_secrets(mac.place.cwd)
    (mac.state_dir / ".env").unlink()
    with pytest.raises(ConfigError, match=r"github_webhook_secret.*launchd does not see this shell"):
        install(mac.place)
    assert not mac.place.plist.exists()


def test_a_setting_of_this_shell(mac: Mac) -> None:
    """A setting that would be another one under launchd is named."""
    mac.move(environ={**mac.place.environ, "CIDERMILL_SLOTS": "1"})
    with pytest.raises(ServiceError, match=r"slots would have another value.*state/\.env"):
        install(mac.place)


def test_a_configuration_elsewhere(mac: Mac) -> None:
    """A TOML file in the working directory is named to launchd by its whole path."""
    elsewhere = mac.place.cwd / "cidermill.toml"
    mac.configure().rename(elsewhere)
    install(mac.place)
    assert written(mac)["EnvironmentVariables"]["CIDERMILL_CONFIG"] == str(elsewhere)


def test_a_log_elsewhere(mac: Mac) -> None:
    """log_path of the configuration is kept."""
    mac.configure(f'log_path = "{mac.folder}/mill.log"')
    install(mac.place)
    assert written(mac)["EnvironmentVariables"]["CIDERMILL_LOG_PATH"] == f"{mac.folder}/mill.log"


def test_status_of_one_that_runs(mac: Mac) -> None:
    """Process, starts and last exit are read off launchd's words, and nothing of what stands deeper in them."""
    install(mac.place)
    found = status(mac.place)
    assert found.installed
    assert found.is_running
    assert found.mend is None
    assert found.loaded is not None
    assert (found.loaded.pid, found.loaded.runs, found.loaded.last_exit) == (4242, 1, "(never exited)")


@pytest.mark.parametrize(
    ("state", "mend"),
    [
        pytest.param({"exits": "78: EX_CONFIG"}, "launchd.log", id="it ends at once"),
        pytest.param({"session": False, "services": {}}, "log in on the Mac's screen", id="nobody logged in"),
        pytest.param({"services": {}}, "cidermill service install", id="not loaded"),
    ],
)
def test_status_of_one_that_does_not(mac: Mac, state: dict[str, Any], mend: str) -> None:
    """Every way not to run has its mend."""
    if "exits" in state:
        mac.set(**state)
    install(mac.place)
    mac.set(**state)
    found = status(mac.place)
    assert not found.is_running
    assert mend in (found.mend or "")


def test_a_file_that_is_no_plist(mac: Mac) -> None:
    """A damaged file is said to be so, and install writes it anew."""
    install(mac.place)
    mac.place.plist.write_text("nonsense")
    with pytest.raises(ServiceError, match="is no property list"):
        status(mac.place)
    install(mac.place)
    assert status(mac.place).is_running
