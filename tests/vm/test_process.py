"""Running one command: bounded in time and output, and nothing left running."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from app.ports import VMError, VMTimeout
from app.vm.causes import Cause
from app.vm.process import run, spawn
from tests.vm.scarcity import no_threads, open_files, room_for

ENV = {"PATH": "/bin:/usr/bin"}
LATE = Cause("too_late", "wait longer")
SLEEPER = (sys.executable, "-c", "import sys,time; print(1, flush=True); time.sleep(60)")


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "sleep(60)" in " ".join(p.cmdline())]


async def test_result() -> None:
    """Exit code and both streams come back, and standard input arrives."""
    result = await run(
        ["/bin/sh", "-c", "cat; echo no >&2; exit 3"], env=ENV, late=LATE, timeout=5, stdin=b"yes"
    )
    assert (result.code, result.out, result.err) == (3, "yes", "no\n")


async def test_time_limit() -> None:
    """A command that does not end is ended, and its arguments beyond the first few are not told."""
    with pytest.raises(VMTimeout) as late:
        await run([*SLEEPER, "secret"], env=ENV, late=LATE, timeout=0.2)
    assert "secret" not in str(late.value)
    assert (late.value.reason, "wait longer" in str(late.value)) == ("too_late", True)
    assert children() == []


async def test_cancelled() -> None:
    """When nobody waits any more the process goes too."""
    task = asyncio.create_task(run(SLEEPER, env=ENV, late=LATE, timeout=30))
    while not children():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_endless_output() -> None:
    """A command that talks without end is cut off."""
    with pytest.raises(VMError) as flood:
        await run(["/bin/sh", "-c", "yes"], env=ENV, late=LATE, timeout=20)
    assert flood.value.reason == "output_flood"


async def test_missing_program(tmp_path: Path) -> None:
    """A program that is not there is the host's trouble."""
    with pytest.raises(VMError) as missing:
        await run([str(tmp_path / "none")], env=ENV, late=LATE, timeout=5)
    assert (missing.value.reason, missing.value.host_wide) == ("tart_missing", True)


async def test_the_polite_signal_comes_first(tmp_path: Path) -> None:
    """The process gets the signal it was promised, and SIGKILL only if it does not heed it."""
    script = f"cd '{tmp_path}'; trap 'touch heard; exit 0' INT; touch ready; while :; do sleep 0.05; done"
    task = asyncio.create_task(
        run(["/bin/sh", "-c", script], env=ENV, late=LATE, timeout=60, polite=signal.SIGINT)
    )
    while not (tmp_path / "ready").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "heard").exists()


async def test_an_end_in_the_same_moment(caplog: pytest.LogCaptureFixture) -> None:
    """A process that ends by itself just when it is told to costs asyncio no exit code, of which it would warn."""
    for _ in range(20):
        child = await spawn(["/bin/true"], env=ENV)
        assert child.process.stdout is not None
        await child.process.stdout.read()
        await child.end(signal.SIGINT)
    assert caplog.messages == []


@pytest.mark.parametrize("files", range(0, 12, 2))
async def test_no_more_open_files(files: int) -> None:
    """However few files may be opened, a command runs or is refused as the host's trouble; nothing of it is left."""
    await run(["/bin/true"], env=ENV, late=LATE, timeout=5)
    before = open_files()
    with room_for(files):
        (outcome,) = await asyncio.gather(
            run([*SLEEPER[:2], "print(1)"], env=ENV, late=LATE, timeout=10), return_exceptions=True
        )
    assert getattr(outcome, "out", None) == "1\n" or getattr(outcome, "reason", None) == "host_exhausted"
    assert len(open_files()) == len(before)


async def test_no_more_threads() -> None:
    """A command whose end nobody could wait for is refused, and does not go on."""
    with no_threads(), pytest.raises(VMError) as refused:
        await run(SLEEPER, env=ENV, late=LATE, timeout=5)
    assert (refused.value.reason, refused.value.host_wide) == ("host_exhausted", True)
    while children():
        await asyncio.sleep(0)


async def test_what_left_the_session_holds_nothing_of_ours() -> None:
    """A process that got away from a command, with its pipes, costs us no open file."""
    escaped = "import os,time; os.fork() or (os.setsid(), time.sleep(60)); time.sleep(60)"
    before = open_files()
    with pytest.raises(VMTimeout):
        await run([sys.executable, "-c", escaped], env=ENV, late=LATE, timeout=0.5)
    await asyncio.sleep(0)
    assert len(open_files()) == len(before)
    for left in psutil.process_iter(["cmdline"]):
        if escaped in (left.info["cmdline"] or ()):
            left.kill()
