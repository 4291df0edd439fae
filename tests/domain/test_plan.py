"""plan(): a row per situation of waiting jobs and the runners for them. Its parts have tables of their own beside this."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.plan import MINTS_AT_ONCE
from app.domain.pools import Forks, Scope
from app.domain.world import Cooldown, GroupLook, RunnerGroup
from tests.builders import NOW, TARGET, a_demand, a_head, a_host, a_pool, a_runner, a_vm, ago
from tests.domain.situations import NAME, QUIET, UP, S, decide, run

READY = tuple(
    a_runner(S.READY, name=f"mini-mac-{letter * 8}", slot=str(n + 1)) for n, letter in enumerate("abcde")
)
ALL_UP = a_host(*(a_vm(runner.name) for runner in READY))

SITUATIONS = [
    # -- supply for demand
    pytest.param({}, [], id="nothing waits, nothing happens"),
    pytest.param({"demand": (a_demand(),)}, [("claim", "1", "mac")], id="a job waits: one slot"),
    pytest.param(
        {"demand": (a_demand(5),)},
        [("claim", "1", "mac"), ("claim", "2", "mac")],
        id="five jobs wait: both slots, no more",
    ),
    pytest.param(
        {"demand": (a_demand(5),), "runners": READY, "host": ALL_UP, "slots": 5},
        [("mint", runner.name, str(TARGET)) for runner in READY[:MINTS_AT_ONCE]],
        id="five guests are ready: GitHub is asked for no more runners at a time than it gives in some seconds",
    ),
    pytest.param(
        {
            "demand": (a_demand(5),),
            "runners": (replace(READY[0], state=S.REGISTERED, target=TARGET), *READY[1:]),
            "host": ALL_UP,
            "slots": 5,
            "in_hand": frozenset({READY[0].name}),
            "registrations": QUIET,
        },
        [("mint", runner.name, str(TARGET)) for runner in READY[1:MINTS_AT_ONCE]],
        id="one of them is being asked for",
    ),
    pytest.param({"demand": (a_demand(),), "draining": True}, [], id="draining starts nothing"),
    pytest.param({"demand": (a_demand(),), "host": None}, [("look", "host")], id="unknown room is no room"),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(at=ago(minutes=2))},
        [("look", "host")],
        id="an old look at the host is no ground for a launch",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(free_disk_gb=3.0), "min_free_disk_gb": 30.0},
        [],
        id="too little disk",
    ),
    pytest.param(
        {"demand": (a_demand(3),), "host": a_host(a_vm("someones-vm"))},
        [("claim", "1", "mac")],
        id="a stranger's VM takes one of Apple's two places",
    ),
    pytest.param(
        {"demand": (a_demand(3),), "host": a_host(a_vm("their-linux", takes={}))},
        [("claim", "1", "mac"), ("claim", "2", "mac")],
        id="a stranger's Linux VM takes none",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(images=frozenset())},
        [("prepare", "sequoia")],
        id="the image is prepared first, off the job path",
    ),
    pytest.param({"demand": (a_demand(pool="gone"),)}, [], id="a pool that no longer exists"),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(queued_at=ago(hours=2), checked_at=None),)),)},
        [("check", 1)],
        id="a job that was old when we heard of it is looked up before a slot is spent",
    ),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(received_at=ago(minutes=11), checked_at=ago(minutes=11)),)),)},
        [("claim", "1", "mac"), ("check", 1)],
        id="heads of the queue are looked up now and then",
    ),
    # -- one runner serves one job
    pytest.param({"demand": (a_demand(),)} | run(S.CLAIMED), [("boot", NAME)], id="claimed: boot"),
    pytest.param(
        {"demand": (a_demand(),), "in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [],
        id="booting for the only job: nothing more to do",
    ),
    pytest.param(
        {"demand": (a_demand(2),), "in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [("claim", "2", "mac")],
        id="booting for one of two jobs: one more",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.READY), [("mint", NAME, "acme/app")], id="ready: mint"
    ),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(checked_at=None),)),), "host": UP} | run(S.READY),
        [("check", 1)],
        id="ready: the job is looked up before the mint",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=ago(seconds=18)),)),),
            "host": UP,
        }
        | run(S.READY, created_at=ago(seconds=19), since=ago(seconds=2)),
        [("check", 1)],
        id="a look made at once does not count: a gated job turns waiting a moment later",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=ago(seconds=4)),)),),
            "host": UP,
        }
        | run(S.READY, created_at=ago(seconds=19), since=ago(seconds=2)),
        [("mint", NAME, "acme/app")],
        id="a look made beside the boot does",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=None),)),),
            "in_hand": frozenset({f"boot:{NAME}"}),
        }
        | run(S.BOOTING),
        [("check", 1)],
        id="while it boots the job is looked up",
    ),
    pytest.param(
        {"demand": (a_demand(),), "registrations": QUIET, "host": UP} | run(S.IDLE),
        [],
        id="an idle runner is supply",
    ),
    pytest.param(
        {
            "demand": (a_demand(repository="acme/lib"),),
            "registrations": QUIET,
            "host": UP,
        }
        | run(S.IDLE),
        [("claim", "2", "mac")],
        id="a runner registered elsewhere is no supply",
    ),
    pytest.param(
        {"demand": (a_demand(),), "pools": (a_pool(forks=Forks.DENY),), "host": UP}
        | run(S.READY, spec=a_pool(forks=Forks.DENY)),
        [("check", 1)],
        id="forks denied: no mint before it is known who sent the run",
    ),
    # -- surplus
    pytest.param({"host": UP} | run(S.READY), [], id="surplus ready rests for the next job"),
    pytest.param(
        {"host": UP} | run(S.READY, since=ago(seconds=61)), [("stop", NAME, "surplus")], id="but not for long"
    ),
    pytest.param(
        {
            "host": UP,
            "slots": 1,
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
        }
        | run(S.READY),
        [("stop", NAME, "surplus")],
        id="surplus ready goes at once when another class waits for its slot",
    ),
    pytest.param(run(S.CLAIMED), [("stop", NAME, "no_longer_needed")], id="cancelled before the boot"),
    pytest.param(
        {"in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [],
        id="cancelled during boot: let it finish",
    ),
    pytest.param(
        {
            "slots": 1,
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
            "in_hand": frozenset({f"boot:{NAME}"}),
        }
        | run(S.BOOTING),
        [("stop", NAME, "no_longer_needed")],
        id="cancelled during boot, and its slot is wanted",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, since=ago(minutes=6)),
        [("retire", NAME, "idle_timeout")],
        id="idle too long: GitHub is asked first",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": QUIET,
            "slots": 1,
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
        }
        | run(S.IDLE, since=ago(seconds=31)),
        [("retire", NAME, "surplus")],
        id="idle yields after half a minute when another class waits",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected


def org(**changes: Any) -> dict[str, Any]:
    return {"demand": (a_demand(organization=True, **changes),)}


def group(**changes: Any) -> dict[tuple[str, str | None], GroupLook]:
    values: dict[str, Any] = {"id": 3, "name": "Default", "visibility": "all", "allows_public": False}
    return {("acme", None): GroupLook(at=ago(minutes=1), group=RunnerGroup(**values | changes))}


def test_auto_scope_asks_for_the_group_first() -> None:
    """With scope auto nothing is claimed before the organization's runner group is known."""
    assert decide(**org()) == [("look", "acme", None)]


