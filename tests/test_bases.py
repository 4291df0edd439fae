"""Bases that are prepared while jobs come and our processes die, on virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.runners import Purpose, Runner
from app.ports import VMError
from app.sandbox import github_faults as faults
from tests.builders import a_pool
from tests.simulation.layers import Call, Fuse
from tests.simulation.site import VIRTUAL_TIME, Site
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME
LONG = 4000.0  # virtual seconds
TAKES = 120.0  # to prepare a base
MORE = pytest.mark.long  # a variant of a row beside it


def preparations(site: Site, *, live: bool = False) -> list[Runner]:
    return [runner for runner in site.runners(gone=not live) if runner.purpose is Purpose.BASE]


def old_site(place: Path, **options: Any) -> Site:
    site = a_site(place, **options)
    site.host.prepare_seconds = TAKES
    return site


async def outdated(site: Site, *, days: float = 5) -> None:
    """Have it known what the image holds, and GitHub expect a newer runner since so many days; nothing runs then."""
    site.start()
    queue(site)
    await site.until(site.is_drained, within=LONG)
    await site.kill()
    expected = site.model.runners.expected
    expected.version, expected.published_at = "2.337.0", site.clock() - timedelta(days=days)


async def test_an_image_without_a_runner(tmp_path: Path) -> None:
    """The job waits while the base is prepared, runs on it, and the next one waits for nothing."""
    async with a_site(tmp_path) as site:
        site.host.bare.add("sequoia")
        site.host.prepare_seconds = TAKES
        site.start()
        job = queue(site)
        await site.until(site.is_drained, within=LONG)
        assert job.conclusion == "success"
        assert [runner.reason for runner in preparations(site)] == ["prepared"]
        boots = site.host.calls["start"]
        await site.until(lambda: site.reconciler.world and not site.reconciler.world.cooldowns)
        later = queue(site)
        await site.until(site.is_drained)
        assert (later.conclusion, site.host.calls["start"]) == ("success", boots + 1)
        assert len(preparations(site)) == 1
        site.check()


async def test_an_old_runner_is_replaced_in_an_idle_slot(tmp_path: Path) -> None:
    """Jobs that come meanwhile run beside it, from what there was."""
    async with old_site(tmp_path) as site:
        await outdated(site)
        site.start()
        await site.until(lambda: preparations(site, live=True))
        job = queue(site, seconds=10)
        await site.until(lambda: job.conclusion, within=TAKES)
        assert preparations(site, live=True)
        await site.until(site.is_drained, within=LONG)
        assert site.host.made["sequoia"][1].runner_version == "2.337.0"
        await site.pass_time(300)
        assert len(preparations(site)) == 1
        site.check()


async def test_it_yields_and_is_begun_anew(tmp_path: Path) -> None:
    """With one slot a job that comes has it at once."""
    async with old_site(tmp_path, slots=1) as site:
        await outdated(site)
        site.start()
        await site.until(lambda: preparations(site, live=True))
        job = queue(site)
        await site.until(lambda: job.conclusion, within=TAKES)
        await site.until(lambda: site.host.made, within=LONG)
        await site.until(site.is_drained)
        assert [runner.reason for runner in preparations(site)] == ["yielded", "prepared"]
        site.check()


async def test_near_the_cut_off_it_goes_ahead(tmp_path: Path) -> None:
    """On a Mac that is never idle the next free slot is taken, and kept."""
    async with old_site(tmp_path, slots=1) as site:
        await outdated(site, days=22)
        site.start()
        jobs = [queue(site, seconds=40) for _ in range(3)]
        await site.until(lambda: site.host.made, within=LONG)
        assert "queued" in {job.status for job in jobs}
        await site.until(site.is_drained, within=LONG)
        assert [runner.reason for runner in preparations(site)] == ["prepared"]
        site.check()


@dataclass(slots=True)
class AtFirst(Fuse):
    """Ends a process at its first call of a verb."""

    verb: str = ""

    def layer(self, verb: str, call: Call) -> Call:
        burning = Fuse.layer(self, verb, call)

        async def passed(*args: Any, **kwargs: Any) -> Any:
            if verb == self.verb and self.at is None:
                self.at = len(self.trail) + 1
            return await burning(*args, **kwargs)

        return passed


@pytest.mark.parametrize(
    ("verb", "after"),
    [
        pytest.param("claim", False, id="before the claim", marks=MORE),
        pytest.param("claim", True, id="after the claim"),
        pytest.param("runner_package", True, id="after the download", marks=MORE),
        pytest.param("advance", True, id="after the first state", marks=MORE),
        pytest.param("make_base", False, id="before it is made", marks=MORE),
        pytest.param("make_base", True, id="after it is made"),
        pytest.param("delete", False, id="before its VM is removed", marks=MORE),
    ],
)
async def test_whenever_we_die(tmp_path: Path, verb: str, *, after: bool) -> None:
    """Whatever step of it a process dies at, the next one goes on: one base in the end, and nothing else."""
    async with old_site(tmp_path) as site:
        await outdated(site)
        process = site.start(AtFirst(verb=verb, after=after))
        await site.until(process.ended.is_set, within=LONG)
        await site.kill()
        site.start()
        await site.until(lambda: site.host.made, within=LONG)
        await site.until(site.is_drained, within=LONG)
        assert preparations(site)[-1].reason in {"prepared", "interrupted"}
        site.check()


async def test_what_fails_is_tried_again(tmp_path: Path) -> None:
    """Launches go on from the image as it is, however often it fails; the waits grow."""
    async with old_site(tmp_path) as site:
        await outdated(site)
        site.host.faults.make_base.extend(VMError("it fails", reason="shutdown_timeout") for _ in range(5))
        site.model.faults.add("runner_package", faults.answer(502), times=2)
        site.start()
        await site.until(lambda: len(preparations(site)) >= 4, within=LONG)
        job = queue(site)
        await site.until(lambda: job.conclusion, within=LONG)
        await site.until(lambda: site.host.made, within=LONG)
        assert 5 <= site.host.calls["make_base"] <= 7
        await site.until(site.is_drained, within=LONG)
        site.check()


async def test_an_image_that_is_built_anew(tmp_path: Path) -> None:
    """Its base is prepared from what it is by then."""
    async with old_site(tmp_path) as site:
        await outdated(site)
        site.start()
        await site.until(lambda: site.host.made, within=LONG)
        before = site.host.made["sequoia"][0]
        site.host.built["sequoia"] = 1
        await site.until(lambda: site.host.made["sequoia"][0] != before, within=LONG)
        await site.until(site.is_drained)
        site.check()


async def test_one_that_an_operator_stops_stays_away(tmp_path: Path) -> None:
    """It is not begun anew at once, unless it is asked for; where it may not be prepared it never is."""
    from app.domain.runners import StopRequest

    async with old_site(tmp_path) as site:
        await outdated(site)
        process = site.start()
        await site.until(lambda: preparations(site, live=True))
        await site.operate(process.store.request_stop(preparations(site, live=True)[0].name, StopRequest.ASK))
        await site.until(site.is_drained)
        await site.pass_time(600)
        assert [runner.reason for runner in preparations(site)] == ["stopped_by_operator"]
        site.reconciler.tend_images(prepare={"sequoia"})
        await site.until(lambda: site.host.made, within=LONG)
        await site.until(site.is_drained)
        await site.configure(a_pool(prepare=False))
        site.model.runners.expected.version = "2.338.0"
        await site.kill()
        site.start()
        await site.pass_time(300)
        assert len(preparations(site)) == 2
        site.check()
