"""Which troubles the tables of this folder provoke: all that there are, as test_reference.py checks."""

from __future__ import annotations

from app.doctor import boot, fleet_checks, github_checks, host_checks, mac_checks, server
from app.doctor.finding import Check, Finding, Level

CHECKS: tuple[Check, ...] = (
    *server.CHECKS,
    *(check for check, _ in mac_checks.CHECKS),
    *(check for check, _ in host_checks.CHECKS),
    *(check for check, _ in fleet_checks.CHECKS),
    *(check for check, _ in github_checks.CHECKS),
    boot.GUEST,
)


def expect(found: Finding, code: str) -> None:
    """Make sure that *found* is the trouble *code* (``ok``: none), that nothing is left to fill in, and that it mends."""
    assert (found.code or str(found.level)) == code, found
    assert "{" not in found.what + found.mend.replace("{self", "")
    assert found.why
    assert bool(found.mend) == (found.level in {Level.WARNING, Level.FAILURE})
