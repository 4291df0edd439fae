"""What a driver of tart must never do, noted in ``TART_HOME/violations.log``, one line each.

A test aid and no behaviour of tart: the command goes on as the real one would, and whoever runs the tests asks
that the file is empty. ``commands.log`` holds one line per command: time, process, verb, name. No line repeats
what an argument or a variable held, which may be a secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.clock import utcnow

SECRET = re.compile(
    r"gh[a-z]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}|PRIVATE KEY"
    r"|eyJ[A-Za-z0-9+/=_.-]{97,}|[A-Za-z0-9+/=_-]{200,}"
)
WITH_VALUE = frozenset(
    {"--timeout", "--source", "--format", "--wait", "--resolver"}
)  # may stand before a name
SECRET_NAME = re.compile(r"CIDERMILL_\w*(TOKEN|SECRET|KEY)\w*|TRACEPARENT")


def count(home: Path, verb: str, names: Sequence[str]) -> None:
    """Note that a command was given; of a clone the new name counts."""
    pairs = zip(["", *names], names, strict=False)
    plain = [name for before, name in pairs if not name.startswith("-") and before not in WITH_VALUE]
    at = {"clone": slice(1, 2), "run": slice(-1, None)}.get(verb, slice(1))
    _append(home / "commands.log", f"{verb} {next(iter(plain[at]), '-')[:80]}")


def report(home: Path, kind: str, detail: str) -> None:
    """Note a violation."""
    _append(home / "violations.log", f"{kind}: {detail}")


def inspect(home: Path, verb: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Note what is wrong with how the command was started."""
    if any(SECRET.search(argument) for argument in arguments):
        report(home, "secret-in-argv", f"tart {verb} was given what looks like a secret")
    for name in environ:
        if SECRET_NAME.fullmatch(name):
            report(home, "environment", f"tart {verb} was given the variable {name}")
    if "TART_NO_AUTO_PRUNE" not in environ and not verb.startswith("-"):
        report(home, "auto-prune", f"tart {verb} runs without TART_NO_AUTO_PRUNE")
    if verb == "run":
        _inspect_run(home, arguments)


def _inspect_run(home: Path, arguments: Sequence[str]) -> None:
    name = arguments[-1] if arguments else "-"
    for descriptor, stream in ((1, "stdout"), (2, "stderr")):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            report(
                home,
                "run-through-pipe",
                f"{stream} of tart run {name} is a pipe: its reader's death ends the VM",
            )
    if os.getsid(0) != os.getpid():
        report(home, "run-in-session", f"tart run {name} has no session of its own")


def _append(file: Path, text: str) -> None:
    line = f"{utcnow().timestamp():.3f} {os.getpid()} {' '.join(text.split())}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode(errors="replace"))
    finally:
        os.close(descriptor)
