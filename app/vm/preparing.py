"""What is said to a guest that becomes a base, and what its answers mean; no I/O here.

As in :mod:`app.vm.guest` the scripts are files in ``scripts/``, and of an answer only a whole line that was agreed on
counts. Nothing secret is said: the operator's script may hold some, and it travels in the shared directory alone.
"""

from __future__ import annotations

import re

from app.domain.pools import Pool
from app.ports import Package, VMError
from app.vm.causes import GUEST_SILENT
from app.vm.guest import REFUSED, image_input

ARCHIVE, SCRIPT = "actions-runner.tar.gz", "prepare"  # names in the shared directory
NO_SCRIPT = "-"

INSTALLED = re.compile(r"^cidermill-installed$", re.MULTILINE)
RAN = re.compile(r"^cidermill-script code=(\d{1,3})$", re.ASCII | re.MULTILINE)
FINISHED = re.compile(r"^cidermill-finished$", re.MULTILINE)
# Its output is where that of a runner would be: it is followed and kept in the same way.
RUN_SCRIPT = (
    'cd "$HOME" || exit 1; PATH=$PATH:/sbin RUNNER_DIR=$1 "$HOME/.cidermill/prepare" </dev/null '
    '>>"$HOME/.cidermill/runner.log" 2>&1; echo "cidermill-script code=$?"'
)
REST = 'tail -c +"$1" "$HOME/.cidermill/runner.log" | head -c 500000'


def install_command(spec: Pool, package: Package) -> tuple[str, ...]:
    """Return the command that runs :func:`install_input`."""
    name = SCRIPT if spec.prepare_script else NO_SCRIPT
    return ("/bin/sh", "-s", "--", spec.runner_dir, ARCHIVE, package.sha256, name)


def install_input() -> bytes:
    """Return the script that puts the runner in its place."""
    return image_input("install-runner.sh")


def check_installed(output: str) -> None:
    """Raise VMError unless the guest has the runner."""
    _check(output, INSTALLED, "the actions runner was not installed")


def script_command(spec: Pool) -> tuple[str, ...]:
    """Return the command that runs the operator's script."""
    return ("/bin/sh", "-c", RUN_SCRIPT, "sh", spec.runner_dir)


def rest_command(heard: int) -> tuple[str, ...]:
    """Return the command that prints what the script said after the first *heard* bytes, as far as it is not endless."""
    return ("/bin/sh", "-c", REST, "sh", str(heard + 1))


def check_script(output: str, name: str) -> None:
    """Raise VMError unless the operator's script ran in guest *name*, and ended with 0."""
    ran = RAN.search(output)
    if ran is None:
        raise VMError(f"the prepare script broke off: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code)
    if ran[1] != "0":
        msg = f"the prepare script ended with {ran[1]}: `cidermill logs {name}` shows what it said"
        raise VMError(msg, reason="script_failed")


def finish_command(spec: Pool, package: Package) -> tuple[str, ...]:
    """Return the command that runs :func:`finish_input`."""
    return ("/bin/sh", "-s", "--", spec.runner_dir, package.version)


def finish_input() -> bytes:
    """Return the script that warms the runner up, tidies, and shuts the guest down."""
    return image_input("finish-base.sh")


def check_finished(output: str) -> None:
    """Raise VMError unless the guest is about to shut itself down, with all it shall have."""
    _check(output, FINISHED, "the guest was not finished")


def _check(output: str, wanted: re.Pattern[str], otherwise: str) -> None:
    refused = REFUSED.search(output)
    if refused:
        why = "".join(filter(str.isprintable, refused[1][:300]))
        raise VMError(f"no base can be made: {why}", reason="base_unfit")
    if wanted.search(output) is None:
        raise VMError(f"{otherwise}: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code)
