"""Runner lives inside the model host's guests: what a real runner would do, on the running event loop's time.

Joins :class:`app.sandbox.host.ModelHost` to :class:`app.sandbox.github.ModelGitHub`: a delivered JIT
configuration connects, waits for a job, runs it for its seconds, ends with it, and the guest powers off. A VM
that ends or is deleted takes its runner with it, wherever in its life it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.sandbox.github import ModelGitHub
from app.sandbox.github_jit import BadBlob
from app.sandbox.github_runners import SessionRefused
from app.sandbox.github_values import Job, Session
from app.sandbox.host import ModelHost
from app.sandbox.hostparts import ModelVM

VERSION_DEPRECATED_CODE = 7
BETWEEN_LOOKS = 1.0  # s, at whether the guest is still held


@dataclass(slots=True, kw_only=True)
class Pace:
    """How long the stages of a runner's life take, in seconds."""

    connect: float = 0.0
    pick_up: float = 0.0  # from the assignment to the job's start
    power_off: float = 0.0


class RunnerLives:
    """Every runner in every guest of one host; made once, it hooks itself into both models."""

    def __init__(self, model: ModelGitHub, host: ModelHost, *, pace: Pace | None = None) -> None:
        self._model = model
        self._host = host
        self.pace = pace or Pace()
        self.version = "2.336.0"  # of the runner in every guest
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by the identity of the VM: names may come again
        self._bells: dict[str, asyncio.Event] = {}  # by session
        host.connected, host.lost = self.connected, self.lost
        model.runners.watchers.append(self._ring)

    def connected(self, vm: ModelVM) -> None:
        """Begin the life of the runner that was just delivered to *vm*."""
        task = asyncio.get_running_loop().create_task(self._live(vm))
        self._tasks[id(vm)] = task
        task.add_done_callback(lambda _: self._tasks.pop(id(vm), None))

    def lost(self, vm: ModelVM) -> None:
        """End the life of the runner in a VM that is no more."""
        task = self._tasks.get(id(vm))
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self) -> None:
        """End all lives."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ring(self, session: Session) -> None:
        bell = self._bells.get(session.id)
        if bell is not None:
            bell.set()

    async def _live(self, vm: ModelVM) -> None:
        if vm.jit is None:
            return
        await asyncio.sleep(self.pace.connect)
        self._model.tick()
        try:
            session = self._model.runners.connect(vm.jit.encoded, version=self.version)
        except (SessionRefused, BadBlob) as error:
            deprecated = isinstance(error, SessionRefused) and error.code == "version_deprecated"
            if deprecated:
                await self._power_off(vm, VERSION_DEPRECATED_CODE, "runner_too_old")
            else:
                await self._power_off(vm, 0, "guest_powered_off")
            return
        self._bells[session.id] = asyncio.Event()
        ending = "worked"
        try:
            await self._work(vm, session)
        except SessionRefused:
            ending = "guest_powered_off"  # its registration is gone: the listener ends
        finally:
            self._bells.pop(session.id, None)
            self._model.runners.disconnect(session)
        await self._power_off(vm, 0, ending)

    async def _work(self, vm: ModelVM, session: Session) -> None:
        runners, bell = self._model.runners, self._bells[session.id]
        while runners.next_job(session) is None:
            await bell.wait()
            bell.clear()
        await asyncio.sleep(self.pace.pick_up)
        job = runners.start(session)
        vm.worker_alive = True
        await self._run(job, bell)
        runners.finish(session)
        vm.worker_alive = False

    @staticmethod
    async def _run(job: Job, bell: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(job.seconds):
                while not job.cancelled:
                    await bell.wait()
                    bell.clear()
        except TimeoutError:
            pass  # it ran its time

    async def _power_off(self, vm: ModelVM, code: int, ending: str) -> None:
        vm.runner_alive, vm.exit_code = False, code
        await asyncio.sleep(self.pace.power_off)
        while asyncio.get_running_loop().time() < vm.held_until:  # noqa: ASYNC110  # it may be put off meanwhile
            await asyncio.sleep(BETWEEN_LOOKS)
        if self._host.vms.get(vm.name) is vm:
            self._host.end(vm.name, ending)
