"""Which base is prepared and why, what waits for it, and what it waits for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.actions import Action, Claim, MakeBase, Mint, Stop
from app.domain.explain import explain
from app.domain.images import unneeded, unused
from app.domain.news import Told, news
from app.domain.plan import plan
from app.domain.pools import Names, Script
from app.domain.preparation import Need, need
from app.domain.runners import Purpose, Runner, RunnerState, StopRequest
from app.domain.versions import warnings
from app.domain.world import Base, Cooldown, Made, RunnerRelease, World
from tests.builders import NOW, TARGET, a_demand, a_host, a_job, a_pool, a_runner, a_vm, a_world, ago

IMAGE = "sequoia"
SCRIPT, OTHER = Script("/prepare.sh", "5" * 64), Script("/prepare.sh", "6" * 64)
OLD, NEW = "2.335.0", "2.336.0"


def a_base(**changes: Any) -> Base:
    """Return a prepared base that is as it would be made now."""
    made = {"at": ago(days=1), "runner_version": NEW, "runner_dir": "~/actions-runner", "script": None}
    made |= {name: changes.pop(name) for name in list(changes) if name in made}
    values: dict[str, Any] = {
        "name": Names("mini").prepared("a" * 12, "b" * 12),
        "image": IMAGE,
        "digest": "a" * 64,
        "age": 0,
        "asked_at": made["at"],
        "size_gb": 20.0,
        "made": Made(**made),  # type: ignore[arg-type]
    }
    return Base(**values | changes)


def released(days: float) -> RunnerRelease:
    return RunnerRelease(version=NEW, since=ago(days=days))


def failed(scope: str, reason: str, *, failures: int = 1, **until: float) -> Cooldown:
    when = NOW + timedelta(**until or {"minutes": 1})
    return Cooldown(
        scope=f"{scope}:{IMAGE}", reason=reason, detail="It went wrong", failures=failures, until=when
    )


def world_of(*bases: Base, **changes: Any) -> World:
    pool = a_pool(**changes.pop("pool", {}))
    vms = changes.pop("vms", ())
    values: dict[str, Any] = {
        "pools": (pool,),
        "host": a_host(*vms, bases=bases, digests={IMAGE: "a" * 64}),
        "known_targets": frozenset({TARGET}),
        "release": released(5),
        "released_at": NOW,
        "versions": {"mac": NEW},
    }
    return a_world(**values | changes)


MISSING, TURNED_AWAY = failed("image", "runner_missing"), failed("image", "runner_too_old")
BARE = {"cooldowns": (MISSING,), "versions": {}}
NO, LATER, URGENT, FIRST = None, (False, False), (False, True), (True, True)


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(world_of(), NO, id="a fresh runner, no script: nothing to do"),
        pytest.param(world_of(versions={}), NO, id="nobody has looked yet"),
        pytest.param(world_of(a_base()), NO, id="prepared as it would be now"),
        # -- no job can run on it
        pytest.param(world_of(**BARE), FIRST, id="it holds no runner"),
        pytest.param(
            world_of(versions={"mac": OLD}, release=released(0), cooldowns=(TURNED_AWAY,)),
            FIRST,
            id="GitHub turned its runner away",
        ),
        pytest.param(world_of(cooldowns=(TURNED_AWAY,)), NO, id="turned away, and there is none newer"),
        pytest.param(
            world_of(cooldowns=(TURNED_AWAY,), release=None), NO, id="turned away, and GitHub not asked yet"
        ),
        pytest.param(
            world_of(versions={}, cooldowns=(TURNED_AWAY,)), FIRST, id="turned away, and of unknown version"
        ),
        pytest.param(world_of(cooldowns=(MISSING,)), FIRST, id="it held one before it was built anew"),
        pytest.param(
            world_of(cooldowns=(failed("image", "runner_missing", hours=-9),)),
            FIRST,
            id="it holds none still, however long ago that was found",
        ),
        pytest.param(
            world_of(a_base(), cooldowns=(TURNED_AWAY,)), NO, id="the same again would be turned away too"
        ),
        pytest.param(
            world_of(a_base(), cooldowns=(MISSING,), release=None),
            NO,
            id="the same again would hold none too",
        ),
        pytest.param(
            world_of(a_base(runner_version=OLD), cooldowns=(TURNED_AWAY,), release=released(0)),
            FIRST,
            id="turned away, and there is a newer one, however new",
        ),
        pytest.param(
            world_of(a_base(runner_dir="/opt/runner"), cooldowns=(MISSING,)),
            FIRST,
            id="it is elsewhere by now",
        ),
        pytest.param(world_of(pool={"prepare_script": SCRIPT}), FIRST, id="its script was never run"),
        pytest.param(
            world_of(a_base(), pool={"prepare_script": SCRIPT}),
            FIRST,
            id="prepared before there was a script",
        ),
        # -- not as it would be made now
        pytest.param(
            world_of(a_base(script=OTHER.digest), pool={"prepare_script": SCRIPT}), LATER, id="another script"
        ),
        pytest.param(world_of(a_base(script=SCRIPT.digest)), LATER, id="no script any more"),
        pytest.param(world_of(a_base(digest="c" * 64)), LATER, id="the image moved on"),
        pytest.param(world_of(a_base(runner_dir="/opt/runner")), LATER, id="another runner_dir"),
        # -- the runner's age
        pytest.param(world_of(versions={"mac": OLD}), LATER, id="an older runner"),
        pytest.param(world_of(versions={"mac": OLD}, release=released(2)), NO, id="older, by two days"),
        pytest.param(
            world_of(versions={"mac": OLD}, release=released(22)), URGENT, id="older, by three weeks"
        ),
        pytest.param(world_of(a_base(runner_version=OLD)), LATER, id="a base with an older runner"),
        pytest.param(
            world_of(a_base(), versions={"mac": OLD}), NO, id="what the image holds does not matter any more"
        ),
        pytest.param(world_of(versions={"mac": OLD}, release=None), NO, id="GitHub was not asked"),
        # -- an operator
        pytest.param(world_of(to_prepare=frozenset({IMAGE})), URGENT, id="an operator asked for it"),
        pytest.param(world_of(**BARE, pool={"prepare": False}), NO, id="prepare = false"),
        pytest.param(
            world_of(**BARE, host=a_host(images=frozenset())), NO, id="the image is not on this host"
        ),
    ],
)
def test_why_a_base_is_prepared(world: World, expected: tuple[bool, bool] | None) -> None:
    """A base is prepared for a reason, which says whether launches wait for it, and whether it waits for them."""
    found = need(IMAGE, world, NOW)
    assert (found and (found.first, found.urgent)) == expected


def a_preparation(state: RunnerState = RunnerState.BOOTING, **changes: Any) -> Runner:
    values: dict[str, Any] = {"name": "mini-base-aaaaaaaa", "purpose": Purpose.BASE, "target": None}
    return a_runner(state, **values | changes)


def about_slots(world: World) -> list[tuple[str, object]]:
    """Return what is done with slots: (what, its purpose or its reason)."""
    return [told for action in plan(world, now=NOW) if (told := _told(action)) is not None]


def _told(action: Action) -> tuple[str, object] | None:
    match action:
        case Claim(purpose=purpose):
            return "claim", purpose
        case Stop(reason=reason):
            return "stop", reason
        case MakeBase() | Mint():
            return type(action).__name__, action.target
    return None


JOBS, BASE = ("claim", Purpose.JOBS), ("claim", Purpose.BASE)
OUTDATED: dict[str, Any] = {"versions": {"mac": OLD}}
LATE: dict[str, Any] = {"versions": {"mac": OLD}, "release": released(22)}
WAITING: dict[str, Any] = {"demand": (a_demand(),)}
FULL: dict[str, Any] = {"slots": 1, "vms": (a_vm("mini-base-aaaaaaaa"),), **WAITING}
IN_HAND = frozenset({"boot:mini-base-aaaaaaaa"})


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(world_of(**OUTDATED), [BASE], id="an idle slot is taken"),
        pytest.param(world_of(**OUTDATED, **WAITING), [JOBS], id="jobs go first"),
        pytest.param(world_of(**LATE, **WAITING), [BASE, JOBS], id="near the cut-off it goes ahead"),
        pytest.param(world_of(**LATE, **WAITING, slots=1), [BASE], id="with one slot too"),
        pytest.param(world_of(**BARE, **WAITING), [BASE], id="no job can run without it"),
        pytest.param(
            world_of(**BARE, demand=(a_demand(),), known_targets=frozenset()),
            [BASE],
            id="GitHub is asked where the job is from",
        ),
        pytest.param(world_of(**BARE, known_targets=frozenset()), [], id="nowhere to ask GitHub yet"),
        pytest.param(world_of(**OUTDATED, draining=True), [], id="not while draining"),
        pytest.param(
            world_of(**OUTDATED, min_free_disk_gb=200.0), [], id="not where the disk has no room for a VM"
        ),
        pytest.param(
            world_of(**OUTDATED, cooldowns=(failed("prepare", "script_failed"),)), [], id="not while it rests"
        ),
        pytest.param(
            world_of(to_prepare=frozenset({IMAGE}), cooldowns=(failed("prepare", "script_failed"),)),
            [BASE],
            id="at once where an operator asks",
        ),
        pytest.param(
            world_of(**OUTDATED, host_changed_at=NOW), [], id="what just ended is not in the look yet"
        ),
        pytest.param(
            world_of(**OUTDATED, runners=(a_preparation(slot="2"),), in_hand=IN_HAND), [], id="one at a time"
        ),
        # -- one that is under way
        pytest.param(
            world_of(**OUTDATED, runners=(a_preparation(RunnerState.CLAIMED),)),
            [("MakeBase", TARGET)],
            id="it begins",
        ),
        pytest.param(
            world_of(**OUTDATED, runners=(a_preparation(),)),
            [("stop", "interrupted")],
            id="we died meanwhile",
        ),
        pytest.param(
            world_of(**OUTDATED, **FULL, runners=(a_preparation(),), in_hand=IN_HAND),
            [("stop", "yielded")],
            id="it yields to a job",
        ),
        pytest.param(
            world_of(**OUTDATED, **WAITING, runners=(a_preparation(),), in_hand=IN_HAND),
            [JOBS],
            id="not where the job has another slot",
        ),
        pytest.param(
            world_of(**LATE, **FULL, runners=(a_preparation(),), in_hand=IN_HAND),
            [],
            id="not near the cut-off",
        ),
        pytest.param(
            world_of(**BARE, **FULL, runners=(a_preparation(),), in_hand=IN_HAND),
            [],
            id="not where no job can run without",
        ),
        pytest.param(
            world_of(**OUTDATED, draining=True, runners=(a_preparation(),), in_hand=IN_HAND),
            [("stop", "draining")],
            id="draining ends it",
        ),
        pytest.param(
            world_of(**OUTDATED, runners=(a_preparation(stop=StopRequest.ASK),), in_hand=IN_HAND),
            [("stop", "stopped_by_operator")],
            id="an operator ends it",
        ),
        pytest.param(
            world_of(
                **OUTDATED, pool={"prepare_script": SCRIPT}, runners=(a_preparation(),), in_hand=IN_HAND
            ),
            [("stop", "pool_changed")],
            id="what it makes is not wanted any more",
        ),
        pytest.param(
            world_of(**OUTDATED, pool={"priority": 7}, runners=(a_preparation(),), in_hand=IN_HAND),
            [],
            id="what else changes in the pool does not matter",
        ),
        pytest.param(
            world_of(**OUTDATED, **WAITING, runners=(a_preparation(RunnerState.STOPPING),)),
            [JOBS],
            id="it is no supply, and takes no job",
        ),
        pytest.param(
            world_of(
                **OUTDATED, **WAITING, pool={"max_runners": 1}, runners=(a_preparation(),), in_hand=IN_HAND
            ),
            [JOBS],
            id="it does not count for max_runners",
        ),
    ],
)
def test_what_is_done_with_slots(world: World, expected: list[tuple[str, object]]) -> None:
    """Preparations take the slots that jobs leave, or one ahead of them; and yield, or do not."""
    assert about_slots(world) == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({}, "is prepared first, since it holds no actions runner", id="about to begin"),
        pytest.param(
            {"runners": (a_preparation(),), "in_hand": IN_HAND},
            "is being prepared in mini-base-aaaaaaaa, since it holds no actions runner",
            id="under way",
        ),
        pytest.param(
            {"cooldowns": (MISSING, failed("prepare", "download_failed", failures=2))},
            "failed 2 times: It went wrong (next try 12:01:00 UTC)",
            id="it fails",
        ),
        pytest.param({"pool": {"prepare": False}}, "It went wrong", id="none is prepared"),
    ],
)
def test_a_job_that_waits_for_it_says_so(changes: dict[str, Any], says: str) -> None:
    """Why no job runs, and how far the preparation is."""
    world = world_of(**BARE | WAITING | changes)
    assert says in explain(a_job(), world, now=NOW)


def test_a_slot_that_it_holds_says_so() -> None:
    """What is in the way of a job is named as what it is."""
    world = world_of(**LATE, **FULL, runners=(a_preparation(),), in_hand=IN_HAND)
    assert "mini-base-aaaaaaaa prepares the base of sequoia, for 30 s" in explain(a_job(), world, now=NOW)


@pytest.mark.parametrize(
    ("world", "told"),
    [
        pytest.param(world_of(**OUTDATED), 0, id="launches go on: no news"),
        pytest.param(world_of(**BARE), 1, id="launches wait for it"),
    ],
)
def test_whether_its_failure_is_news(world: World, told: int) -> None:
    """An operator is told of a preparation that fails where launches wait for it."""
    again = failed("prepare", "script_failed", failures=3)
    changed = world_of(cooldowns=(*world.cooldowns, again), versions=world.versions)
    _, items = news(Told(), changed, now=NOW, after=timedelta(hours=1))
    assert len([item for item in items if "prepare:" in str(item)]) == told


def test_an_old_runner_is_warned_about_only_when_nothing_came_of_it() -> None:
    """As long as there is time the preparation sees to it by itself."""
    assert list(warnings(world_of(**OUTDATED), NOW)) == []
    (said,) = warnings(world_of(**LATE), NOW)
    assert "`cidermill image list` says why" in said


def test_which_bases_stay() -> None:
    """Launches clone the newest prepared one; those before go at once, and it stays as long as its image is known."""
    old, left = a_base(name="mini-base-old", age=1), a_base(name="mini-base-left", image="")
    world = world_of(a_base(), old, left, image_keep=3)
    assert unneeded(world) == {"mini-base-old", "mini-base-left"}
    assert unused(world_of(a_base(), pools=())) == {a_base().name}


def test_the_more_pressing_one_goes_first() -> None:
    """Of two images the one without which no job can run is prepared first."""
    pools = (a_pool(), a_pool(name="bare", labels=("bare",), image="zebra"))
    world = world_of(
        pools=pools,
        versions={"mac": OLD},
        host=a_host(images=frozenset({IMAGE, "zebra"}), digests={IMAGE: "a" * 64, "zebra": "z"}),
        cooldowns=(Cooldown(scope="image:zebra", reason="runner_missing", detail="", failures=1, until=NOW),),
    )
    (claim,) = [action for action in plan(world, now=NOW) if isinstance(action, Claim)]
    assert (claim.pool, claim.purpose) == ("bare", Purpose.BASE)
    assert isinstance(need("zebra", world, NOW), Need)
