"""The ``tart`` command: one method a sub-command, its exit codes and texts turned into values and named errors.

docs/contracts/tart.md §1–2 is binding here: exit 2 means "does not exist" or "is not running", ``stop`` and
``delete`` are made idempotent by it, JSON is the only output that is read, and nothing is concluded from a failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain.pools import Pool
from app.domain.world import VMState
from app.ports import VMError
from app.vm.causes import Cause
from app.vm.limits import Limits
from app.vm.process import Result, run
from app.vm.refusals import FAILED, LATE, refusal

MINIMUM = (2, 28, 3)  # exec without a terminal is safe from here on; 2.33.0 is recommended
SHARE = "cidermill"  # the directory's name in the guest, below "/Volumes/My Shared Files"
UNREADABLE = Cause(
    "list_unreadable",
    "the output of `tart list` cannot be read: is this version of tart supported? See `tart --version`",
    host_wide=True,
)
FLAGS = ("--no-graphics", "--no-audio", "--no-clipboard")  # of every VM
MORE_PATH = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")

# Not passed on: our own settings hold secrets, and tracing would export whole command lines.
WITHHELD = re.compile(r"CIDERMILL_.*|TRACEPARENT|OTEL_.*|CIRRUS_SENTRY_TAGS")


@dataclass(frozen=True, slots=True)
class Listed:
    """One local VM of ``tart list``."""

    name: str
    state: VMState
    size_gb: float = 0.0  # taken on disk, clones counted in full


def environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment tart runs in: launchd's PATH lacks Homebrew, and nothing may prune our images."""
    kept = {name: value for name, value in environ.items() if WITHHELD.fullmatch(name) is None}
    path = [part for part in kept.get("PATH", "").split(os.pathsep) if part]
    kept["PATH"] = os.pathsep.join(dict.fromkeys([*path, *MORE_PATH]))
    return kept | {"TART_HOME": str(home), "TART_NO_AUTO_PRUNE": "1"}


