"""A base that is let go of, and a process that dies between two steps of that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.clock import utcnow
from app.domain.actions import DropBase
from app.domain.images import to_do
from app.domain.pools import Names
from app.vm.command import Tart
from app.vm.tart import TartBackend
from tests.builders import NOW, a_pool, a_world
from tests.vm.test_images import IMAGE, Host, host

__all__ = ["host"]


class Killed(Exception):
    """The process is no more."""


class Mortal(Tart):
    """Dies with its process once so many deletions are made."""

    left = 0

    async def delete(self, name: str) -> bool:
        if self.left == 0:
            raise Killed
        deleted = await super().delete(name)
        self.left -= 1
        if self.left == 0:
            raise Killed
        return deleted


async def go_on(host: Host) -> list[str]:
    """Remove what the plan of a start wants removed, and return its names."""
    pools = (a_pool(image=IMAGE),)
    world = a_world(pools=pools, host=await host.vms.look(), image_keep=0)
    drops = [action for action in to_do(world, NOW) if isinstance(action, DropBase)]
    for drop in drops:
        await host.vms.drop_base(drop.name, drop.in_use)
    return [drop.name for drop in drops]


@pytest.mark.parametrize(
    ("deletions", "begun_again"),
    [
        pytest.param(0, True, id="before what was pulled is let go of", marks=pytest.mark.long),
        pytest.param(1, True, id="before the base is removed"),
        pytest.param(2, False, id="before that is noted", marks=pytest.mark.long),
    ],
)
async def test_a_death_while_the_base_before_goes(
    host: Host, tmp_path: Path, deletions: int, begun_again: bool
) -> None:
    """Wherever it is cut off, the next start completes it, and the base that launches clone is never touched."""
    await host.vms.prepare(IMAGE)
    host.publish(IMAGE, "second")
    await host.vms.prepare(IMAGE)
    new, old = await host.bases()
    tart = Mortal(str(tmp_path / "bin" / "tart"), tmp_path / "tart", {"PATH": os.environ["PATH"]})
    tart.left = deletions
    dying = Host(
        tmp_path,
        TartBackend(tart=tart, state_dir=tmp_path / "state", names=Names("mini"), slots=2, clock=utcnow),
    )
    with pytest.raises(Killed):
        await go_on(dying)
    anew = Host.at(tmp_path)
    assert new in await anew.bases()
    assert IMAGE in (await anew.vms.look()).images
    assert await go_on(anew) == ([old.name] if begun_again else [])
    assert await go_on(anew) == []
    assert await anew.bases() == [new]
    assert anew.cached() == {"latest", f"sha256:{new.digest}"}
    host.publish(IMAGE, "third")
    third = await anew.vms.prepare(IMAGE)
    assert [(base.digest, base.age) for base in await anew.bases()] == [(third[-64:], 0), (new.digest, 1)]
