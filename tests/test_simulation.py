"""Seeded stories on virtual time: faults of every kind, then calm, and nothing lost, left, or killed.

``CIDERMILL_SEED`` repeats a story; the seed is printed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.ports import OutsideError, VMError
from tests.builders import NOW, a_host
from tests.simulation.layers import Call
from tests.simulation.site import VIRTUAL_TIME, Variant
from tests.simulation.story import STORM, Story
from tests.simulation.trouble import CALM, Rates

pytestmark = VIRTUAL_TIME
LONG = pytest.mark.long  # a longer story of the same kind, or many
FIXED = 3
BUSY_OPERATOR = replace(STORM, operator=60)  # who often ends a runner to which GitHub has just given a job
LATE = NOW + timedelta(days=1)


async def tell(place: Path, seed: int, **story: Any) -> list[str]:
    print(f"CIDERMILL_SEED={seed}")
    site = await Story(place, seed, **story).run()
    return site.witness.wrong


def a_seed() -> int:
    return int(os.environ.get("CIDERMILL_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.parametrize(("seed", "hours"), [(FIXED, 0.3), pytest.param(1, 0.75, marks=LONG)])
async def test_a_calm_day(tmp_path: Path, seed: int, hours: float) -> None:
    """Without faults every job that a pool serves is run by a runner of ours, and nothing is left."""
    assert await tell(tmp_path, seed, rates=CALM, hours=hours) == []


@pytest.mark.parametrize(
    ("seed", "hours"),
    [(FIXED, 0.15), pytest.param(1, 0.4, marks=LONG), pytest.param(None, 0.4, id="any", marks=LONG)],
)
async def test_a_storm(tmp_path: Path, seed: int | None, hours: float) -> None:
    """Through faults of every kind no rule is broken, and afterwards everything drains to nothing."""
    assert await tell(tmp_path, a_seed() if seed is None else seed, rates=STORM, hours=hours) == []


def test_a_story_is_its_seed() -> None:
    """Told by two processes, whose hashes differ, it is the same call by call."""
    program = (sys.executable, "-m", "tests.simulation", "--seeds", "7", "--hours", "0.02")
    told = []
    with ExitStack() as stack:
        for hashes in ("1", "2"):
            environment = os.environ | {"PYTHONHASHSEED": hashes}
            process = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)
            told.append(stack.enter_context(process))
        first, second = (process.communicate()[0].splitlines()[0] for process in told)
    assert first == second
    assert first.startswith("seed 7 is ")


@LONG
def test_a_run_that_is_bounded_in_time() -> None:
    """No story begins after the minutes that it was given."""
    program = (
        sys.executable,
        "-m",
        "tests.simulation",
        "--seeds",
        "1-400",
        "--hours",
        "0.01",
        "--minutes",
        "0.001",
    )
    said = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True, timeout=50).stdout
    assert int(said.split()[0]) < 50


# -- broken on purpose: the simulation must notice ---------------------------------------------------


def blind(verb: str, call: Call) -> Call:
    """Take a list of VMs that failed for an empty one."""

    async def passed(*args: Any, **kwargs: Any) -> Any:
        if verb != "look":
            return await call(*args, **kwargs)
        try:
            return await call(*args, **kwargs)
        except VMError:
            return a_host(at=LATE)

    return passed


def insistent(verb: str, call: Call) -> Call:
    """Hand a JIT config over twice."""

    async def passed(*args: Any, **kwargs: Any) -> Any:
        if verb == "deliver":
            with suppress(OutsideError):
                await call(*args, **kwargs)
        return await call(*args, **kwargs)

    return passed


def unasking(verb: str, call: Call) -> Call:
    """Take a runner for idle without asking GitHub, which alone knows."""

    async def passed(*args: Any, **kwargs: Any) -> Any:
        return True if verb == "deregister" else await call(*args, **kwargs)

    return passed


@pytest.mark.timeout(240)  # several stories, one after the other
@pytest.mark.parametrize(
    ("variant", "rates", "first"),  # the seed of a story that soon shows it
    [
        pytest.param(Variant(host=(blind,)), STORM, 3, id="a failed list of VMs is read as none"),
        pytest.param(Variant(host=(insistent,)), STORM, 3, id="a JIT config is delivered twice"),
        pytest.param(
            Variant(github=(unasking,)),
            BUSY_OPERATOR,
            1,
            id="a runner is destroyed and GitHub was not asked",
            marks=LONG,
        ),
    ],
)
async def test_it_has_teeth(tmp_path: Path, variant: Variant, rates: Rates, first: int) -> None:
    """A version that is broken on purpose is found out by one of a few stories."""
    for seed in range(first, first + 8):
        place = tmp_path / str(seed)
        place.mkdir()
        if await tell(place, seed, rates=rates, variant=variant):
            return
    pytest.fail("nobody noticed")
