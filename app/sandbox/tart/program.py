"""``tart``: finds the sub-command, and turns how it ends into text and exit code (docs/contracts/tart.md §1.1).

Each sub-command lies in a module of its own and is imported when it is asked for, since the time to start is part
of every measurement that this stand-in serves.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from app.sandbox.tart import faults, leaks
from app.sandbox.tart.home import Home
from app.sandbox.tart.refusals import Ending, Misuse

COMMANDS = {
    "clone": ("cloning", "clone"),
    "delete": ("cloning", "delete"),
    "exec": ("execute", "execute"),
    "fqn": ("registry", "fqn"),
    "get": ("listing", "get"),
    "ip": ("address", "ip"),
    "list": ("listing", "list_vms"),
    "prune": ("tidying", "prune"),
    "pull": ("registry", "pull"),
    "rename": ("cloning", "rename"),
    "run": ("run", "run"),
    "set": ("setting", "set_vm"),
    "stop": ("power", "stop"),
    "suspend": ("power", "suspend"),
}
SUSPEND_SINCE = 14  # the macOS of the host
NO_COLLECTION = frozenset({"clone", "pull"})
HELP = "OVERVIEW: A stand-in for tart, for tests and demonstrations: its VMs are directories and processes.\n"


def main(arguments: list[str]) -> NoReturn:
    """Run one command, and exit."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape", line_buffering=True)
    try:
        _dispatch(arguments)
    except Ending as ending:
        _leave(ending.code, ending.shown())
    except KeyboardInterrupt:
        _leave(1, "Error: CancellationError()")
    except SystemExit as ending:
        _leave(ending.code if isinstance(ending.code, int) else 0)
    except OSError as error:
        _leave(1, f"Error: {error.strerror}: {error.filename or ''}")
    _leave(0)


def _leave(code: int, text: str = "") -> NoReturn:
    """Exit at once: the interpreter's own way out takes time, and has nothing left to do."""
    if text:
        print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _dispatch(arguments: list[str]) -> None:
    home = Home.of(os.environ)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    leaks.count(home.root, verb, rest)
    leaks.inspect(home.root, verb, rest, os.environ)
    if verb == "--version":
        print(home.settings.version)
    elif verb in {"--help", "-h", "help"} or "--help" in rest[:1]:
        print(f"{HELP}\nUSAGE: tart <subcommand>\n\nSUBCOMMANDS:")
        print("\n".join(f"  {name}" for name in COMMANDS))
    else:
        _command(home, verb)(home, rest)


def _command(home: Home, verb: str) -> Callable[[Home, list[str]], None]:
    found = COMMANDS.get(verb)
    if found is None or (verb == "suspend" and home.settings.macos < SUSPEND_SINCE):
        raise Misuse(f"Unknown option '{verb}'" if verb.startswith("-") else f"Unexpected argument '{verb}'")
    hang = faults.take(home.root, "hang", verb=verb)
    time.sleep(hang.seconds if hang else 0)
    if verb not in NO_COLLECTION:
        from app.sandbox.tart.tidying import collect_garbage

        collect_garbage(home)
    if verb != "run":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # cancels, and cleans up
    module, function = found
    command: Callable[[Home, list[str]], None] = getattr(
        import_module(f"app.sandbox.tart.{module}"), function
    )
    return command
