"""docs/troubleshooting.md has a line for every reason that this side of the service can give, and for no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import app.vm.tart
from app.vm.runlog import CAUSES

FOLDER = Path(app.vm.tart.__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "troubleshooting.md"
PASSED_ON = {"cause.code", "error.reason", "late.code"}  # a code that was named where the Cause was made


def calls() -> Iterator[ast.Call]:
    for file in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def reasons() -> Iterator[ast.expr]:
    """Yield what is given as a reason, to an error or in the making of a Cause."""
    for call in calls():
        if isinstance(call.func, ast.Name) and call.func.id == "Cause":
            yield call.args[0]
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "reason")


def named() -> set[str]:
    return {node.value for node in reasons() if isinstance(node, ast.Constant)}


def listed() -> set[str]:
    text = (
        PAGE.read_text(encoding="utf-8").partition("## The Mac, tart and the guest")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def test_no_reason_is_put_together() -> None:
    """Each reason is a word in the code, or handed on from a Cause: there is no other that the test below misses."""
    others = {ast.unparse(node) for node in reasons() if not isinstance(node, ast.Constant)}
    assert {other for other in others - PASSED_ON if not re.fullmatch(r"[A-Z_]+\.code", other)} == set()


def test_every_reason_is_explained() -> None:
    """Every reason that a VM can fail or end for has a line, and no line is about one that does not exist."""
    assert {cause.code for _, cause in CAUSES} <= named()
    assert listed() == named()
