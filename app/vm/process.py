"""Run one command: arguments as a list, bounded in time and output, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from app.ports import VMError, VMTimeout

OUTPUT_LIMIT = 1_000_000  # bytes a stream; a guest may be hostile and never stop talking
GRACE = 2.0  # s, from the polite signal to SIGKILL


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said and how it ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    stdin: bytes | None = None,
    polite: signal.Signals = signal.SIGTERM,
) -> Result:
    """Run *argv* and return its result, whatever its exit code.

    Raises VMTimeout after *timeout* seconds, VMError where it cannot be started or talks without end. Then, and
    when the caller is cancelled, the process is ended: *polite* first, SIGKILL soon after.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=DEVNULL if stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise cannot_start(argv[0], error) from error
    try:
        async with AsyncExitStack() as unfinished:
            unfinished.push_async_callback(end, process, polite)
            async with asyncio.timeout(timeout):
                out, err, _ = await asyncio.gather(
                    _read(process.stdout), _read(process.stderr), _feed(process.stdin, stdin)
                )
                code = await process.wait()
            unfinished.pop_all()
    except TimeoutError as error:
        msg = f"`{_shown(argv)}` did not end within {timeout:.0f} s"
        raise VMTimeout(msg, reason="command_timeout") from error
    return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def end(process: Process, polite: signal.Signals) -> None:
    """End a process that leads a session, and what it started there: *polite* first, SIGKILL soon after.

    Cancelled meanwhile, it kills at once. What left the session is not waited for without end.
    """
    with suppress(ProcessLookupError):
        process.send_signal(polite)
    try:
        await _wait(process)
    finally:
        # A group that holds only zombies is "not permitted" on macOS.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        await _drain(stream)
    await _wait(process)


async def _drain(stream: asyncio.StreamReader | None) -> None:
    """Read what is left, so that the pipe is closed; what holds it open still is not waited for without end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            while stream is not None and await stream.read(65536):
                pass


async def _wait(process: Process) -> None:
    # Until Python 3.13 this waits for the end of the output too, which whoever inherited it may hold open.
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.wait()


def cannot_start(program: str, error: OSError) -> VMError:
    """Say that a program could not be started, which any VM here would have met."""
    msg = f"cannot start {program}: {error.strerror}"
    return VMError(msg, reason="command_missing", host_wide=True)


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv[:3])


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    found = bytearray()
    while stream is not None and (chunk := await stream.read(65536)):
        found += chunk
        if len(found) > OUTPUT_LIMIT:
            msg = f"a command printed more than {OUTPUT_LIMIT} bytes"
            raise VMError(msg, reason="output_flood")
    return bytes(found)


async def _feed(stream: asyncio.StreamWriter | None, data: bytes | None) -> None:
    if stream is None or data is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading: its result says why
        stream.write(data)
        await stream.drain()
    stream.close()
