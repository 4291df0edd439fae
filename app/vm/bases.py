"""Prepared bases: an image with the actions runner that GitHub expects and whatever the operator's script adds.

One is made in a VM like a job's, which is cloned from the image and never from an earlier base, so that nothing
gathers. What the guest needs of this host is one directory that it may read, with the runner's archive and the script
in it. Once it has shut itself down, the VM is renamed and written down, and from that moment launches clone it. What
broke off before that is a VM like any other that ended; what broke off between the two is a base that nobody knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from app.domain.goldens import Origin
from app.domain.pools import Names, Pool
from app.domain.world import Base, Made, VMState
from app.ports import Package, VMError, VMTimeout
from app.vm import basefile, guest, preparing
from app.vm.basefile import Prepared
from app.vm.booting import Booting, boot_timeout
from app.vm.command import Listed, Tart
from app.vm.follow import Follower
from app.vm.images import SHORT, Images
from app.vm.process import Result
from app.vm.runlog import cause_of
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watched


class Bases:
    """Makes prepared bases, and knows which launches clone."""

    def __init__(
        self,
        tart: Tart,
        names: Names,
        state_dir: Path,
        images: Images,
        booting: Booting,
        follower: Follower,
        clock: Callable[[], datetime],
    ) -> None:
        self._tart, self._limits, self._names = tart, tart.limits, names
        self._vms, self._runners, self._shares = (
            tart.home / "vms",
            state_dir / "runners",
            state_dir / "prepare",
        )
        self._images, self._booting, self._follower, self._clock = images, booting, follower, clock
        self._file = state_dir / "bases.json"
        self._known = basefile.load(self._file)

    # -- what is there ---------------------------------------------------------------------------

    def source(self, spec: Pool) -> str:
        """Return the local VM that launches of *spec* clone; it stays while the caller holds ``changing``."""
        base = self._newest(spec)
        return base.name if base else self._images.source(spec.image)

    def origin(self, spec: Pool) -> Origin:
        """Return what launches of *spec* clone, and the digest of the image behind it. Raises VMError."""
        base = self._newest(spec)
        digest = base.digest if base else self._images.digest(spec.image)
        return Origin(source=self.source(spec), digest=digest)

    def exactly(self, spec: Pool) -> str:
        """Return what launches of *spec* clone, as exactly as we know."""
        base = self._newest(spec)
        return self._images.exactly(spec.image, base.digest if base else None)

    def present(self, spec: Pool) -> str | None:
        """Return what tells whether launches of *spec* clone something else by now; None: it is not known."""
        base = self._newest(spec)
        if base is not None:
            return base.name
        with suppress(VMError):
            return self._images.digest(spec.image)
        return None

    def _newest(self, spec: Pool) -> Prepared | None:
        known = self._known.get(spec.image, ()) if spec.prepare else ()
        return next((base for base in known if (self._vms / base.name / "config.json").exists()), None)

    def listed(self, vms: Iterable[Listed], at: datetime) -> tuple[Base, ...]:
        """Return the bases among what the host lists, prepared or as their image is; *at* is now."""
        whole = {vm.name: vm for vm in vms}
        found = [
            Base(
                name=base.name,
                image=image,
                digest=base.digest,
                age=age,
                asked_at=base.made.at,
                size_gb=whole[base.name].size_gb,
                made=base.made,
            )
            for image, bases in self._known.items()
            for age, base in enumerate(base for base in bases if base.name in whole)
        ]
        others = whole.keys() - {base.name for base in found}
        return (*found, *self._images.bases([whole[name] for name in sorted(others)], at))

    async def drop(self, name: str, in_use: frozenset[str]) -> bool:
        """Remove a prepared base; False: it is none that we know. Raises VMError where an image in use is it."""
        image = next((i for i, bases in self._known.items() if any(b.name == name for b in bases)), None)
        if image is None:
            return False
        async with self._tart.changing:
            if image in in_use and self._known[image][0].name == name:
                msg = f"{name} is what launches from {image} clone: it stays while a pool names that"
                raise VMError(msg, reason="base_in_use")
            if not await self._tart.delete(name):
                msg = f"{name} is running: shut it down, `tart stop {name}`, and it is removed"
                raise VMError(msg, reason="base_running")
            left = tuple(base for base in self._known[image] if base.name != name)
            self._remember({**self._known, image: left})
        return True

    # -- one more --------------------------------------------------------------------------------

    async def make(self, name: str, spec: Pool, package: Package) -> None:
        """Prepare the base of the image of *spec* in a VM called *name*. Raises VMError."""
        # A disk that the base has grown cannot be grown to the same size again.
        spec = replace(spec, disk_gb=None)
        try:
            share = await asyncio.to_thread(self._share, name, spec, package)
            digest = await self._boot(name, spec, share)
            await self._work(name, spec, package)
            await self._swap_in(name, spec, digest, package)
        finally:
            await self._follower.stop(name)
            shutil.rmtree(self._shares / name, ignore_errors=True)

    def _share(self, name: str, spec: Pool, package: Package) -> Path:
        """Make the one directory of this host that the guest may read."""
        share = self._shares / name
        if ":" in str(share):
            msg = f"state_dir: {self._shares.parent} has a colon in it, and tart shares no such directory: name another"
            raise VMError(msg, reason="share_refused")
        with told_as_vm_error(f"cannot make {share}"):
            shutil.rmtree(self._shares, ignore_errors=True)  # one at a time: all there is was left by a crash
            share.mkdir(mode=0o700, parents=True)
            os.link(package.archive, share / preparing.ARCHIVE)
            if spec.prepare_script is not None:
                _copy_script(spec, share / preparing.SCRIPT)
        return share

    async def _boot(self, name: str, spec: Pool, share: Path) -> str:
        """Return the digest of what was cloned, once its guest answers."""
        digests: list[str] = []

        def source() -> str:
            digests.append(self._images.digest(spec.image))
            return self._images.source(spec.image)

        troubles: list[VMError] = []
        try:
            async with asyncio.timeout(spec.boot_timeout.total_seconds()):
                await self._booting.clone(source, name, spec)
                process = self._booting.launch(name, spec, share)
                answering = self._booting.until_it_answers(name, troubles)
                await self._booting.while_it_lives(name, process, answering)
        except TimeoutError as error:
            if troubles:
                raise troubles[-1] from error
            raise boot_timeout(name, "boot", spec) from error
        return digests[0]

    async def _work(self, name: str, spec: Pool, package: Package) -> None:
        """Install the runner, run the script, tidy, and see the guest shut itself down."""
        process = self._booting.running(name)
        command = preparing.install_command(spec, package)
        result = await self._exec(
            name, process, command, self._limits.install, stdin=preparing.install_input()
        )
        preparing.check_installed(result.out)
        if spec.prepare_script is not None:
            await self._run_script(name, spec, process)
        command = preparing.finish_command(spec, package)
        result = await self._exec(name, process, command, self._limits.finish, stdin=preparing.finish_input())
        preparing.check_finished(result.out)
        await self._shut_down(name, process)

    async def _run_script(self, name: str, spec: Pool, process: Watched) -> None:
        argv = self._tart.exec_argv(name, guest.FOLLOW)
        self._follower.start(name, argv, env=self._tart.env, file=self._runners / name / "runner.log")
        limit = self._limits.script
        try:
            result = await self._exec(name, process, preparing.script_command(spec), limit)
        except VMTimeout as error:
            msg = (
                f"the prepare script did not end within {limit / 60:.0f} min: `cidermill logs {name}` shows how far it "
                "came; what takes longer belongs in the image"
            )
            raise VMTimeout(msg, reason="script_timeout") from error
        await self._follower.stop(name)
        with suppress(VMError):
            await self._hear_the_rest(name)
        preparing.check_script(result.out, name)

    async def _hear_the_rest(self, name: str) -> None:
        """Complete the copy of what the script said: one that is short is over before it is followed."""
        file = self._runners / name / "runner.log"
        with told_as_vm_error(f"cannot keep the output in {file}"):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as copy:
                command = preparing.rest_command(file.stat().st_size)
                copy.write((await self._tart.exec(name, command, timeout=self._limits.probe)).out)

    async def _exec(
        self,
        name: str,
        process: Watched,
        command: tuple[str, ...],
        limit: float,
        stdin: bytes | None = None,
    ) -> Result:
        """Run a command in the guest; a VM that ends meanwhile is told as such."""
        running = self._tart.exec(name, command, timeout=limit, stdin=stdin)
        result = await self._booting.while_it_lives(name, process, running)
        if result.code != 0 and await self._booting.broke_off(process):
            raise self._booting.ended_early(name)
        return result

    async def _shut_down(self, name: str, process: Watched) -> None:
        try:
            async with asyncio.timeout(self._limits.shut_down):
                await process.ended.wait()
        except TimeoutError as error:
            msg = (
                f"the guest did not shut down within {self._limits.shut_down:.0f} s of `sudo shutdown -h now`: look at "
                "what the image or the prepare script keeps running"
            )
            raise VMTimeout(msg, reason="shutdown_timeout") from error
        cause = cause_of(self._booting.run_log(name))
        if cause.code != "guest_powered_off":
            raise self._booting.ended_early(name)

    async def _swap_in(self, name: str, spec: Pool, digest: str, package: Package) -> None:
        """Have launches clone the VM from now on, under a name that none ever had."""
        made = Made(
            at=self._clock(),
            runner_version=package.version,
            runner_dir=spec.runner_dir,
            script=spec.prepare_script.digest if spec.prepare_script else None,
        )
        mark = hashlib.sha256(f"{name} {made}".encode()).hexdigest()
        base = self._names.prepared(digest[:SHORT], mark[:SHORT])
        states = {vm.name: vm.state for vm in await self._tart.vms()}
        if states.get(name) is not VMState.STOPPED:
            msg = f"{name} is not there, or runs, although its guest has shut down: it is tried again"
            raise VMError(msg, reason="interrupted")
        async with self._tart.changing:
            await self._tart.rename(name, base)
            known = Prepared(name=base, digest=digest, made=made)
            self._remember({**self._known, spec.image: (known, *self._known.get(spec.image, ()))})

    def _remember(self, known: basefile.Known) -> None:
        basefile.save(self._file, known)
        self._known = {image: bases for image, bases in known.items() if bases}


def _copy_script(spec: Pool, to: Path) -> None:
    """Copy the operator's script, as it was when the configuration was read. Raises VMError, OSError."""
    script = spec.prepare_script
    if script is None:
        return
    text = Path(script.path).read_bytes()
    if hashlib.sha256(text).hexdigest() != script.digest:
        msg = f"{script.path} has changed since the configuration was read: `cidermill reload` takes it as it is now"
        raise VMError(msg, reason="script_changed")
    to.write_bytes(text)
    to.chmod(0o500)
