"""Which golden is made and why, which may be resumed, and which goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.actions import Action, Claim, DropGolden, MakeGolden, Stop
from app.domain.explain import explain
from app.domain.goldens import Origin, need, unfit, unneeded, warnings
from app.domain.plan import plan
from app.domain.pools import Start
from app.domain.runners import Purpose, Runner, RunnerState, StopRequest
from app.domain.world import Cooldown, Golden, World
from tests.builders import NOW, TARGET, a_demand, a_host, a_job, a_pool, a_runner, a_vm, a_world, ago
from tests.domain.test_preparation import a_base, released

IMAGE, DIGEST, SYSTEM = "sequoia", "a" * 64, "tart 2.35.0, macOS 15.3"
NAME = "mini-golden-aaaaaaaa"
POOL = a_pool(start=Start.SNAPSHOT)


def a_golden(number: int = 1, **changes: Any) -> Golden:
    """Return a golden that is as it would be made now."""
    values: dict[str, Any] = {
        "name": f"mini-golden-{number:012x}",
        "pool": "mac",
        "at": ago(hours=1),
        "source": IMAGE,
        "digest": DIGEST,
        "shape": POOL.shape,
        "system": SYSTEM,
    }
    return Golden(**values | changes)


BOTH = (a_golden(1), a_golden(2))


def world_of(*goldens: Golden, **changes: Any) -> World:
    host = {"goldens": goldens, "digests": {IMAGE: DIGEST}, "system": SYSTEM} | changes.pop("look", {})
    pool = a_pool(**{"start": Start.SNAPSHOT} | changes.pop("pool", {}))
    values: dict[str, Any] = {
        "pools": (pool,),
        "host": a_host(*changes.pop("vms", ()), **host),
        "known_targets": frozenset({TARGET}),
        "released_at": NOW,
    }
    return a_world(**values | changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({}, None, id="as it would be made now"),
        pytest.param({"at": ago(days=30)}, None, id="its age makes it no worse"),
        pytest.param({"pool": ""}, "no pool wants it", id="one that nobody knows"),
        pytest.param({"pool": "other"}, "no pool wants it", id="another pool's"),
        pytest.param({"digest": "b" * 64}, "the image is another one", id="the image was built anew"),
        pytest.param({"source": "mini-base-x"}, "the image is another one", id="of a base that is no more"),
        pytest.param({"shape": a_pool(cpu=8).shape}, "its pool was changed", id="another number of cores"),
        pytest.param({"shape": a_pool(network="softnet").shape}, "its pool was changed", id="other flags"),
        pytest.param({"system": "tart 2.36.0, macOS 15.3"}, "was upgraded", id="another tart"),
    ],
)
def test_which_may_be_resumed(changes: dict[str, Any], why: str | None) -> None:
    """Whatever a snapshot was taken of, for and by must be the same."""
    found = unfit(a_golden(**changes), POOL, Origin(source=IMAGE, digest=DIGEST), SYSTEM)
    assert (found is None) if why is None else why in str(found)


@pytest.mark.parametrize(
    "field", ["cpu", "memory_mib", "disk_gb", "disk_options", "network", "network_allow", "runner_dir"]
)
def test_what_its_shape_is_made_of(field: str) -> None:
    """All that a VM is made with, and nothing else."""
    value: Any = ("10.0.0.0/8",) if field == "network_allow" else 77
    assert a_pool(**{field: value}).shape != a_pool().shape
    assert a_pool(priority=5, job_timeout=timedelta(1)).shape == a_pool().shape


@pytest.mark.parametrize(
    ("world", "why"),
    [
        pytest.param(world_of(), "0 of 2 are there", id="none yet"),
        pytest.param(world_of(a_golden()), "1 of 2 are there", id="one for two slots"),
        pytest.param(world_of(*BOTH), None, id="one for each slot"),
        pytest.param(world_of(a_golden(), pool={"max_runners": 1}), None, id="one, and no more run at a time"),
        pytest.param(world_of(a_golden(), slots=1), None, id="one slot"),
        pytest.param(world_of(pool={"start": Start.COLD}), None, id="its pool boots"),
        pytest.param(world_of(a_golden(), a_golden(2, digest="b" * 64)), "1 of 2", id="one of another image"),
        pytest.param(world_of(a_golden(), a_golden(2, at=ago(days=8))), "older than 7 days", id="one is old"),
        pytest.param(
            world_of(*BOTH, look={"bases": (a_base(),)}), "0 of 2", id="launches clone a prepared base by now"
        ),
        pytest.param(
            world_of(
                a_golden(source=a_base().name, digest="c" * 64), slots=1,
                look={"bases": (a_base(digest="c" * 64),)},
            ),
            None,
            id="the base that launches clone, although the image moved on",
        ),
        pytest.param(world_of(look={"digests": {}}), None, id="there is nothing to make it of"),
    ],
)  # fmt: skip
def test_why_one_is_made(world: World, why: str | None) -> None:
    """A pool has one for each VM that may run at a time, and they are no older than a week."""
    found = need(world.pools[0], world, NOW)
    assert (found is None) if why is None else why in str(found)


def a_making(state: RunnerState = RunnerState.BOOTING, **changes: Any) -> Runner:
    values: dict[str, Any] = {"name": NAME, "purpose": Purpose.GOLDEN, "target": None, "spec": POOL}
    return a_runner(state, **values | changes)


def failed(*, minutes: float, scope: str = "golden:mac") -> Cooldown:
    return Cooldown(
        scope=scope, reason="restore_failed", detail="It went wrong", failures=2,
        until=NOW + timedelta(minutes=minutes),
    )  # fmt: skip


def told(world: World) -> list[tuple[str, object]]:
    """Return what is done with slots and goldens: (what, its purpose, its reason or its name)."""
    return [found for action in plan(world, now=NOW) if (found := _told(action)) is not None]


def _told(action: Action) -> tuple[str, object] | None:
    match action:
        case Claim(purpose=purpose):
            return "claim", purpose
        case Stop(reason=reason):
            return "stop", reason
        case MakeGolden(runner):
            return "make", runner.name
        case DropGolden(name):
            return "drop", name
    return None


MAKE, JOB = ("claim", Purpose.GOLDEN), ("claim", Purpose.JOBS)
WAITING: dict[str, Any] = {"demand": (a_demand(),)}
OUTDATED: dict[str, Any] = {"versions": {"mac": "2.335.0"}, "release": released(5)}
FULL: dict[str, Any] = {"slots": 1, "vms": (a_vm(NAME),), **WAITING}
IN_HAND = frozenset({f"boot:{NAME}"})
OTHER: dict[str, Any] = {"name": "mini-mac-bbbbbbbb", "slot": "2", "spec": POOL}
WARM = a_pool(name="warm", labels=("warm",), min_ready=1)
SPARE = a_runner(RunnerState.READY, name="mini-warm-cccccccc", slot="2", spec=WARM, target=None)
TWO_POOLS: dict[str, Any] = {"pools": (POOL, WARM), **WAITING}


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(world_of(), [MAKE], id="an idle slot is taken"),
        pytest.param(world_of(**WAITING), [JOB], id="jobs go first"),
        pytest.param(world_of(*BOTH), [], id="all are there"),
        pytest.param(world_of(runners=(a_runner(RunnerState.BUSY, **OTHER),), vms=(a_vm("mini-mac-bbbbbbbb"),)), [MAKE], id="beside a job that runs"),
        pytest.param(
            world_of(runners=(a_runner(RunnerState.BOOTING, **OTHER),), in_hand=frozenset({"boot:mini-mac-bbbbbbbb"}),
                     **WAITING),
            [], id="not beside a boot",
        ),
        pytest.param(world_of(**OUTDATED), [("claim", Purpose.BASE)], id="its base is prepared first"),
        pytest.param(world_of(draining=True), [], id="not while draining"),
        pytest.param(world_of(min_free_disk_gb=95.0), [], id="not where the guest's memory has no room"),
        pytest.param(world_of(min_free_disk_gb=95.0, pool={"memory_mib": 4096}), [MAKE], id="a smaller one has"),
        pytest.param(world_of(cooldowns=(failed(minutes=1),)), [], id="not while it rests"),
        pytest.param(world_of(cooldowns=(failed(minutes=-1),)), [MAKE], id="again after its rest"),
        pytest.param(world_of(host_changed_at=NOW), [], id="what just ended is not in the look yet"),
        pytest.param(world_of(runners=(a_making(),), in_hand=IN_HAND), [], id="one at a time"),
        # -- one that is under way
        pytest.param(world_of(runners=(a_making(RunnerState.CLAIMED),)), [("make", NAME)], id="it begins"),
        pytest.param(world_of(runners=(a_making(),)), [("stop", "interrupted")], id="we died meanwhile"),
        pytest.param(
            world_of(**FULL, runners=(a_making(),), in_hand=IN_HAND), [("stop", "yielded")], id="it yields to a job"
        ),
        pytest.param(
            world_of(**WAITING, runners=(a_making(),), in_hand=IN_HAND), [JOB], id="not where the job has a slot"
        ),
        pytest.param(
            world_of(
                **WAITING, runners=(a_making(), a_runner(RunnerState.BUSY, **OTHER)), in_hand=IN_HAND,
                vms=(a_vm(NAME), a_vm(OTHER["name"])), pool={"max_runners": 1},
            ),
            [], id="not to a job that would get no slot: its pool has as many runners as it may",
        ),
        pytest.param(
            world_of(
                **FULL, runners=(a_making(),), in_hand=IN_HAND,
                cooldowns=(failed(minutes=1, scope=f"class:mac:{TARGET}"),),
            ),
            [], id="not to a job that would get no slot: its class rests",
        ),
        pytest.param(
            world_of(**TWO_POOLS, runners=(a_making(), SPARE), vms=(a_vm(NAME), a_vm(SPARE.name)), in_hand=IN_HAND),
            [("stop", "yielded")], id="it yields, and no warm VM beside it does for the same job",
        ),
        pytest.param(world_of(pool={"min_ready": 1}), [MAKE], id="before a VM is kept ready, which is resumed then"),
        pytest.param(
            world_of(runners=(a_making(),), in_hand=IN_HAND, pool={"min_ready": 1}), [JOB],
            id="a VM is kept ready beside it",
        ),
        pytest.param(
            world_of(draining=True, runners=(a_making(),), in_hand=IN_HAND), [("stop", "draining")], id="draining"
        ),
        pytest.param(
            world_of(runners=(a_making(stop=StopRequest.ASK),), in_hand=IN_HAND),
            [("stop", "stopped_by_operator")], id="an operator ends it",
        ),
        pytest.param(
            world_of(runners=(a_making(),), in_hand=IN_HAND, pool={"cpu": 8}), [("stop", "pool_changed")],
            id="what it makes is not wanted any more",
        ),
        pytest.param(
            world_of(runners=(a_making(),), in_hand=IN_HAND, pool={"priority": 7}), [],
            id="what else changes in the pool does not matter",
        ),
        # -- those that go
        pytest.param(world_of(*BOTH, a_golden(3, pool="")), [("drop", a_golden(3).name)], id="one that nobody knows"),
        pytest.param(
            world_of(*BOTH, a_golden(3, at=ago(days=8))), [("drop", a_golden(3).name)], id="the oldest of three"
        ),
        pytest.param(
            world_of(a_golden(), a_golden(2, at=ago(days=8))), [MAKE], id="an old one stays until another is there"
        ),
        pytest.param(world_of(a_golden(), pool={"start": Start.COLD}), [("drop", a_golden().name)], id="start = cold"),
        pytest.param(world_of(a_golden(), pools=()), [("drop", a_golden().name)], id="its pool is gone"),
        pytest.param(
            world_of(*BOTH, a_golden(3, pool=""), host_changed_at=NOW), [], id="nothing goes by an old look"
        ),
    ],
)  # fmt: skip
def test_what_is_done(world: World, expected: list[tuple[str, object]]) -> None:
    """One is made in a slot that neither a job nor a base wants, and yields; those that serve nothing go."""
    assert told(world) == expected


@pytest.mark.parametrize(
    "look", [pytest.param({"digests": {}}, id="of the image"), pytest.param({"system": ""}, id="of tart")]
)
def test_nothing_goes_for_what_is_not_known(look: dict[str, Any]) -> None:
    """Unknown is not another: goldens stay until it is known that they are of no use."""
    assert unneeded(world_of(*BOTH, look=look)) == frozenset()


def test_a_slot_that_it_holds_says_so() -> None:
    """What is in the way of a job is named as what it is."""
    world = world_of(**FULL, runners=(a_making(),), in_hand=IN_HAND)
    assert f"{NAME} makes a golden of pool mac, for 30 s" in explain(a_job(), world, now=NOW)


@pytest.mark.parametrize(
    ("world", "says"),
    [
        pytest.param(world_of(*BOTH), [], id="all is well"),
        pytest.param(world_of(), [], id="they are made"),
        pytest.param(world_of(min_free_disk_gb=95.0), ["100 GB are free and a golden of pool mac wants 103"], id="disk"),
        pytest.param(world_of(cooldowns=(failed(minutes=1),)), ["failed 2 times: It went wrong"], id="they fail"),
        pytest.param(world_of(cooldowns=(failed(minutes=1),), pool={"start": Start.COLD}), [], id="not asked for"),
    ],
)  # fmt: skip
def test_what_an_operator_is_told(world: World, says: list[str]) -> None:
    """Where VMs boot that should be resumed, the reason is said with its mend."""
    found = list(warnings(world))
    assert len(found) == len(says)
    assert all(part in said for part, said in zip(says, found, strict=True))
