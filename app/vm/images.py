"""Which images can be cloned at once, and how an image of a registry becomes a local VM to clone from.

A launch clones from a local VM and never waits for a registry. An image such as ``ghcr.io/owner/name:tag`` is
pulled and cloned once into a *base*, named by its digest; clones of a local VM get a MAC address of their own, which
the first clone of a pulled image would not (docs/contracts/tart.md §1.4, §9 no. 5).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from app.domain.pools import Names
from app.domain.world import VMState
from app.ports import VMError
from app.vm.causes import IMAGE_MISSING
from app.vm.command import Listed, Tart
from app.vm.trouble import told_as_vm_error

DIGEST = re.compile(r"@sha256:([0-9a-f]{64})$")
HEX = re.compile(r"[0-9a-f]{12}")
SHORT = 12  # hex digits of a digest in a base's name


class Images:
    """Knows the base of each pulled image; remembered in a file, so that a restart pulls nothing."""

    def __init__(self, tart: Tart, names: Names, file: Path) -> None:
        self._tart, self._names, self._file = tart, names, file
        self._digests = _load(file)
        self._settling = asyncio.Lock()  # two tags may turn out to be the same image

    def clonable(self, vms: Iterable[Listed]) -> frozenset[str]:
        """Return the images that can be cloned at once, given what the host lists."""
        stopped = {
            vm.name for vm in vms if vm.state is VMState.STOPPED and not self._names.is_runner(vm.name)
        }
        pulled = {image for image, digest in self._digests.items() if self._base(digest) in stopped}
        return frozenset(stopped | pulled)

    def source(self, image: str) -> str:
        """Return the local VM to clone *image* from; it stays while the caller holds ``changing``. Raises VMError."""
        if not _is_remote(image):
            return image
        digest = self._digests.get(image)
        if digest is None:
            msg = f"{image} is not on this host: it is pulled first, and then launches go on"
            raise VMError(msg, reason=IMAGE_MISSING.code)
        return self._base(digest)

    def exactly(self, image: str) -> str:
        """Return what *image* is as exactly as we know: with its digest, where it was pulled."""
        digest = self._digests.get(image)
        return f"{image.partition('@')[0]}@sha256:{digest}" if digest else image

    async def prepare(self, image: str) -> None:
        """Make *image* clonable. Raises VMError."""
        if not _is_remote(image):
            _check_stopped(image, await self._states())
            return
        await self._tart.pull(image)
        digest = DIGEST.search(await self._tart.fqn(image))
        if digest is None:
            msg = f"tart does not tell the digest of {image}: try `tart fqn {image}` by hand"
            raise VMError(msg, reason="fqn_failed")
        async with self._settling:
            await self._settle(image, digest[1], await self._states())

    async def _settle(self, image: str, digest: str, states: dict[str, VMState]) -> None:
        """Make the base of a pulled image, and let go of what it replaces."""
        base = self._base(digest)
        async with self._tart.changing:
            if base not in states:
                await self._tart.clone(image, base)
                await self._tart.new_mac(base)
                states[base] = VMState.STOPPED
            _check_stopped(base, states)
            self._digests[image] = digest
            _save(self._file, self._digests)
            await self._drop_replaced(states)

    async def _states(self) -> dict[str, VMState]:
        return {vm.name: vm.state for vm in await self._tart.vms()}

    async def _drop_replaced(self, states: Mapping[str, VMState]) -> None:
        """Delete the bases that no image has any more, also those that an earlier try could not delete."""
        used = {self._base(digest) for digest in self._digests.values()}
        for name, state in states.items():
            if self._is_base(name) and name not in used and state is VMState.STOPPED:
                await self._tart.delete(name)

    def _base(self, digest: str) -> str:
        return self._names.base(digest[:SHORT])

    def _is_base(self, name: str) -> bool:
        digest = name[-SHORT:]
        return name == self._base(digest) and HEX.fullmatch(digest) is not None


def _is_remote(image: str) -> bool:
    return "/" in image


def _check_stopped(image: str, states: Mapping[str, VMState]) -> None:
    state = states.get(image)
    if state is VMState.STOPPED:
        return
    if state is None:
        text = f"there is no local VM called {image}: build it with packer, or name an image of a registry"
    elif state is VMState.SUSPENDED:
        text = f"the local VM {image} is suspended: shut it down, `tart stop {image}` drops what it holds"
    else:
        text = f"the local VM {image} is running: shut it down, an image is cloned only while it is stopped"
    raise VMError(text, reason=IMAGE_MISSING.code)


def _load(file: Path) -> dict[str, str]:
    """Return what is remembered; what cannot be read is forgotten, and its images are pulled again."""
    with suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {str(image): str(digest) for image, digest in known.items()}
    return {}


def _save(file: Path, digests: dict[str, str]) -> None:
    new = file.with_name(f"{file.name}.new")
    with told_as_vm_error(f"cannot write {file}"):
        new.write_text(json.dumps(digests, indent=1), encoding="utf-8")
        new.replace(file)
