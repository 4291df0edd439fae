"""What a check is, and what it finds: data, so that the answer, the API and docs/doctor.md never differ.

A check knows every trouble it can find, with the mend, before it looks; a finding is one of them filled in. Nothing
of a finding is ever a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, and should be thought about
    FAILURE = "failure"  # jobs will not run, or not safely
    SKIPPED = "skipped"  # it could not be looked at here


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: why it matters, and the exact mend where there is something to mend."""

    area: str
    check: str
    level: Level
    what: str
    why: str
    mend: str = ""
    code: str = ""  # which of the check's troubles it is


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that a check may find; ``{names}`` in its texts are filled in."""

    level: Level
    what: str
    mend: str


def failure(what: str, mend: str) -> Trouble:
    """Return a trouble because of which jobs will not run, or not safely."""
    return Trouble(Level.FAILURE, what, mend)


def warning(what: str, mend: str) -> Trouble:
    """Return a trouble to think about."""
    return Trouble(Level.WARNING, what, mend)


UNKNOWN = warning("it cannot be told: {because}", "run `{by_hand}` by hand, and see what it says")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at, and all that may be wrong with it."""

    area: str  # mac | host | fleet | github | server | boot
    name: str
    looks_at: str
    why: str
    troubles: Mapping[str, Trouble]

    def fine(self, what: str) -> Finding:
        """Say that nothing is wrong."""
        return Finding(area=self.area, check=self.name, level=Level.OK, what=what, why=self.why)

    def skipped(self, because: str) -> Finding:
        """Say why it was not looked at."""
        return Finding(area=self.area, check=self.name, level=Level.SKIPPED, what=because, why=self.why)

    def wrong(self, code: str, **values: object) -> Finding:
        """Say which trouble was found."""
        return self._found(code, self.troubles[code], values)

    def unknown(self, *, because: str, by_hand: str) -> Finding:
        """Say that it cannot be told, which is not the same as wrong."""
        return self._found("unknown", UNKNOWN, {"because": because, "by_hand": by_hand})

    def _found(self, code: str, trouble: Trouble, values: Mapping[str, object]) -> Finding:
        return Finding(
            area=self.area,
            check=self.name,
            level=trouble.level,
            what=trouble.what.format(**values),
            why=self.why,
            mend=trouble.mend.format(**values),
            code=code,
        )
