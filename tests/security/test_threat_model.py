"""SECURITY.md names its proofs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.partition("## Threat model")[2].splitlines() if line.startswith("| ")]


def test_every_threat_is_met_or_accepted() -> None:
    """Each row names a test, or says that it is accepted and why."""
    rows = [row for row in ROWS if "what meets it" not in row and not row.startswith("| ---")]
    assert len(rows) > 20
    assert [
        row for row in rows if "::test_" not in row and "| accepted: " not in row and "accepted, " not in row
    ] == []
