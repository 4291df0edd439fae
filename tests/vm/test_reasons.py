"""docs/troubleshooting.md has a line for every reason that this side of the service can give, and for no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.vm.tart
from app.vm import runlog
from app.vm.orchard import endings

FOLDER = Path(app.vm.tart.__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "troubleshooting.md"
SHARED = {"An Orchard fleet": {"guest_powered_off", "pull_failed", "vm_limit", "vm_vanished", "boot_timeout"}}
PASSED_ON = {"cause.code", "error.reason", "late.code"}  # a code that was named where the Cause was made


SIDES = [
    pytest.param(
        FOLDER, "The Mac, tart and the guest", {cause.code for _, cause in runlog.CAUSES}, id="tart"
    ),
    pytest.param(
        FOLDER / "orchard", "An Orchard fleet", {cause.code for _, cause in endings.CAUSES}, id="Orchard"
    ),
]


def reasons(folder: Path) -> Iterator[ast.expr]:
    """Yield what is given as a reason, to an error or in the making of a Cause."""
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id == "Cause":
                    yield node.args[0]
                yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")


def named(folder: Path) -> set[str]:
    return {node.value for node in reasons(folder) if isinstance(node, ast.Constant)}


def listed(title: str) -> set[str]:
    text = PAGE.read_text(encoding="utf-8").partition(f"## {title}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(("folder", "title", "endings"), SIDES)
def test_no_reason_is_put_together(folder: Path, title: str, endings: set[str]) -> None:
    """Each reason is a word in the code, or handed on from a Cause: there is no other that the test below misses."""
    del title, endings
    others = {ast.unparse(node) for node in reasons(folder) if not isinstance(node, ast.Constant)}
    assert {other for other in others - PASSED_ON if not re.fullmatch(r"[A-Z_]+\.code", other)} == set()


@pytest.mark.parametrize(("folder", "title", "endings"), SIDES)
def test_every_reason_is_explained(folder: Path, title: str, endings: set[str]) -> None:
    """Every reason that a VM can fail or end for has a line, and no line is about one that does not exist."""
    shared = named(FOLDER) - named(folder)
    assert endings <= named(folder) | shared
    assert listed(title) - shared == named(folder) - SHARED.get(title, set())
