"""Run one command: arguments as a list, bounded in time and output, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import psutil

from app.ports import VMError, VMTimeout
from app.vm.causes import Cause
from app.vm.trouble import cannot_start

OUTPUT_LIMIT = 1_000_000  # bytes a stream; a guest may be hostile and never stop talking
BUFFER = 65536  # bytes
GRACE = 2.0  # s, from the polite signal to SIGKILL


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said and how it ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Child:
    """A process that leads a session, with its output in pipes."""

    process: Process
    transport: asyncio.SubprocessTransport
    exited: asyncio.Event

    async def end(self, polite: signal.Signals) -> None:
        """End it and what it started in its session: *polite* first, SIGKILL soon after; cancelled, at once.

        What left the session goes on, and its hold on our pipes is of no use to it. Neither asyncio's own signal nor
        an early close: both take the exit code of a process that has just ended away from asyncio's watcher, which
        warns of it.
        """
        self._signal_session(polite)
        try:
            await self._wait()
        finally:
            self._signal_session(signal.SIGKILL)
            try:
                await self._wait()
            finally:
                self.transport.close()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.exited.wait()

    def _signal_session(self, number: signal.Signals) -> None:
        pid = self.process.pid
        if self.process.returncode is not None and psutil.pid_exists(pid):
            return  # the number is another process's by now, so nothing of ours is left in the group
        # A group that holds only zombies is "not permitted" on macOS.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


class _Streams(SubprocessStreamProtocol):
    """The streams of a child; one that cannot be waited for is killed as soon as it is connected."""

    def __init__(self) -> None:
        super().__init__(BUFFER, asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self.is_unwanted = False

    def process_exited(self) -> None:
        # asyncio's own wait is for the end of the output too, which whoever inherited it may hold open.
        self.exited.set()
        super().process_exited()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.is_unwanted:
            transport.close()
            transport.get_extra_info("subprocess").wait()


async def spawn(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: int = DEVNULL, stderr: int = PIPE
) -> Child:
    """Start *argv* in a session of its own. Raises VMError, and then nothing of it runs."""
    loop = asyncio.get_running_loop()
    streams = _Streams()
    try:
        transport, _ = await loop.subprocess_exec(
            lambda: streams,
            *argv,
            env=dict(env),
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except (OSError, RuntimeError) as error:
        streams.is_unwanted = True
        raise cannot_start(argv[0], error) from error
    return Child(Process(transport, streams, loop), transport, streams.exited)


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    late: Cause,
    stdin: bytes | None = None,
    polite: signal.Signals = signal.SIGTERM,
) -> Result:
    """Run *argv* and return its result, whatever its exit code.

    Raises VMTimeout with the cause *late* after *timeout* seconds, VMError where it cannot be started or talks
    without end. Then, and when the caller is cancelled, the process is ended: *polite* first, SIGKILL soon after.
    """
    child = await spawn(argv, env=env, stdin=DEVNULL if stdin is None else PIPE)
    try:
        async with AsyncExitStack() as unfinished:
            unfinished.push_async_callback(child.end, polite)
            async with asyncio.timeout(timeout):
                out, err = await _converse(child.process, stdin)
                code = await child.process.wait()
            unfinished.pop_all()
    except TimeoutError as error:
        msg = f"`{_shown(argv)}` did not end within {timeout:.0f} s: {late.detail}"
        raise VMTimeout(msg, reason=late.code, host_wide=late.host_wide) from error
    return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv[:3])


async def _converse(process: Process, stdin: bytes | None) -> tuple[bytes, bytes]:
    """Feed and read all streams at once; whichever fails first ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            out, err = group.create_task(_read(process.stdout)), group.create_task(_read(process.stderr))
            group.create_task(_feed(process.stdin, stdin))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return out.result(), err.result()


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    found = bytearray()
    while stream is not None and (chunk := await stream.read(BUFFER)):
        found += chunk
        if len(found) > OUTPUT_LIMIT:
            msg = f"a command printed more than {OUTPUT_LIMIT} bytes: what answers in the guest is not to be trusted"
            raise VMError(msg, reason="output_flood")
    return bytes(found)


async def _feed(stream: asyncio.StreamWriter | None, data: bytes | None) -> None:
    if stream is None or data is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading: its result says why
        stream.write(data)
        await stream.drain()
    stream.close()
