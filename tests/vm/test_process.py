"""Running one command: bounded in time and output, and nothing left running."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from app.ports import VMError, VMTimeout
from app.vm.process import run

ENV = {"PATH": "/bin:/usr/bin"}
SLEEPER = (sys.executable, "-c", "import sys,time; print(1, flush=True); time.sleep(60)")


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "sleep(60)" in " ".join(p.cmdline())]


async def test_result() -> None:
    """Exit code and both streams come back, and standard input arrives."""
    result = await run(["/bin/sh", "-c", "cat; echo no >&2; exit 3"], env=ENV, timeout=5, stdin=b"yes")
    assert (result.code, result.out, result.err) == (3, "yes", "no\n")


async def test_time_limit() -> None:
    """A command that does not end is ended, and its arguments beyond the first few are not told."""
    with pytest.raises(VMTimeout) as late:
        await run([*SLEEPER, "secret"], env=ENV, timeout=0.2)
    assert "secret" not in str(late.value)
    assert children() == []


async def test_cancelled() -> None:
    """When nobody waits any more the process goes too."""
    task = asyncio.create_task(run(SLEEPER, env=ENV, timeout=30))
    while not children():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_endless_output() -> None:
    """A command that talks without end is cut off."""
    with pytest.raises(VMError) as flood:
        await run(["/bin/sh", "-c", "yes"], env=ENV, timeout=20)
    assert flood.value.reason == "output_flood"


async def test_missing_program(tmp_path: Path) -> None:
    """A program that is not there is the host's trouble."""
    with pytest.raises(VMError) as missing:
        await run([str(tmp_path / "none")], env=ENV, timeout=5)
    assert missing.value.host_wide


async def test_the_polite_signal_comes_first(tmp_path: Path) -> None:
    """The process gets the signal it was promised, and SIGKILL only if it does not heed it."""
    script = f"trap 'touch \"{tmp_path}/heard\"; exit 0' INT; echo on; while :; do sleep 0.05; done"
    with pytest.raises(VMTimeout):
        await run(["/bin/sh", "-c", script], env=ENV, timeout=0.4, polite=signal.SIGINT)
    assert (tmp_path / "heard").exists()
