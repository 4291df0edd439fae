"""What runs inside the VM, as bytes for its standard input and lines of its standard output; no I/O here.

The scripts themselves are the files in ``scripts/``. Nothing secret is in any of them, nor in an argument: the JIT
config travels over standard input alone (docs/contracts/tart.md §5.6). What a guest answers is text of a machine
that runs strangers' code, so it is matched against a whole-line pattern and nothing else is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from app.domain.pools import Pool
from app.domain.world import GuestLook
from app.ports import JitConfig, VMError
from app.vm.causes import GUEST_SILENT

SCRIPTS = Path(__file__).parent / "scripts"
INSTALLED = ("job-started.sh", "deliver.sh", "supervise.sh", "probe.sh", "hold.sh")
END = "CIDERMILL_END_OF_FILE"
PATTERN = re.compile(r"[A-Za-z0-9._*?/-]+")  # of a repository: nothing that a shell would take for more
GUARD_DIR = '"${CIDERMILL_GUARD_DIR:-/opt/cidermill}/$1/'

SET_UP = re.compile(r"^cidermill-set-up version=(.*)$", re.MULTILINE)
VERSION = re.compile(r"\d+(\.\d+){1,3}", re.ASCII)
NO_RUNNER = re.compile(r"^cidermill-no-runner$", re.MULTILINE)
REFUSED = re.compile(r"^cidermill-refused (.+)$", re.MULTILINE)
DELIVERED = re.compile(r"^cidermill-delivered(-before)?$", re.MULTILINE)
HELD = re.compile(r"^cidermill-held$", re.MULTILINE)
LOOK = re.compile(
    r"^cidermill-guest delivered=([01]) alive=([01]) worker=([01]) code=(-|\d{1,3})$", re.ASCII | re.MULTILINE
)

TRUE = ("true",)
FOLLOW = ("/bin/sh", "-c", 'exec tail -n +1 -F "$HOME/.cidermill/runner.log"')


@cache
def script(name: str) -> str:
    """Return the text of a script."""
    return (SCRIPTS / name).read_text(encoding="ascii")


def attend_script() -> str:
    """Return what waits in a guest for the end of its runner, and ends as the runner did."""
    return script("attend.sh")


def setup_command(name: str, spec: Pool, now: datetime) -> tuple[str, ...]:
    """Return the command that runs :func:`setup_input`: who it is, where the runner lies, and what time it is."""
    stamp = now.astimezone(UTC).strftime("%m%d%H%M%Y.%S")
    return ("/bin/sh", "-s", "--", name, spec.runner_dir, str(int(now.timestamp())), stamp)


def image_input(name: str) -> bytes:
    """Return a script that is run in a guest of which clones are made, whole."""
    return _whole(script("image.sh"), script(name))


def setup_input(spec: Pool, *, attended: bool = False, seed: bytes = b"") -> bytes:
    """Return the script that prepares a guest, with the files it installs and the pool's rule for jobs.

    *attended*: :func:`attend_script` runs there, and sees to the guest's end. *seed*: random bytes for a guest that
    was resumed, which has slept.
    """
    files = {name: (script(name), "0755") for name in INSTALLED}
    files["repositories"] = (_patterns(spec.repositories), "0644")
    files["forks"] = (f"{spec.forks}\n", "0644")
    if attended:
        files["attended"] = ("", "0644")
    blocks = [f"install_file {name} {mode} <<'{END}'\n{text}{END}\n" for name, (text, mode) in files.items()]
    waking = [f"seed={seed.hex()}\n", script("wake.sh")] if seed else []
    return _whole(script("setup.sh"), *waking, *blocks, "finish\n")


def _whole(*parts: str) -> bytes:
    # In braces, so that the shell has read all of it before the first command could eat the rest.
    return "".join(["{\n", *parts, "}\n"]).encode("ascii")


def _patterns(repositories: Sequence[str]) -> str:
    for pattern in repositories:
        if PATTERN.fullmatch(pattern) is None:
            msg = f"{pattern!r} cannot be a pattern of repositories"
            raise ValueError(msg)
    return "".join(f"{pattern.lower()}\n" for pattern in repositories)


def runner_version(output: str, spec: Pool) -> str | None:
    """Return the runner's version that a set-up guest told; None: it did not know. Raises VMError."""
    if NO_RUNNER.search(output):
        msg = (
            f"the image holds no actions runner in {spec.runner_dir}: set runner_dir to where it is, or leave prepare on, "
            "which installs one; once the image holds one, `cidermill reconcile`"
        )
        raise VMError(msg, reason="runner_missing")
    refused = REFUSED.search(output)
    if refused:
        why = "".join(filter(str.isprintable, refused[1][:300]))
        raise VMError(f"the image cannot be used: {why}", reason="image_unfit")
    done = SET_UP.search(output)
    if done is None:
        raise VMError(f"the guest was not set up: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code)
    return done[1] if VERSION.fullmatch(done[1]) else None


def deliver_command(name: str) -> tuple[str, ...]:
    """Return the command that takes :func:`deliver_input`."""
    return ("/bin/sh", "-c", f'exec {GUARD_DIR}deliver.sh"', "sh", name)


def deliver_input(jit: JitConfig, about: Sequence[str]) -> bytes:
    """Return the JIT config, and the lines *about* the VM that the job's log will show."""
    return "\n".join([jit.encoded, *about, ""]).encode("ascii", errors="replace")


def check_delivered(output: str) -> None:
    """Raise VMError unless the guest confirmed that the runner starts."""
    answer = DELIVERED.search(output)
    if answer is None:
        msg = (
            "the guest did not confirm the delivery: it is asked whether it took the JIT config before anything is "
            "removed; if it comes again, look at the image's guest agent and its free disk"
        )
        raise VMError(msg, reason="delivery_unconfirmed")
    if answer[1]:
        msg = "the guest took a JIT config before: nothing to mend, it goes on with that one"
        raise VMError(msg, reason="delivered_before")


def probe_command(name: str) -> tuple[str, ...]:
    """Return the command that asks a guest about its runner."""
    return ("/bin/sh", "-c", f'exec {GUARD_DIR}probe.sh"', "sh", name)


def guest_look(output: str, at: datetime) -> GuestLook:
    """Return what a guest said. Raises VMError where it said nothing that can be read."""
    said = LOOK.search(output)
    if said is None:
        raise VMError(
            f"the guest told nothing of its runner: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code
        )
    return GuestLook(
        at=at,
        delivered=said[1] == "1",
        runner_alive=said[2] == "1",
        worker_alive=said[3] == "1",
        exit_code=None if said[4] == "-" else int(said[4]),
    )


def hold_command(name: str, seconds: int) -> tuple[str, ...]:
    """Return the command that has a guest stay up for so many seconds from now; 0: no longer than usual."""
    return ("/bin/sh", "-c", f'exec {GUARD_DIR}hold.sh" "$2"', "sh", name, str(seconds))


def check_held(output: str) -> None:
    """Raise VMError unless the guest confirmed how long it stays up."""
    if HELD.search(output) is None:
        raise VMError(f"the guest did not take the hold: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code)
