"""What runs inside the VM: the real scripts, in a directory that plays the guest."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from app.clock import utcnow
from app.domain.pools import Forks, Pool
from app.ports import JitConfig, VMError
from app.vm import guest
from tests.builders import NOW, a_pool

NAME = "mini-mac-aaaaaaaa"
JIT = JitConfig("JITJITJIT" * 400)
SHIMS = {
    "sudo": 'shift\nexec "$@"',
    "chown": "exit 0",
    "shutdown": 'echo "$@" >"$HOME/off"',
    "date": 'case $1 in -u) echo "$2" >"$HOME/clock" ;; *) exec /bin/date "$@" ;; esac',
}
RUN_SH = """#!/bin/sh
env >"$HOME/environment"
umask >"$HOME/umask"
until [ -e "$HOME/finish" ]; do sleep 0.02; done
exit 7
"""


class Guest:
    """A guest: a home directory with a runner, and stand-ins for what would reach beyond it."""

    def __init__(self, place: Path) -> None:
        self.home, self.shims, self.guard = place / "home", place / "shims", place / "guard"
        self.runner = self.home / "actions-runner"
        for folder in (self.runner, self.shims):
            folder.mkdir(parents=True)
        self.write(self.runner / "run.sh", RUN_SH)
        for name, text in SHIMS.items():
            self.write(self.shims / name, f"#!/bin/sh\n{text}\n")

    @staticmethod
    def write(file: Path, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.shims}:/bin:/usr/bin",
            "CIDERMILL_GUARD_DIR": str(self.guard),
        }

    def run(self, command: tuple[str, ...], stdin: bytes = b"", **environ: str) -> str:
        done = subprocess.run(
            command,
            input=stdin,
            env=self.env | environ,
            capture_output=True,
            timeout=20,
            check=False,
            cwd=self.home,
        )
        return done.stdout.decode()

    def set_up(self, spec: Pool | None = None, **shift: float) -> str | None:
        spec = spec or a_pool()
        command = guest.setup_command(NAME, spec, utcnow() + timedelta(**shift))
        return guest.runner_version(self.run(command, guest.setup_input(spec)), spec)

    def deliver(self) -> None:
        guest.check_delivered(self.run(guest.deliver_command(NAME), guest.deliver_input(JIT, ["VM x"])))

    def look(self) -> tuple[bool, bool, bool, int | None]:
        seen = guest.guest_look(self.run(guest.probe_command(NAME)), NOW)
        return seen.delivered, seen.runner_alive, seen.worker_alive, seen.exit_code

    def job(self, repository: str, *, event: str = "push", payload: object = None, parent: str = "sh") -> int:
        """Return the exit code of the job-started hook, run below a process that is called *parent*."""
        file = self.home / "event.json"
        file.write_text(json.dumps(payload), encoding="utf-8")
        hook = str(self.guard / NAME / "job-started.sh")
        env = self.env | {
            "GITHUB_REPOSITORY": repository, "GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(file),
        }  # fmt: skip
        script = 'bash -e "$0"; code=$?; echo lived; exit $code'
        done = subprocess.run(
            ["/bin/bash", "-c", script, hook, parent], env=env, capture_output=True, timeout=20, check=False
        )
        return done.returncode


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path)
    yield made
    (made.home / "finish").touch()


def until(holds: Callable[[], bool]) -> None:
    limit = utcnow() + timedelta(seconds=10)
    while not holds():
        assert utcnow() < limit


def wait_for(file: Path) -> str:
    limit = utcnow() + timedelta(seconds=10)
    while not file.exists() or not file.read_text():
        assert utcnow() < limit, f"{file.name} never came"
        os.sched_yield() if hasattr(os, "sched_yield") else None
    return file.read_text()


def test_set_up_twice_is_once(inside: Guest) -> None:
    """Setting a guest up again changes nothing."""
    (inside.runner / ".env").write_text("A=1=2\nACTIONS_RUNNER_HOOK_JOB_STARTED=/image/hook.sh\nB=2")
    inside.set_up()
    first = {f: f.read_text() for f in inside.guard.rglob("*") if f.is_file()}
    env = (inside.runner / ".env").read_text()
    inside.set_up()
    assert {f: f.read_text() for f in inside.guard.rglob("*") if f.is_file()} == first
    assert (inside.runner / ".env").read_text() == env
    hook = inside.guard / NAME / "job-started.sh"
    assert env == f"A=1=2\nB=2\nACTIONS_RUNNER_HOOK_JOB_STARTED={hook}\n"
    assert (inside.guard / NAME / "image-hook").read_text() == "/image/hook.sh\n"


def test_an_image_without_perl(inside: Guest) -> None:
    """An image that lacks what macOS brings is refused for that reason, before anything is installed."""
    command = guest.setup_command(NAME, a_pool(), utcnow())
    said = inside.run(command, guest.setup_input(a_pool()), PATH="/nowhere")
    with pytest.raises(VMError, match="no perl") as refused:
        guest.runner_version(said, a_pool())
    assert refused.value.reason == "image_unfit"
    assert not inside.guard.exists()


def test_the_runner_version_is_told(inside: Guest) -> None:
    """The image's record tells the runner's version; without one the listener is asked; else it is unknown."""
    assert inside.set_up() is None
    (inside.runner / "bin").mkdir()
    inside.write(inside.runner / "bin/Runner.Listener", "#!/bin/sh\necho 2.335.0\n")
    assert inside.set_up() == "2.335.0"
    (inside.guard / "image.json").write_text('{"runner_version": "2.336.0"}')
    assert inside.set_up() == "2.336.0"


def test_the_clock_is_set_only_when_it_is_wrong(inside: Guest) -> None:
    """A clock within two seconds is left alone; another is set to the host's time."""
    inside.set_up()
    assert not (inside.home / "clock").exists()
    inside.set_up(hours=3)
    assert len((inside.home / "clock").read_text().strip()) == len("022403152026.00")


