"""Which images can be cloned at once, and how an image of a registry becomes a local VM to clone from.

A launch clones from a local VM and never waits for a registry. An image such as ``ghcr.io/owner/name:tag`` is
pulled and cloned once into a *base*, named by its digest; clones of a local VM get a MAC address of their own, which
the first clone of a pulled image would not (docs/contracts/tart.md §1.4, §9 no. 5). When the tag moves on, launches
clone the new base from the moment it is whole; the one before stays until it is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from app.domain.images import is_remote
from app.domain.pools import Names
from app.domain.world import Base, VMState
from app.ports import VMError
from app.vm import imagefile
from app.vm.causes import IMAGE_MISSING
from app.vm.command import Listed, Tart
from app.vm.imagefile import Known

DIGEST = re.compile(r"@sha256:([0-9a-f]{64})$")
SHORT = 12  # hex digits of a digest in a base's name


class Images:
    """Knows the bases of each pulled image."""

    def __init__(self, tart: Tart, names: Names, file: Path, clock: Callable[[], datetime]) -> None:
        self._tart, self._names, self._file, self._clock = tart, names, file, clock
        self._known = imagefile.load(file)
        self._settling = asyncio.Lock()  # two tags may turn out to be the same image

    def clonable(self, vms: Iterable[Listed]) -> frozenset[str]:
        """Return the images that can be cloned at once, given what the host lists."""
        stopped = self._stopped(vms)
        return frozenset(stopped | self._pulled(stopped))

    def digests(self, vms: Iterable[Listed]) -> dict[str, str]:
        """Return, for each image that can be cloned at once, what tells whether it is another one by now."""
        stopped = self._stopped(vms)
        own = {name for name in stopped if not self._names.is_base(name)}
        found = {name: digest for name in own if (digest := _content(self._tart.home / "vms" / name))}
        return found | {image: self._known[image].digests[0] for image in self._pulled(stopped)}

    def _stopped(self, vms: Iterable[Listed]) -> set[str]:
        stopped = {vm.name for vm in vms if vm.state is VMState.STOPPED}
        return {
            name for name in stopped if not self._names.is_runner(name) and not self._names.is_golden(name)
        }

    def _pulled(self, stopped: set[str]) -> set[str]:
        return {image for image, known in self._known.items() if self._base(known.digests[0]) in stopped}

    def bases(self, vms: Iterable[Listed], at: datetime) -> tuple[Base, ...]:
        """Return the bases among what the host lists, once for each image that is or was it; *at* is now."""
        return tuple(base for vm in vms if self._names.is_base(vm.name) for base in self._about(vm, at))

    def _about(self, vm: Listed, at: datetime) -> list[Base]:
        found = [
            Base(
                name=vm.name,
                image=image,
                digest=digest,
                age=age,
                asked_at=known.asked_at,
                size_gb=vm.size_gb,
            )
            for image, known in self._known.items()
            for age, digest in enumerate(known.digests)
            if self._base(digest) == vm.name
        ]
        digest = vm.name.removeprefix(self._names.base(""))[:SHORT]
        left = Base(name=vm.name, image="", digest=digest, age=0, asked_at=at, size_gb=vm.size_gb)
        return found or [left]

    def source(self, image: str) -> str:
        """Return the local VM to clone *image* from; it stays while the caller holds ``changing``. Raises VMError."""
        if not is_remote(image):
            return image
        known = self._known.get(image)
        if known is None:
            msg = f"{image} is not on this host: it is pulled first, and then launches go on"
            raise VMError(msg, reason=IMAGE_MISSING.code)
        return self._base(known.digests[0])

    def digest(self, image: str) -> str:
        """Return what *image* is now; see :meth:`digests`. Raises VMError."""
        known = self._known.get(image)
        found = known.digests[0] if known else _content(self._tart.home / "vms" / image)
        if found is None:
            raise _unusable(image, None)
        return found

    def exactly(self, image: str, digest: str | None = None) -> str:
        """Return what *image* is as exactly as we know: with its digest (or the one given), where it was pulled."""
        known = self._known.get(image)
        return f"{image.partition('@')[0]}@sha256:{digest or known.digests[0]}" if known else image

    async def prepare(self, image: str) -> str:
        """Make *image* as it is now clonable, and return its name with the digest. Raises VMError."""
        if is_remote(image):
            await self._tart.pull(image)
            digest = DIGEST.search(await self._tart.fqn(image))
            if digest is None:
                msg = f"tart does not tell the digest of {image}: try `tart fqn {image}` by hand"
                raise VMError(msg, reason="fqn_failed")
            async with self._settling:
                await self._settle(image, digest[1], await self._states())
        else:
            _check_stopped(image, await self._states())
        return self.exactly(image)

    async def _settle(self, image: str, digest: str, states: dict[str, VMState]) -> None:
        """Make the base of a pulled image; launches clone it from here on."""
        base = self._base(digest)
        async with self._tart.changing:
            if base not in states:
                await self._tart.clone(image, base)
                await self._tart.new_mac(base)
                states[base] = VMState.STOPPED
            _check_stopped(base, states)
            at = self._clock()
            known = self._known.get(image, Known(digests=(), asked_at=at)).now(digest, at)
            self._remember({**self._known, image: known})

    async def drop(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a base with what was pulled for it; absent is success. Raises VMError where an image in use is it."""
        if not self._names.is_base(name):
            msg = f"{name} is no base of ours: it is left alone"
            raise VMError(msg, reason="not_ours")
        async with self._settling, self._tart.changing:
            users = [image for image in in_use if image in self._known and self.source(image) == name]
            if users:
                msg = f"{name} is what {', '.join(sorted(users))} is now: it stays while a pool names that"
                raise VMError(msg, reason="base_in_use")
            # The base goes last but for the note of it: until then the removal is simply begun again.
            left = await self._drop_pulled(name)
            if not await self._tart.delete(name):
                msg = f"{name} is running: shut it down, `tart stop {name}`, and it is removed"
                raise VMError(msg, reason="base_running")
            self._remember(left)

    async def _drop_pulled(self, name: str) -> dict[str, Known]:
        """Let go of what tart keeps of a base's digest, and return what is known without it."""
        left = dict(self._known)
        for image, known in self._known.items():
            for digest in known.digests:
                if self._base(digest) != name:
                    continue
                if digest == known.digests[0]:
                    await self._tart.delete(image)  # the tag, which would lead nowhere
                await self._tart.delete(f"{_repository(image)}@sha256:{digest}")
                left[image] = left[image].without(digest)
        return {image: known for image, known in left.items() if known.digests}

    def _remember(self, known: Mapping[str, Known]) -> None:
        imagefile.save(self._file, known)
        self._known = dict(known)

    async def _states(self) -> dict[str, VMState]:
        return {vm.name: vm.state for vm in await self._tart.vms()}

    def _base(self, digest: str) -> str:
        return self._names.base(digest[:SHORT])


def _content(vm: Path) -> str | None:
    """Return what is another whenever a local VM was built anew, or ran: no disk of some 50 GB is read for it."""
    try:
        disk = (vm / "disk.img").stat()
    except OSError:
        return None  # it has just gone
    return hashlib.sha256(f"{disk.st_ino} {disk.st_size} {disk.st_mtime_ns}".encode()).hexdigest()


def _repository(image: str) -> str:
    """Return the name without tag and digest; a colon before the last slash is a port's."""
    place, slash, name = image.partition("@")[0].rpartition("/")
    return f"{place}{slash}{name.partition(':')[0]}"


def _check_stopped(image: str, states: Mapping[str, VMState]) -> None:
    state = states.get(image)
    if state is not VMState.STOPPED:
        raise _unusable(image, state)


def _unusable(image: str, state: VMState | None) -> VMError:
    if state is None:
        text = f"there is no local VM called {image}: build it with packer, or name an image of a registry"
    elif state is VMState.SUSPENDED:
        text = f"the local VM {image} is suspended: shut it down, `tart stop {image}` drops what it holds"
    else:
        text = f"the local VM {image} is running: shut it down, an image is cloned only while it is stopped"
    return VMError(text, reason=IMAGE_MISSING.code)
