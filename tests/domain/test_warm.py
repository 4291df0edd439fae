"""Warm VMs: when one is claimed, which of them stay, and which give their slots back, for what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.runners import Purpose, RunnerState
from app.domain.warm import LASTS
from app.domain.world import Cooldown, Host, VMState
from tests.builders import NOW, a_demand, a_head, a_host, a_pool, a_runner, a_vm, ago
from tests.domain.situations import NAME, OTHER, S, decide
from tests.domain.test_preparation import OLD, a_base, released

WARM, WARMER = a_pool(min_ready=1), a_pool(min_ready=2)
RIVAL = a_pool(name="rival", labels=("x",), min_ready=1)
COLD = a_pool(name="cold", labels=("y",))
CAPPED = a_pool(name="cold", labels=("y",), max_runners=1)
BOTH = a_host(a_vm(), a_vm(OTHER))
WAITS = a_demand(pool="cold")
LONG_AGO = {"since": ago(minutes=30), "created_at": ago(minutes=31)}
FROM_OLD = LONG_AGO | {"source": "old"}
REBUILT = {"digests": {"sequoia": "new"}}
CONFLICT = Cooldown(
    scope="pool:mac", reason="boot_timeout", detail="it failed", failures=2, until=NOW + timedelta(minutes=1)
)


def pair(one: RunnerState, two: RunnerState, *, old: bool = False, **changes: Any) -> dict[str, Any]:
    """Return two runners of the pool; the first was cloned from what is old by now, if *old*."""
    first = a_runner(one, **LONG_AGO | changes, source="old" if old else "new")
    second = a_runner(two, name=OTHER, slot="2", **LONG_AGO | changes, source="new")
    booting = {f"boot:{r.name}" for r in (first, second) if r.state is S.BOOTING}
    return {"runners": (first, second), "in_hand": frozenset(booting)}


def one(state: RunnerState = S.READY, **changes: Any) -> dict[str, Any]:
    hand = frozenset({f"boot:{NAME}"}) if state is S.BOOTING else frozenset()
    return {"runners": (a_runner(state, **LONG_AGO | changes),), "host": a_host(a_vm()), "in_hand": hand}


SITUATIONS = [
    # -- one is wanted
    pytest.param({"pools": (WARM,)}, [("claim", "1", "mac")], id="none there: one slot"),
    pytest.param(
        {"pools": (WARMER,)}, [("claim", "1", "mac"), ("claim", "2", "mac")], id="two wanted: two slots"
    ),
    pytest.param(one() | {"pools": (WARM,)}, [], id="one is there, and stays however long it has been ready"),
    pytest.param(one(S.BOOTING) | {"pools": (WARM,)}, [], id="one is on its way"),
    pytest.param(one(S.CLAIMED) | {"pools": (WARM,)}, [("boot", NAME)], id="one is claimed: it boots"),
    pytest.param({"pools": (WARM,), "draining": True}, [], id="draining keeps none"),
    pytest.param(
        one() | {"pools": (WARM,), "draining": True}, [("stop", NAME, "draining")], id="and lets the last go"
    ),
    pytest.param(
        {"pools": (WARM,), "cooldowns": (CONFLICT,)}, [], id="after a failure it waits as a job's does"
    ),
    pytest.param(
        {"pools": (a_pool(min_ready=1, max_runners=1),)}
        | {"runners": (a_runner(S.STOPPING),), "in_hand": frozenset({NAME})},
        [],
        id="max_runners holds",
    ),
    # -- a job takes it
    pytest.param(
        one() | {"pools": (WARM,), "demand": (a_demand(),)},
        [("mint", NAME, "acme/app"), ("claim", "2", "mac")],
        id="the job gets it, and the next is made ready",
    ),
    pytest.param(
        one() | {"pools": (WARM,), "demand": (a_demand(2),)},
        [("mint", NAME, "acme/app"), ("claim", "2", "mac")],
        id="the second job has the free slot, ahead of a warm VM",
    ),
    pytest.param(
        one() | {"pools": (WARM,), "demand": (a_demand(heads=(a_head(checked_at=None),)),)},
        [("claim", "2", "mac"), ("check", 1)],
        id="GitHub is asked about the job before the mint",
    ),
    pytest.param(
        {"pools": (WARM, COLD), "demand": (a_demand(pool="cold"),)},
        [("claim", "1", "cold")],
        id="a job goes first; the other slot is taken in the pass after it",
    ),
    # -- two pools want to keep some
    pytest.param(
        {"pools": (WARMER, RIVAL)},
        [("claim", "1", "mac"), ("claim", "2", "rival")],
        id="two pools take turns",
    ),
    pytest.param(
        {"pools": (WARMER, a_pool(name="rival", labels=("x",), min_ready=1, priority=1))},
        [("claim", "1", "rival"), ("claim", "2", "mac")],
        id="the one of higher priority begins",
    ),
    pytest.param(
        pair(S.READY, S.READY) | {"pools": (WARMER, RIVAL), "host": BOTH},
        [],
        id="what one has the other does not get",
    ),
    # -- another class waits
    pytest.param(
        one() | {"pools": (WARM, COLD), "demand": (WAITS,)},
        [("claim", "2", "cold")],
        id="a slot is free for it: nothing yields",
    ),
    pytest.param(
        one() | {"pools": (WARM, COLD), "demand": (WAITS,), "slots": 1},
        [("stop", NAME, "yielded")],
        id="none is free: it yields at once",
    ),
    pytest.param(
        pair(S.READY, S.READY) | {"pools": (WARMER, COLD), "demand": (WAITS,), "host": BOTH},
        [("stop", NAME, "yielded")],
        id="one job: one yields",
    ),
    pytest.param(
        pair(S.READY, S.BOOTING) | {"pools": (WARMER, COLD), "demand": (WAITS,), "host": BOTH},
        [("stop", OTHER, "yielded")],
        id="the one that is worth less",
    ),
    pytest.param(
        pair(S.READY, S.READY, old=True)
        | {"pools": (WARM, COLD), "demand": (WAITS,), "host": a_host(a_vm(), a_vm(OTHER), **REBUILT)},
        [("stop", NAME, "surplus")],
        id="the one that is not kept",
    ),
    pytest.param(
        {"runners": (a_runner(S.STOPPING), a_runner(S.READY, name=OTHER, slot="2", **LONG_AGO))}
        | {"pools": (WARMER, COLD), "demand": (WAITS,), "host": BOTH, "in_hand": frozenset({NAME})},
        [],
        id="none while another is being removed for it",
    ),
    pytest.param(
        pair(S.READY, S.READY)
        | {"pools": (WARMER, COLD), "demand": (a_demand(5, pool="cold"),), "host": BOTH},
        [("stop", NAME, "yielded"), ("stop", OTHER, "yielded")],
        id="five jobs: both yield",
    ),
    pytest.param(
        {
            "pools": (WARM, CAPPED),
            "demand": (a_demand(5, pool="cold"),),
            "runners": (
                a_runner(S.READY, **LONG_AGO),
                a_runner(S.BOOTING, name=OTHER, slot="2", spec=CAPPED),
            ),
            "host": BOTH,
            "in_hand": frozenset({f"boot:{OTHER}"}),
        },
        [],
        id="not for jobs that may not have the slot",
    ),
    pytest.param(
        {
            "runners": (a_runner(S.READY, slot="m1/1", **LONG_AGO),),
            "pools": (WARM, COLD),
            "demand": (WAITS,),
            "host": a_host(
                a_vm(host="m1"),
                a_vm("theirs", host="m2"),
                hosts=(Host(name="m1", room={"macos-vm": 1}), Host(name="m2", room={"macos-vm": 1})),
                images=None,
            ),
        },
        [("stop", NAME, "yielded")],
        id="on a shelf of Macs: the one that is on a Mac with no other room",
    ),
    # -- the image is another one by now
    pytest.param(
        one(source="new") | {"pools": (WARM,), "host": a_host(a_vm(), **REBUILT)},
        [],
        id="it is what a launch clones",
    ),
    pytest.param(
        one(source=None) | {"pools": (WARM,), "host": a_host(a_vm(), **REBUILT)},
        [],
        id="nobody knows what it is",
    ),
    pytest.param(
        one(source="old") | {"pools": (WARM,), "host": a_host(a_vm(), **REBUILT)},
        [("claim", "2", "mac")],
        id="the image changed: a new one first, where there is room",
    ),
    pytest.param(
        pair(S.READY, S.BOOTING, old=True)
        | {"pools": (WARM,), "host": a_host(a_vm(), a_vm(OTHER), **REBUILT)},
        [],
        id="the old one stays while the new one boots",
    ),
    pytest.param(
        pair(S.READY, S.READY, old=True) | {"pools": (WARM,), "host": a_host(a_vm(), a_vm(OTHER), **REBUILT)},
        [("stop", NAME, "image_changed")],
        id="and goes once it is up",
    ),
    pytest.param(
        {"runners": (a_runner(S.READY, **FROM_OLD), a_runner(S.READY, name=OTHER, slot="2", **FROM_OLD))}
        | {"pools": (WARMER,), "host": a_host(a_vm(), a_vm(OTHER), **REBUILT)},
        [("stop", NAME, "image_changed")],
        id="no room for a new one: one goes first",
    ),
    pytest.param(
        {"runners": (a_runner(S.STOPPING), a_runner(S.READY, name=OTHER, slot="2", **FROM_OLD))}
        | {"pools": (WARMER,), "host": a_host(a_vm(), a_vm(OTHER), **REBUILT), "in_hand": frozenset({NAME})},
        [],
        id="one at a time",
    ),
    pytest.param(
        one(source="old")
        | {"pools": (WARM,), "host": a_host(a_vm(), **REBUILT), "slots": 1, "cooldowns": (CONFLICT,)},
        [],
        id="not while no new one could be launched",
    ),
    pytest.param(
        one(source="old")
        | {"pools": (WARM,), "host": a_host(a_vm(), **REBUILT), "slots": 1, "demand": (a_demand(),)},
        [("mint", NAME, "acme/app")],
        id="not while a job waits for it",
    ),
    pytest.param(
        one(source="old")
        | {"pools": (WARM,), "host": a_host(a_vm(), at=ago(minutes=31), **REBUILT), "slots": 1},
        [("look", "host")],
        id="a look from before it was up proves nothing",
    ),
    pytest.param(
        one(since=NOW - LASTS, created_at=NOW - LASTS) | {"pools": (WARM,), "slots": 1},
        [("stop", NAME, "aged")],
        id="it is too old",
    ),
    # -- a base is to be prepared
    pytest.param(
        pair(S.READY, S.READY)
        | {
            "pools": (WARMER,),
            "host": a_host(
                a_vm(),
                a_vm(OTHER),
                bases=(a_base(runner_version=OLD, name="new"),),
                digests={"sequoia": "a" * 64},
            ),
            "versions": {"mac": OLD},
            "release": released(5),
            "released_at": NOW,
            "known_targets": frozenset({a_runner(S.IDLE).target}),
        },
        [("look", "acme/app"), ("stop", NAME, "yielded")],
        id="one makes room for the preparation of a base",
    ),
    # -- kept no longer
    pytest.param(one() | {"pools": (a_pool(),)}, [("stop", NAME, "surplus")], id="min_ready was lowered"),
    pytest.param(
        one(spec=a_pool(min_ready=2)) | {"pools": (WARM,)}, [], id="another min_ready makes no other VM"
    ),
    pytest.param(
        one() | {"pools": (WARM,), "host": a_host(a_vm(state=VMState.STOPPED, ending="guest_panicked"))},
        [("stop", NAME, "guest_panicked")],
        id="its VM ended: the next is claimed in the pass after it",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert sorted(decide(**world)) == sorted(expected)


def test_a_base_being_prepared_keeps_its_slot() -> None:
    """Warm VMs press nobody: a base that is being prepared goes on."""
    base = a_runner(S.BOOTING, name="mini-base-aaaaaaaa", purpose=Purpose.BASE)
    world = {"pools": (WARM,), "slots": 1, "runners": (base,), "in_hand": frozenset({f"boot:{base.name}"})}
    assert decide(**world, host=a_host(a_vm(base.name))) == []
