"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.durations import parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param(90, 90, id="a number of seconds"),
        pytest.param(0.5, 0.5, id="a fraction of a second"),
        pytest.param("90", 90, id="a number as text, as the environment has it"),
        pytest.param("90s", 90, id="seconds"),
        pytest.param("15m", 900, id="minutes"),
        pytest.param("6h", 21600, id="hours"),
        pytest.param("1d", 86400, id="days"),
        pytest.param("1.5h", 5400, id="a fraction with a unit"),
        pytest.param(" 5 m ", 300, id="blanks around and inside"),
        pytest.param(timedelta(minutes=2), 120, id="a duration already"),
    ],
)
def test_what_is_understood(written: object, seconds: float) -> None:
    """Numbers are seconds, and a unit may follow."""
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("soon", id="a word"),
        pytest.param("", id="nothing"),
        pytest.param("5 minutes", id="a unit in words"),
        pytest.param("-5m", id="a minus sign"),
        pytest.param("1h30m", id="two units"),
        pytest.param("٣m", id="digits of another script"),
        pytest.param(True, id="a switch"),
        pytest.param(None, id="null"),
        pytest.param([5], id="a list"),
    ],
)
def test_what_is_not(written: object) -> None:
    """Anything else is refused with the forms that are understood."""
    with pytest.raises(ValueError, match=r'write seconds, or a number with a unit: "90s"'):
        parse_duration(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), 10**400, "9" * 400, "99999999999d"])
def test_what_no_clock_can_hold(written: object) -> None:
    """A number that is no length of time is refused as such, and never an OverflowError."""
    with pytest.raises(ValueError, match="no length of time"):
        parse_duration(written)


@settings(max_examples=50)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans()))
def test_nothing_else_is_raised(written: object) -> None:
    """Whatever is written, the answer is a duration or a ValueError."""
    try:
        parse_duration(written)
    except ValueError:
        return
