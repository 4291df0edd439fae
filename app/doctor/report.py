"""The findings as text for people: what is wrong stands out, with why it matters and the mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from app.doctor.finding import Finding, Level

AREAS = {
    "server": "CiderMill",
    "mac": "This Mac",
    "host": "VMs on this machine",
    "fleet": "VMs on an Orchard fleet",
    "github": "GitHub",
    "boot": "A VM, booted for this",
}
MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.FAILURE: "✗", Level.SKIPPED: "–"}


def lines(findings: Sequence[Finding]) -> Iterator[tuple[Level | None, str]]:
    """Yield the lines, each with the level it is about; None: a heading."""
    for area, title in AREAS.items():
        here = [finding for finding in findings if finding.area == area]
        if here:
            yield None, title
        for finding in here:
            if finding.level is not Level.SKIPPED:
                yield from _of(finding)
        for because, names in _skipped(here).items():
            yield Level.SKIPPED, f"  {MARKS[Level.SKIPPED]} {', '.join(names)}: {because}"
    yield None, summary(findings)


def _of(finding: Finding) -> Iterator[tuple[Level, str]]:
    yield finding.level, f"  {MARKS[finding.level]} {finding.check}: {finding.what}"
    if finding.mend:
        yield finding.level, f"      why:  {finding.why}"
        yield finding.level, f"      mend: {finding.mend}"


def _skipped(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Return the checks that were not looked at, by why."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        if finding.level is Level.SKIPPED:
            found.setdefault(finding.what, []).append(finding.check)
    return found


def summary(findings: Sequence[Finding]) -> str:
    """Return the count of each kind, in one sentence."""
    count = Counter(finding.level for finding in findings)
    failures, warnings = count[Level.FAILURE], count[Level.WARNING]
    skipped = f", {count[Level.SKIPPED]} not looked at" if count[Level.SKIPPED] else ""
    return (
        f"{failures} failure{'s' * (failures != 1)}, {warnings} warning{'s' * (warnings != 1)}, "
        f"{count[Level.OK]} fine{skipped}."
    )
