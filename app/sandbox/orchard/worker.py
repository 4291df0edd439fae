"""A worker of the sandbox's controller: it makes the VMs it is given on the sandbox's tart, and reports at its passes.

As the real one (docs/contracts/orchard.md §3.2–3.3, §4, §6): it deletes before it creates, learns of a deletion at its
next pass or poke, types the startup script into a login shell of the guest, and has no limit in time on anything.
"""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.sandbox.orchard.controller import OrchardModel
from app.sandbox.orchard.values import NEVER, Record, WorkerRecord
from app.vm.causes import GUEST_SILENT
from app.vm.process import Child, Result, run, spawn

TRIES = 10  # to let the startup script in
RETRY = 0.1  # s
POLITE = "5"  # s that `stop` waits
LONGEST = 120.0  # s for a command of tart


@dataclass(slots=True)
class Local:
    """A VM on this worker, with what was not reported yet."""

    record: Record
    status: str = "pending"
    message: str = ""
    work: asyncio.Task[None] | None = None
    process: Child | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class ModelWorker:
    """One Mac of the fleet, in a directory of its own."""

    def __init__(self, model: OrchardModel, record: WorkerRecord, *, tart: Path, home: Path) -> None:
        self.model, self.record, self.home = model, record, home
        self.is_stalled = False  # looks online and does nothing
        self.is_silent = False  # does its work, and is not heard
        self._tart = str(tart)
        self._env = {"TART_HOME": str(home), "PATH": "/usr/bin:/bin"}
        self._locals: dict[str, Local] = {}
        self._poke = model.pokes.setdefault(record.name, asyncio.Event())

    async def run(self) -> None:
        """Live until cancelled; then every VM is ended and removed."""
        self.model.workers[self.record.name] = self.record
        try:
            while True:
                if not self.is_silent:
                    self.record.last_seen = self.model.clock()
                    if not self.is_stalled:
                        await self._sync()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.model.pace):
                        await self._poke.wait()
                self._poke.clear()
        finally:
            await asyncio.gather(*(self._remove(uid) for uid in self._locals), return_exceptions=True)

    @property
    def is_tidying(self) -> bool:
        """Whether a VM is still here that the controller has forgotten."""
        known = {record.uid for record in self.model.vms.values()}
        return bool(self._locals.keys() - known)

    def running(self, record: Record) -> bool:
        """Whether a command may be run in a VM."""
        local = self._locals.get(record.uid)
        return local is not None and local.status == "running"

    async def exec(self, record: Record, *command: str) -> Child:
        """Begin a command in a VM's guest; the caller ends it."""
        argv = [self._tart, "exec", "-i", record.local_name, *command]
        return await spawn(argv, env=self._env, stdin=PIPE)

    async def reaches(self, record: Record) -> bool:
        """Whether the guest lets anybody in."""
        return (await self._run("exec", record.local_name, "true")).code == 0

    async def _sync(self) -> None:
        mine = {r.uid: r for r in self.model.vms.values() if r.worker == self.record.name}
        for uid in list(self._locals.keys() - mine.keys()):
            await self._remove(uid)
        for uid, record in mine.items():
            local = self._locals.get(uid)
            if local is None:
                if not record.is_over():
                    local = self._locals[uid] = Local(record)
                    local.work = asyncio.create_task(self._make(local))
            elif not record.is_over():
                self._report(local)

    def _report(self, local: Local) -> None:
        record = local.record
        record.runs = record.status == local.status == "running"
        if local.status == "running" and record.started_at == NEVER:
            record.started_at = self.model.clock()
        if (record.status, record.message) != (local.status, local.message):
            record.status, record.message = local.status, local.message
            record.version += 1

    async def _make(self, local: Local) -> None:
        record = local.record
        try:
            if record.asked.get("imagePullPolicy") == "Always":
                local.message = "pulling VM image..."
                if not await self._did(local, "pull", "pull", record.asked["image"]):
                    return
            local.message = "cloning VM..."
            if not await self._did(local, "clone", "clone", record.asked["image"], record.local_name):
                return
            sizes = {"--cpu": record.asked.get("cpu"), "--memory": record.asked.get("memory")}
            options = [text for option, size in sizes.items() if size for text in (option, str(size))]
            local.message = "configuring VM..."
            if options and not await self._did(local, "clone", "set", record.local_name, *options):
                return
            record.image_fqn = f"{record.asked['image']}@sha256:{'0' * 64}"
            network = ["--net-softnet"] if record.asked.get("netSoftnet") else []
            argv = [self._tart, "run", "--no-graphics", *network, record.local_name]
            local.process = await spawn(argv, env=self._env)
            script = record.asked.get("startup_script")
            local.status = "running"
            local.message = "VM started, running startup script..." if script else "VM started"
            if script:
                task = asyncio.create_task(self._type(local, script))
                local.tasks.add(task)
            await self._until_it_ends(local)
        except asyncio.CancelledError:
            raise
        except OSError as error:
            self._fail(local, f"VM failed: {error}")

    async def _until_it_ends(self, local: Local) -> None:
        child = local.process
        if child is None:
            return
        _, err = await child.process.communicate()
        if child.process.returncode:
            self._fail(local, f"VM failed: tart command failed: {_first_line(err.decode(errors='replace'))}")
        else:
            self._fail(local, "VM failed: VM exited unexpectedly")

    async def _did(self, local: Local, what: str, *argv: str) -> bool:
        result = await self._run(*argv)
        if result.code:
            self._fail(local, f"failed to {what} the VM: tart command failed: {_first_line(result.err)}")
        return result.code == 0

    async def _type(self, local: Local, script: dict[str, object]) -> None:
        """Type the startup script into a login shell, once the guest lets us in; each line it prints is an event."""
        for attempt in range(1, TRIES + 1):
            if await self.reaches(local.record):
                break
            self._say(local, f"attempt {attempt} to establish SSH connection failed: connection refused")
            await asyncio.sleep(RETRY * attempt)
        else:
            self._fail(
                local,
                "VM failed: failed to run startup script: failed to establish SSH connection: All attempts fail:",
            )
            return
        shell = await self.exec(local.record, "/bin/bash", "-l")
        try:
            code = await self._converse(local, shell, script)
        finally:
            await shell.end(signal.SIGKILL)
        if code and local.status == "running":
            self._fail(local, f"VM failed: failed to run startup script: Process exited with status {code}")
            await self._stop(local)

    async def _converse(self, local: Local, shell: Child, script: dict[str, object]) -> int:
        env = script.get("env", {})
        lines = ["set -e"]
        lines += [f'export {key}="{value}"' for key, value in env.items()] if isinstance(env, dict) else []
        typed = "\n".join([*lines, str(script.get("script_content", "")), "exit", ""])
        stdin, stdout = shell.process.stdin, shell.process.stdout
        if stdin is None or stdout is None:
            return 0
        with suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(typed.encode())  # and never closed, as the real one does not
            await stdin.drain()
        async for line in stdout:
            self._say(local, line.decode(errors="replace").rstrip("\n"))
        return await shell.process.wait()

    def _say(self, local: Local, line: str) -> None:
        at = int(self.model.clock().timestamp())
        local.record.events.append({"kind": "log_line", "timestamp": at, "payload": line})

    def _fail(self, local: Local, message: str) -> None:
        if local.status != "failed":
            local.status, local.message = "failed", message

    async def _stop(self, local: Local) -> None:
        try:
            await self._run("stop", local.record.local_name, "--timeout", POLITE)
        finally:
            if local.process is not None:
                await local.process.end(signal.SIGKILL)

    async def _remove(self, uid: str) -> None:
        """End a VM and remove it. Cancelled on the way, it runs no more, and is known until somebody removes it."""
        local = self._locals[uid]
        tasks = [task for task in (local.work, *local.tasks) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._stop(local)
        await self._run("delete", local.record.local_name)
        del self._locals[uid]

    async def _run(self, *argv: str) -> Result:
        return await run([self._tart, *argv], env=self._env, timeout=LONGEST, late=GUEST_SILENT)


def _first_line(said: str) -> str:
    return json.dumps((said.strip().splitlines() or [""])[0])