class Tart:
    """Runs tart. Every method raises VMError (VMTimeout when it took longer than ``limits`` allow).

    ``changing`` is for callers to hold while they clone or delete: whatever reads all VMs, as a clone and a list
    do, fails where one of them is just being deleted.
    """

    def __init__(
        self, program: str, home: Path, environ: Mapping[str, str], limits: Limits | None = None
    ) -> None:
        self.program, self.home, self.limits = program, home, limits or Limits()
        self.env = environment(environ, home)
        self.changing = asyncio.Lock()

    async def vms(self) -> list[Listed]:
        """Return all local VMs.

        One that is deleted at the wrong moment fails the whole list: then it is asked again, while we delete none.
        """
        argv = ("list", "--source", "local", "--format", "json")
        result = await self._run(*argv, timeout=self.limits.quick)
        if result.code != 0:
            async with self.changing:
                result = await self._do(*argv, timeout=self.limits.quick)
        try:
            return _listed(json.loads(result.out))
        except (ValueError, KeyError, TypeError) as error:
            raise VMError(UNREADABLE.detail, reason=UNREADABLE.code, host_wide=True) from error

    async def clone(self, source: str, name: str) -> None:
        """Clone a local VM, or an image that was pulled, under a name never used before.

        Tart's garbage collection may take a clone that has just begun for garbage (docs/contracts/tart.md §7.5), so
        one that fails is tried again.
        """
        argv, limit = ("clone", source, name), self.limits.clone
        result = await self._run(*argv, timeout=limit)
        if result.code != 0 and refusal("clone", result).reason == FAILED["clone"].code:
            result = await self._run(*argv, timeout=limit)
        if result.code != 0:
            raise refusal("clone", result)

    async def configure(self, name: str, spec: Pool) -> None:
        """Set what the pool asks for; nothing where it leaves all to the image."""
        wanted = {"--cpu": spec.cpu, "--memory": spec.memory_mib, "--disk-size": spec.disk_gb}
        options = [text for option, value in wanted.items() if value for text in (option, str(value))]
        if options:
            await self._do("set", name, *options, timeout=self.limits.quick)

    async def new_mac(self, name: str) -> None:
        """Give a stopped VM a MAC address of its own: every copy of an OCI image carries the same one."""
        await self._do("set", name, "--random-mac", timeout=self.limits.quick)

    def run_argv(
        self, name: str, spec: Pool, share: Path | None = None, *, suspendable: bool = False
    ) -> list[str]:
        """Return the command that is the VM while it lives; its guest may read what is in the directory *share*.

        Only a VM that becomes a base has one. Any other is thrown away, and its disk need not outlive a power cut; that
        of a golden is written out once it rests. What is resumed must have the very flags that it was suspended with.
        """
        shares = [f"--dir={SHARE}:{share}:ro"] if share else []
        disk = ["--root-disk-opts", spec.disk_options] if spec.disk_options and not share else []
        suspending = ["--suspendable"] if suspendable else []
        return [self.program, "run", *FLAGS, *suspending, *_network(spec), *disk, *shares, name]

    def exec_argv(self, name: str, command: Sequence[str], *, stdin: bool = False) -> list[str]:
        """Return the command that runs *command* in the guest; flags must stand before the name."""
        return [self.program, "exec", *(["-i"] if stdin else []), name, *command]

    async def exec(
        self, name: str, command: Sequence[str], *, timeout: float, stdin: bytes | None = None
    ) -> Result:
        """Run *command* in the guest. Its exit code may be tart's own: only output that was agreed on proves anything."""
        argv = self.exec_argv(name, command, stdin=stdin is not None)
        # SIGINT resets the stream, and the guest's process ends with it; SIGTERM would leave it running.
        return await run(
            argv, env=self.env, timeout=timeout, late=LATE["exec"], stdin=stdin, polite=signal.SIGINT
        )

    async def stop(self, name: str, *, seconds: int) -> bool:
        """Cut the VM's power. False: it did not run, or there is none."""
        result = await self._run("stop", name, "--timeout", str(seconds), timeout=seconds + self.limits.quick)
        if result.code not in {0, 2}:
            raise refusal("stop", result)
        return result.code == 0

    async def delete(self, name: str) -> bool:
        """Delete a VM; absent is success. False: it still runs."""
        result = await self._run("delete", name, timeout=self.limits.clone)
        if result.code == 1 and "is running" in result.err:
            return False
        if result.code not in {0, 2}:
            raise refusal("delete", result)
        return True

    async def suspend(self, name: str) -> None:
        """Ask a VM to suspend itself; whether it did is known once its process has ended."""
        await self._do("suspend", name, timeout=self.limits.quick)

    async def version(self) -> str:
        """Return what tart calls its version."""
        return (await self._do("--version", timeout=self.limits.quick)).out.strip()

    async def rename(self, name: str, new: str) -> None:
        """Give a stopped VM another name, which none has."""
        await self._do("rename", name, new, timeout=self.limits.quick)

    async def pull(self, image: str) -> None:
        """Pull an image; contacts the registry even when it is there already."""
        await self._do("pull", image, timeout=self.limits.pull, extra={"CI": "1"})  # plain progress lines

    async def fqn(self, image: str) -> str:
        """Return the image's name with its digest, as pulled last."""
        return (await self._do("fqn", image, timeout=self.limits.quick)).out.strip()

    async def _do(self, *argv: str, timeout: float, extra: Mapping[str, str] | None = None) -> Result:
        result = await self._run(*argv, timeout=timeout, extra=extra)
        if result.code != 0:
            raise refusal(argv[0], result)
        return result

    async def _run(self, *argv: str, timeout: float, extra: Mapping[str, str] | None = None) -> Result:
        env = self.env | dict(extra or {})
        return await run([self.program, *argv], env=env, timeout=timeout, late=LATE[argv[0]])


def _listed(found: object) -> list[Listed]:
    """Return what ``tart list`` printed. Raises ValueError, KeyError, TypeError where it is anything else."""
    if not isinstance(found, list):
        msg = "it is no list"
        raise TypeError(msg)
    return [Listed(str(vm["Name"]), VMState(vm["State"]), float(vm["Size"])) for vm in found]


def _network(spec: Pool) -> list[str]:
    if spec.network == "softnet":
        options = ["--net-softnet"]
        if spec.network_allow:
            options += ["--net-softnet-allow", ",".join(spec.network_allow)]
        if spec.network_block:
            options += ["--net-softnet-block", ",".join(spec.network_block)]
        return options
    kind, _, interface = spec.network.partition(":")
    return ["--net-bridged", interface] if kind == "bridged" else []


def tart_home(setting: Path | None, environ: Mapping[str, str]) -> Path:
    """Return where tart keeps its VMs: our setting, else ``TART_HOME``, else ``~/.tart``."""
    return setting or Path(environ.get("TART_HOME") or "~/.tart").expanduser().absolute()
