"""The command line of a sub-command, parsed as swift-argument-parser does, with its error texts.

Only what tart's commands need: flags, options with a value (``--x V`` or ``--x=V``), positional arguments,
and for ``exec`` everything after the VM's name taken verbatim, ``--`` included (docs/contracts/tart.md §5.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.sandbox.tart.refusals import Misuse


class Spec(NamedTuple):
    """What a sub-command takes. A NamedTuple, since dataclasses cost a sixth of the time to start."""

    verb: str
    names: tuple[str, ...] = ()  # positional arguments, all required unless the last ends in "?"
    flags: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    short: tuple[tuple[str, str], ...] = ()  # short form → long form
    many: bool = False  # the last positional argument may come again
    verbatim: bool = False  # from the second positional argument on, nothing is parsed

    @property
    def usage(self) -> str:
        """Return the text under a parse error."""
        names = " ".join(f"<{name.rstrip('?')}>" for name in self.names)
        return f"Usage: tart {self.verb} {names}\n  See 'tart {self.verb} --help' for more information."


class Options(NamedTuple):
    """A parsed command line."""

    spec: Spec
    flags: frozenset[str]
    values: dict[str, list[str]]
    names: list[str]

    def text(self, option: str, default: str) -> str:
        """Return the last value given for an option."""
        return self.values.get(option, [default])[-1]

    def number(self, option: str) -> int | None:
        """Return an option's value as a whole number."""
        given = self.values.get(option)
        if not given:
            return None
        if not given[-1].isascii() or not given[-1].removeprefix("-").isdigit():
            msg = f"The value '{given[-1]}' is invalid for '{option} <{option.lstrip('-')}>'"
            raise Misuse(msg, self.spec.usage)
        return int(given[-1])

    def misuse(self, text: str) -> Misuse:
        """Return a validation error of this sub-command."""
        return Misuse(text, self.spec.usage)


def parse(spec: Spec, arguments: Sequence[str]) -> Options:
    """Parse the arguments after the sub-command. Raises Misuse."""
    flags: set[str] = set()
    values: dict[str, list[str]] = {}
    names: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if spec.verbatim and names:
            names += [word, *left]
            break
        if word == "--":
            names += left
            break
        if word.startswith("-") and word != "-":
            _option(spec, word, left, flags, values)
        else:
            names.append(word)
    _check_names(spec, names)
    return Options(spec, frozenset(flags), values, names)


def _option(spec: Spec, word: str, left: list[str], flags: set[str], values: dict[str, list[str]]) -> None:
    short = dict(spec.short)
    if not word.startswith("--") and all(f"-{letter}" in short for letter in word[1:]):
        for letter in word[1:]:
            _long(spec, short[f"-{letter}"], left, flags, values)
    else:
        _long(spec, word, left, flags, values)


def _long(spec: Spec, word: str, left: list[str], flags: set[str], values: dict[str, list[str]]) -> None:
    option, equals, value = word.partition("=")
    if word in spec.flags:
        flags.add(word)
    elif option in spec.values:
        if not equals:
            if not left:
                raise Misuse(f"Missing value for '{option} <{option.lstrip('-')}>'", spec.usage)
            value = left.pop(0)
        values.setdefault(option, []).append(value)
    else:
        raise Misuse(f"Unknown option '{option}'", spec.usage)


def _check_names(spec: Spec, names: list[str]) -> None:
    required = [name for name in spec.names if not name.endswith("?")]
    if len(names) < len(required):
        raise Misuse(f"Missing expected argument '<{required[len(names)]}>'", spec.usage)
    if len(names) > len(spec.names) and not (spec.many or spec.verbatim):
        raise Misuse(f"Unexpected argument '{names[len(spec.names)]}'", spec.usage)
