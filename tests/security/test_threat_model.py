"""SECURITY.md names its proofs, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TEXT)
ROWS = [line for line in TEXT.partition("## Threat model")[2].splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_proof_exists(file: str, test: str) -> None:
    """Every test that the threat model names is there."""
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_threat_is_met_or_accepted() -> None:
    """Each row names a test, or says that it is accepted and why."""
    rows = [row for row in ROWS if "what meets it" not in row and not row.startswith("| ---")]
    assert len(rows) > 20
    assert [
        row for row in rows if "::test_" not in row and "| accepted: " not in row and "accepted, " not in row
    ] == []