@pytest.mark.parametrize(
    ("broken", "sentence", "reason"),
    [
        pytest.param(
            "actions-runner/run.sh",
            "no actions runner in .*: set runner_dir",
            "runner_missing",
            id="no runner",
        ),
        pytest.param("sudo", "no password-less sudo", "image_unfit", id="no sudo"),
    ],
)
def test_an_unfit_image_is_refused(inside: Guest, broken: str, sentence: str, reason: str) -> None:
    """An image that lacks what is needed is refused with the reason."""
    if broken == "sudo":
        inside.write(inside.shims / "sudo", "#!/bin/sh\nexit 1\n")
    else:
        (inside.home / broken).unlink()
    with pytest.raises(VMError, match=sentence) as refused:
        inside.set_up()
    assert refused.value.reason == reason


def own(head: int | None) -> object:
    return {"repository": {"id": 5}, "pull_request": {"head": {"repo": {"id": head} if head else None}}}


@pytest.mark.parametrize(
    ("forks", "repository", "event", "payload", "code"),
    [
        pytest.param(Forks.ALLOW, "acme/app", "push", None, 0, id="allowed"),
        pytest.param(Forks.ALLOW, "ACME/App", "push", None, 0, id="case does not matter"),
        pytest.param(Forks.ALLOW, "evil/app", "push", None, 1, id="another owner"),
        pytest.param(Forks.ALLOW, "evil/acme/app", "push", None, 1, id="anchored"),
        pytest.param(Forks.ALLOW, "", "push", None, 1, id="unnamed"),
        pytest.param(Forks.ALLOW, "acme/app", "pull_request", own(6), 0, id="a fork, allowed"),
        pytest.param(Forks.DENY, "acme/app", "push", None, 0, id="no pull request"),
        pytest.param(Forks.DENY, "acme/app", "pull_request", own(5), 0, id="its own pull request"),
        pytest.param(Forks.DENY, "acme/app", "pull_request", own(6), 1, id="a fork"),
        pytest.param(Forks.DENY, "acme/app", "pull_request_target", own(6), 1, id="a fork, with secrets"),
        pytest.param(Forks.DENY, "acme/app", "pull_request", own(None), 1, id="a fork that is gone"),
        pytest.param(Forks.DENY, "acme/app", "pull_request", None, 1, id="an event that cannot be read"),
        pytest.param(Forks.DENY, "acme/app", "", None, 1, id="no event"),
    ],
)
def test_guard(inside: Guest, forks: Forks, repository: str, event: str, payload: object, code: int) -> None:
    """The job that really arrived is checked; whatever cannot be read is refused."""
    inside.set_up(a_pool(forks=forks))
    assert inside.job(repository, event=event, payload=payload) == code


