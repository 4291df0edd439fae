"""How a command of tart ends when it fails: the four shapes of docs/contracts/tart.md §1.1, one class each.

Which text goes with which shape and exit code is what drivers depend on, so the shapes are made here and nowhere else.
"""

from __future__ import annotations

ROOT_USAGE = "Usage: tart <subcommand>\n  See 'tart --help' for more information."


class Ending(Exception):
    """The command ends with ``code`` after printing the text on stderr."""

    code = 1

    def shown(self) -> str:
        """Return what is printed."""
        return str(self)


class Refusal(Ending):
    """Shape A: tart's own runtime errors, a bare line."""


class Absent(Refusal):
    """Shape A with exit code 2: the VM does not exist, does not run, or runs already."""

    code = 2


class Failure(Ending):
    """Shape B: any other error, which the top level prints after ``Error:``."""

    def shown(self) -> str:
        """Return what is printed."""
        return f"Error: {self}"


class Misuse(Ending):
    """Shape C: a validation error, with the usage of the sub-command below it."""

    code = 64

    def __init__(self, text: str, usage: str = ROOT_USAGE) -> None:
        super().__init__(text)
        self.usage = usage

    def shown(self) -> str:
        """Return what is printed."""
        return f"Error: {self}\n{self.usage}"


class Broken(Ending):
    """Shape D: a failure of the framework inside a ``tart run`` that holds its lock, in full and bare."""


def missing(name: str) -> Absent:
    """Say that there is no such VM."""
    return Absent(f'the specified VM "{name}" does not exist')


def not_running(name: str) -> Absent:
    """Say that the VM does not run."""
    return Absent(f'VM "{name}" is not running')