@pytest.mark.parametrize(
    ("changes", "found", "target"),
    [
        pytest.param({}, {}, "acme", id="the pool admits the whole organization"),
        pytest.param({"private": False}, {}, "acme/app", id="the group forbids public repositories"),
        pytest.param(
            {"private": False}, {"allows_public": True}, "acme", id="the group allows public repositories"
        ),
        pytest.param(
            {},
            {"visibility": "selected", "repositories": ("acme/app",)},
            "acme",
            id="the group admits what we do",
        ),
        pytest.param(
            {},
            {"visibility": "selected", "repositories": ("acme/app", "acme2/x")},
            "acme/app",
            id="or more: no",
        ),
        pytest.param(
            {}, {"visibility": "selected"}, "acme/app", id="the group does not admit the repository"
        ),
    ],
)
def test_auto_scope(changes: dict[str, Any], found: dict[str, Any], target: str) -> None:
    """Auto registers at the organization only where its group admits nothing that the pool does not."""
    world = org(**changes) | {"groups": group(**found), "host": UP} | run(S.READY)
    assert decide(**world) == [("mint", NAME, target)]


def test_explicit_organization_of_a_user_is_blocked() -> None:
    """A class that cannot be registered anywhere costs no slot."""
    assert decide(pools=(a_pool(scope=Scope.ORGANIZATION),), demand=(a_demand(),)) == []


def a_cooldown(scope: str, **changes: Any) -> Cooldown:
    values: dict[str, Any] = {
        "scope": scope,
        "reason": "boot_timeout",
        "detail": "it failed",
        "failures": 2,
        "until": NOW + timedelta(minutes=1),
    }
    return Cooldown(**values | changes)


@pytest.mark.parametrize("scope", ["host", "pool:mac", "image:sequoia", "class:mac:acme/app"])
def test_cooldown_holds_launches_up(scope: str) -> None:
    """After a failure nothing of its scope starts until the cooldown is over."""
    assert decide(demand=(a_demand(),), cooldowns=(a_cooldown(scope),)) == []


@pytest.mark.parametrize("scope", ["host", "pool:mac"])
def test_one_probe_after_a_cooldown(scope: str) -> None:
    """When a cooldown is over one launch goes ahead of the others, and the rest wait for it."""
    over = (a_cooldown(scope, until=ago(seconds=1)),)
    assert decide(demand=(a_demand(3),), cooldowns=over) == [("claim", "1", "mac")]
    probing = decide(
        demand=(a_demand(3),), cooldowns=over, in_hand=frozenset({f"boot:{NAME}"}), **run(S.BOOTING)
    )
    assert probing == []


def test_another_pool_is_not_held_up() -> None:
    """A pool that fails does not starve the others."""
    pools = (a_pool(), a_pool(name="other", labels=("x",)))
    demand = (a_demand(), a_demand(pool="other"))
    assert decide(pools=pools, demand=demand, cooldowns=(a_cooldown("pool:mac"),)) == [
        ("claim", "1", "other")
    ]
