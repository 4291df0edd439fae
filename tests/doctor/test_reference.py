"""docs/doctor.md is written from the checks: ``python -m tests.doctor.test_reference`` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from app.doctor.report import AREAS
from tests.doctor import test_boot, test_fleet, test_github, test_host, test_mac, test_server
from tests.doctor.seen import CHECKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
BEGIN, END = "<!-- written from the code: begin -->", "<!-- written from the code: end -->"


def reference() -> str:
    """Return every check, with why, and every trouble with its mend."""
    return "\n\n".join(_area(area, title) for area, title in AREAS.items())


def _area(area: str, title: str) -> str:
    parts = [f"## {title}"]
    for check in CHECKS:
        if check.area != area:
            continue
        rows = [
            f"| {trouble.level} | {_shown(trouble.what)} | {_shown(trouble.mend)} |"
            for trouble in check.troubles.values()
        ]
        table = "\n".join(["| level | what | mend |", "| --- | --- | --- |", *rows])
        parts.append(f"### {check.name}\n\nLooks at {check.looks_at}. {check.why}\n\n{table}")
    return "\n\n".join(parts)


def _shown(text: str) -> str:
    """Return a template with its blanks in capitals, as a cell."""
    return re.sub(r"\{(\w+)\}", lambda blank: blank[1].upper(), text).replace("|", "\\|")


def written(page: str) -> str:
    """Return *page* with the reference in its place."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{reference()}\n\n{END}{tail}"


def test_the_page_is_what_the_code_says() -> None:
    """docs/doctor.md lists every check with why it matters, and every trouble with its mend."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page)


def test_every_trouble_is_provoked() -> None:
    """The tables of this folder find each trouble of each check in a world where it is so, and see its mend."""
    tables = (
        test_boot.TABLE,
        test_fleet.TABLE,
        test_github.TABLE,
        test_host.TABLE,
        test_mac.TABLE,
        test_server.TABLE,
    )
    provoked = {(row.values[0], row.values[1]) for table in tables for row in table}
    every = {(check.name, code) for check in CHECKS for code in check.troubles}
    assert every - provoked == set()


def test_a_check_has_one_name() -> None:
    """No two checks bear the same name: a finding is known by it."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
