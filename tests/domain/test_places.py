"""Room: which slot the next VM may take, a row a situation."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.places import Room, reseated
from app.domain.pools import MACOS_VM, Kind
from app.domain.world import Host, World
from tests.builders import NOW, a_host, a_mac, a_pool, a_runner, a_vm, a_world

SHELF = (
    Host(name="mini1", room={MACOS_VM: 2}),
    Host(name="mini2", room={MACOS_VM: 2}),
)


def shelf(*vms: Any, hosts: tuple[Host, ...] = SHELF, **world: Any) -> World:
    return a_world(host=a_host(*vms, hosts=hosts), **world)


@pytest.mark.parametrize(
    ("world", "slot"),
    [
        pytest.param(a_world(), "1", id="one Mac: its slots have no other name"),
        pytest.param(a_world(host=None), None, id="unknown room is no room"),
        pytest.param(a_world(runners=(a_runner(),)), "2", id="the next free number"),
        pytest.param(a_world(host=a_host(a_vm("x"), a_vm("y"))), None, id="strangers take it all"),
        pytest.param(
            a_world(host=a_host(a_vm("x"), hosts=(a_mac(most=1),))), "1", id="a stranger beside our only slot"
        ),
        pytest.param(
            a_world(host=a_host(a_vm("mini-mac-bbbbbbbb"))), "1", id="a VM of ours without a runner takes one"
        ),
        pytest.param(
            a_world(host=a_host(hosts=(a_mac(most=1),)), runners=(a_runner(slot="2"),)),
            None,
            id="fewer slots than before: the one that is held counts, whatever its name",
        ),
        pytest.param(shelf(), "mini1/1", id="a shelf: the first in the order in which it is filled"),
        pytest.param(
            shelf(a_vm("x", host="mini1"), a_vm("y", host="mini1")), "mini2/1", id="a full Mac is passed over"
        ),
        pytest.param(
            shelf(hosts=(Host(name="mini1", room={MACOS_VM: 2}, closed="it is paused"), *SHELF[1:])),
            "mini2/1",
            id="a closed Mac takes nothing new",
        ),
        pytest.param(
            shelf(
                hosts=SHELF[:1],
                runners=(a_runner(slot="mini1/1"), a_runner(name="mini-mac-bbbbbbbb", slot="mini1/2")),
            ),
            None,
            id="all of it is ours already",
        ),
        pytest.param(
            shelf(runners=(a_runner(slot="1"),)), "mini1/1", id="a runner on a Mac that is not in sight"
        ),
        pytest.param(
            shelf(images_at={("mini2", "sequoia"): NOW, ("mini1", "other"): NOW}),
            "mini2/1",
            id="the Mac that has the image goes before the one that would fetch it",
        ),
        pytest.param(
            shelf(a_vm("x", host="mini2"), a_vm("y", host="mini2"), images_at={("mini2", "sequoia"): NOW}),
            "mini1/1",
            id="but a full Mac is waited for by nobody",
        ),
        pytest.param(
            shelf(runners=(a_runner(slot="mini1/1"),)), "mini1/2", id="packed: one Mac is filled first"
        ),
        pytest.param(
            shelf(runners=(a_runner(slot="mini1/1"),), spread=True), "mini2/1", id="spread: the emptiest Mac"
        ),
        pytest.param(
            shelf(a_vm("x", host="mini1"), spread=True), "mini2/1", id="spread: strangers' VMs count too"
        ),
        pytest.param(
            shelf(runners=(a_runner(slot="mini2/1"),), spread=True, images_at={("mini2", "sequoia"): NOW}),
            "mini2/2",
            id="spread, but a pull costs more than company",
        ),
    ],
)
def test_where_the_next_one_goes(world: World, slot: str | None) -> None:
    """A slot is free if no live runner holds it, and its host has the room."""
    assert Room(world).slot_for(a_pool()) == slot


def test_linux_guests_take_no_place_of_apples() -> None:
    """On a Mac with two macOS guests there is room for Linux ones, as far as its other resources go."""
    linux = a_pool(name="linux", kind=Kind(os="linux", resources=(("cores", 4),)))
    mac = Host(name="mini1", room={MACOS_VM: 2, "cores": 8})
    room = Room(shelf(a_vm("x", host="mini1"), a_vm("y", host="mini1"), hosts=(mac,)))
    slots = []
    while (slot := room.slot_for(linux)) is not None:
        room.take(slot, linux)
        slots.append(slot)
    assert (room.slot_for(a_pool()), slots) == (None, ["mini1/1", "mini1/2"])


A, B, C = (f"mini-mac-{letter * 8}" for letter in "abc")


@pytest.mark.parametrize(
    ("slots", "hosts", "moved"),
    [
        pytest.param({A: "mini1/1"}, {A: "mini1"}, {}, id="where it was meant to be"),
        pytest.param({A: "mini1/1"}, {}, {}, id="not placed yet"),
        pytest.param({A: "mini1/1"}, {A: "mini2"}, {A: "mini2/1"}, id="put on another Mac"),
        pytest.param(
            {A: "mini1/1", B: "mini2/1"},
            {A: "mini2", B: "mini1"},
            {A: "mini2/1", B: "mini1/1"},
            id="they change places",
        ),
        pytest.param(
            {A: "mini1/1", B: "mini2/1"}, {A: "mini2", B: "mini2"}, {A: "mini2/2"}, id="beside another"
        ),
    ],
)
def test_slots_follow_the_vms(slots: dict[str, str], hosts: dict[str, str], moved: dict[str, str]) -> None:
    """A runner's slot is on the Mac that its VM was put on."""
    runners = tuple(a_runner(name=name, slot=slot) for name, slot in slots.items())
    vms = (a_vm(name, host=hosts.get(name, "")) for name in slots)
    assert reseated(shelf(*vms, runners=runners)) == moved


def test_slots_of_a_shelf() -> None:
    """Every Mac's slots are named after it."""
    assert shelf().slots == ("mini1/1", "mini1/2", "mini2/1", "mini2/2")
