"""A step that takes much longer than it used to is told of, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.drift import FEWEST, KEPT, Launch, Launches
from app.domain.pools import Start
from tests.builders import NOW


def launches(
    *spans: tuple[float, float], pool: str = "mac", start: Start = Start.COLD, to: Launches | None = None
) -> Launches:
    """Return launches whose clone and boot took so many seconds."""
    found = to or Launches()
    for clone, boot in spans:
        cloned_at = NOW + timedelta(seconds=clone)
        found.note(pool, Launch.of(NOW, cloned_at, cloned_at + timedelta(seconds=boot), start))
    return found


USUAL = [(0.1, 14.0)] * FEWEST


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        pytest.param([], [], id="none yet"),
        pytest.param([*USUAL, *[(0.1, 14.0)] * 3], [], id="as ever"),
        pytest.param([*USUAL, *[(30.0, 14.0)] * 3], ["clone"], id="clones are copies now"),
        pytest.param([*USUAL, *[(0.1, 60.0)] * 3], ["boot"], id="boots are slow now"),
        pytest.param([*USUAL, *[(9.0, 60.0)] * 3], ["clone", "boot"], id="both"),
        pytest.param([*USUAL, *[(30.0, 14.0)] * 2], [], id="too few were slow"),
        pytest.param([*USUAL, (30.0, 14.0), (0.1, 14.0), (30.0, 14.0)], [], id="one of the latest was not"),
        pytest.param([*USUAL, *[(1.0, 14.0)] * 3], [], id="ten times, and yet no matter"),
        pytest.param([*USUAL, *[(0.1, 50.0)] * 3], [], id="longer, and not by much"),
        pytest.param([*USUAL[1:], *[(30.0, 14.0)] * 3], [], id="what is usual is not known yet"),
        pytest.param([*USUAL, *[(30.0, 14.0)] * KEPT], [], id="it is usual by now"),
    ],
)
def test_what_takes_longer(spans: list[tuple[float, float]], said: list[str]) -> None:
    """Each step for itself, and only where all of the latest launches were much slower."""
    found = list(launches(*spans).warnings())
    assert [warning.split()[1] for warning in found] == said
    assert all(
        "pool mac takes" in warning and warning.endswith("?") | warning.endswith(".") for warning in found
    )


def test_each_pool_for_itself() -> None:
    """A pool whose image boots slowly is not held against another."""
    found = launches(*USUAL, *USUAL)
    launches(*[(0.1, 90.0)] * 20, pool="heavy", to=found)
    assert list(found.warnings()) == []
    launches(*[(40.0, 90.0)] * 3, pool="heavy", to=found)
    (warning,) = found.warnings()
    assert warning.startswith(
        "The clone of pool heavy takes 40.0 s, 400 times its usual 0.1 s: are tart's VMs on"
    )


def test_boots_and_resumes_each_for_themselves() -> None:
    """That a VM which boots takes longer than one that is resumed is no trouble; that a resume takes longer is."""
    found = launches(*[(0.2, 3.0)] * 20, start=Start.SNAPSHOT)
    launches(*[(0.1, 20.0)] * 3, to=found)
    assert list(found.warnings()) == []
    launches(*[(0.2, 15.0)] * 3, start=Start.SNAPSHOT, to=found)
    (warning,) = found.warnings()
    assert warning.startswith("The resume of pool mac takes 15.0 s, 5 times its usual 3.0 s: see what else")