def test_a_refusal_ends_the_worker(inside: Guest) -> None:
    """On refusal a parent that is Runner.Worker is killed, so that no step runs."""
    inside.set_up()
    assert inside.job("evil/app", parent="Runner.Worker") == -9


def test_the_images_own_hook_runs_after_ours(inside: Guest) -> None:
    """A hook that the image names runs once the job was accepted, and its failure counts."""
    hook = inside.home / "hook.sh"
    inside.write(hook, 'touch "$HOME/hooked"\nexit 3\n')
    (inside.runner / ".env").write_text(f"ACTIONS_RUNNER_HOOK_JOB_STARTED={hook}\n")
    inside.set_up()
    assert inside.job("evil/app") == 1
    assert not (inside.home / "hooked").exists()
    assert inside.job("acme/app") == 3
    assert (inside.home / "hooked").exists()


def test_a_runners_life(inside: Guest) -> None:
    """From the delivery to the power-off, as the probe sees it; a second delivery is refused."""
    inside.set_up()
    assert inside.look() == (False, False, False, None)
    inside.deliver()
    wait_for(inside.home / "umask")
    assert inside.look() == (True, True, False, None)
    with pytest.raises(VMError, match="before"):
        inside.deliver()
    (inside.home / "finish").touch()
    wait_for(inside.home / "off")
    assert inside.look() == (True, False, False, 7)
    assert (inside.home / "umask").read_text().strip() == "0022"
    assert "cidermill: run.sh ended with 7" in (inside.home / ".cidermill/runner.log").read_text()


def test_a_held_guest_stays_up(inside: Guest) -> None:
    """A guest that is held does not power off after its runner, until that is taken back; the file is root's."""
    inside.set_up()
    guest.check_held(inside.run(guest.hold_command(NAME, 3600)))
    inside.deliver()
    (inside.home / "finish").touch()
    wait_for(inside.home / ".cidermill/exit")
    pid = int((inside.home / ".cidermill/pid").read_text())
    until(lambda: any(child.name() == "sleep" for child in psutil.Process(pid).children()))
    assert inside.look() == (True, False, False, 7)
    until_file = inside.guard / NAME / "hold-until"
    assert int(until_file.read_text()) > 3500 + utcnow().timestamp()
    guest.check_held(inside.run(guest.hold_command(NAME, 0)))
    wait_for(inside.home / "off")
    assert not until_file.exists()


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        *(
            pytest.param(text, marks=pytest.mark.long)
            for text in ("", "99999999999999999999", "$(touch x)", "1000000000", "9000000000")
        ),
    ],
)
def test_a_hold_that_makes_no_sense_holds_nothing(inside: Guest, text: str) -> None:
    """What is over, too far off or no number keeps no guest up."""
    inside.set_up()
    (inside.guard / NAME / "hold-until").write_text(f"{text}\n")
    inside.deliver()
    (inside.home / "finish").touch()
    wait_for(inside.home / "off")


def test_the_jit_config_is_nowhere_else(inside: Guest) -> None:
    """It is in the runner's environment alone: in no argument, no file, and not in the supervisor's environment."""
    inside.set_up()
    inside.deliver()
    environment = wait_for(inside.home / "environment")
    assert f"ACTIONS_RUNNER_INPUT_JITCONFIG={JIT.encoded}" in environment
    assert "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1" in environment
    (inside.home / "environment").unlink()
    pid = int((inside.home / ".cidermill/pid").read_text())
    supervisor = psutil.Process(pid)
    assert os.getsid(pid) == pid
    assert JIT.encoded not in str(supervisor.environ())
    for process in [supervisor, *supervisor.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a command of the supervisor that has just ended
            assert JIT.encoded not in " ".join(process.cmdline())
    for file in inside.home.rglob("*"):
        assert not file.is_file() or JIT.encoded.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "said", ["", "cidermill-guest delivered=2", "cidermill-guest delivered=1 alive=1 worker=1 code=x"]
)
def test_garbage_is_no_answer(said: str) -> None:
    """What cannot be read is unknown, not idle."""
    with pytest.raises(VMError):
        guest.guest_look(said, NOW)


def test_a_pattern_cannot_become_more_than_a_pattern() -> None:
    """Text that a shell would take for more is refused before it gets near one."""
    with pytest.raises(ValueError, match="pattern"):
        guest.setup_input(a_pool(repositories=("acme/$(reboot)",)))
