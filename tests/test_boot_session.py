"""How far the wall clock was moved, and in which run of the machine that can be known."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.boot_session import ClockMark, boot_session
from tests.builders import NOW

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("before", "after", "jump"),
    [
        pytest.param(("a", NOW), ("a", NOW), timedelta(0), id="as before"),
        pytest.param(("a", NOW), ("a", NOW + HOUR), HOUR, id="slept, or set ahead"),
        pytest.param(("a", NOW), ("a", NOW - HOUR), -HOUR, id="set back"),
        pytest.param(("a", NOW), ("b", NOW + HOUR), timedelta(0), id="another run of the machine"),
    ],
)
def test_jump(before: tuple[str, object], after: tuple[str, object], jump: timedelta) -> None:
    """Marks of one run of the machine tell it, and no others do; as text they are the same."""
    earlier, later = (ClockMark.parse(str(ClockMark(*values))) for values in (before, after))  # type: ignore[arg-type]
    assert later.jump_since(earlier) == jump


def test_this_machine_names_its_run() -> None:
    """The same for every process, until the next start."""
    assert boot_session() == boot_session() != ""
