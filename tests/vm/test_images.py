"""Images of a registry on this host: bases by digest, what replaces them, and what is remembered of them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.clock import utcnow
from app.domain.pools import Names
from app.domain.world import Base, HostLook
from app.ports import VMError
from app.sandbox.image import install, make_image
from app.sandbox.tart import faults
from app.vm.command import Tart
from app.vm.tart import TartBackend
from tests.builders import a_pool

IMAGE, SAME = "ghcr.io/acme/macos:latest", "ghcr.io/acme/macos:15"
RUN_SH = "#!/bin/sh\necho {}\nexec sleep 600\n"
NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class Host:
    """A stand-in tart with a registry, and the backend that drives it."""

    place: Path
    vms: TartBackend

    @classmethod
    def at(cls, place: Path) -> Host:
        tart = Tart(str(place / "bin" / "tart"), place / "tart", {"PATH": os.environ["PATH"]})
        (place / "state").mkdir(exist_ok=True)
        vms = TartBackend(tart=tart, state_dir=place / "state", names=Names("mini"), slots=2, clock=utcnow)
        return cls(place, vms)

    def publish(self, name: str, text: str) -> None:
        make_image(self.place / "tart", name, {"run.sh": (RUN_SH.format(text), 0o755)}, oci=True)

    def fault(self, kind: str) -> None:
        faults.write(self.place / "tart", faults.Fault(kind))

    def cached(self) -> set[str]:
        return {entry.name for entry in (self.place / "tart/cache/OCIs/ghcr.io/acme/macos").iterdir()}

    async def bases(self) -> list[Base]:
        look: HostLook = await self.vms.look()
        return sorted(look.bases, key=lambda base: (base.image, base.age))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    install(tmp_path / "bin")
    (tmp_path / "tart").mkdir()
    made = Host.at(tmp_path)
    made.publish(IMAGE, "first")
    yield made
    await made.vms.close()
    violations = tmp_path / "tart" / "violations.log"
    assert not violations.exists() or not violations.read_text()


async def test_a_tag_that_moved_on(host: Host) -> None:
    """The new base is cloned from then on, the one before stays until it is dropped, with what was pulled for it."""
    first = await host.vms.prepare(IMAGE)
    assert await host.vms.prepare(IMAGE) == first
    host.publish(IMAGE, "second")
    second = await host.vms.prepare(IMAGE)
    assert second != first
    new, old = await host.bases()
    assert [(base.image, base.age) for base in (new, old)] == [(IMAGE, 0), (IMAGE, 1)]
    assert (first[-64:], second[-64:]) == (old.digest, new.digest)
    await host.vms.drop_base(old.name, frozenset({IMAGE}))
    assert await host.bases() == [new]
    assert host.cached() == {"latest", f"sha256:{new.digest}"}


async def test_what_launches_clone_stays(host: Host) -> None:
    """The present base of an image in use is not dropped, whoever asks."""
    await host.vms.prepare(IMAGE)
    (base,) = await host.bases()
    with pytest.raises(VMError, match="stays while a pool names that"):
        await host.vms.drop_base(base.name, frozenset({IMAGE}))
    assert IMAGE in (await host.vms.look()).images


async def test_an_image_that_no_pool_names_goes_whole(host: Host) -> None:
    """Base, tag and digest are removed and forgotten; dropped again is success; pulled again it is back."""
    await host.vms.prepare(IMAGE)
    (base,) = await host.bases()
    await host.vms.drop_base(base.name, NONE)
    await host.vms.drop_base(base.name, NONE)
    assert await host.bases() == []
    assert host.cached() == set()
    assert (await host.vms.look()).images == frozenset()
    with pytest.raises(VMError, match="pulled first"):
        await host.vms.start("mini-mac-aaaaaaaa", a_pool(image=IMAGE))
    await host.vms.prepare(IMAGE)
    assert await host.bases() != []


async def test_two_tags_of_one_image_share_a_base(host: Host, tmp_path: Path) -> None:
    """It is dropped for neither while one of them is in use."""
    registry = tmp_path / "registry/ghcr.io/acme/macos"
    (registry / "15").symlink_to(registry / "latest")
    await asyncio.gather(host.vms.prepare(IMAGE), host.vms.prepare(SAME))
    first, second = await host.bases()
    assert first.name == second.name
    with pytest.raises(VMError, match="macos:15 is now"):
        await host.vms.drop_base(first.name, frozenset({SAME}))


async def test_a_pull_that_fails_changes_nothing(host: Host) -> None:
    """Launches go on from the base that is there."""
    await host.vms.prepare(IMAGE)
    before = await host.bases()
    host.publish(IMAGE, "second")
    host.fault("pull_fails")
    with pytest.raises(VMError):
        await host.vms.prepare(IMAGE)
    assert await host.bases() == before


async def test_a_restart_remembers(host: Host, tmp_path: Path) -> None:
    """What each image is and was outlives us."""
    await host.vms.prepare(IMAGE)
    host.publish(IMAGE, "second")
    await host.vms.prepare(IMAGE)
    assert await Host.at(tmp_path).bases() == await host.bases()


async def test_what_an_earlier_version_remembered(host: Host, tmp_path: Path) -> None:
    """A file with one digest an image is read as it was meant: nothing is pulled anew."""
    exact = await host.vms.prepare(IMAGE)
    (tmp_path / "state" / "images.json").write_text(json.dumps({IMAGE: exact[-64:]}))
    (base,) = await Host.at(tmp_path).bases()
    assert (base.image, base.age, base.digest) == (IMAGE, 0, exact[-64:])


@pytest.mark.parametrize("text", ["[]", "{", '{"a/b": {"digests": 1}}'])
async def test_a_file_that_cannot_be_read(host: Host, tmp_path: Path, text: str) -> None:
    """Its images are pulled again, and a base that nothing knows of is shown as such."""
    await host.vms.prepare(IMAGE)
    (tmp_path / "state" / "images.json").write_text(text)
    anew = Host.at(tmp_path)
    (left,) = await anew.bases()
    assert left.image == ""
    await anew.vms.prepare(IMAGE)
    (base,) = await anew.bases()
    assert (base.image, base.name) == (IMAGE, left.name)


async def test_only_bases_are_dropped(host: Host) -> None:
    """A name that is no base of ours is refused."""
    with pytest.raises(VMError, match="no base of ours"):
        await host.vms.drop_base("sequoia", NONE)
