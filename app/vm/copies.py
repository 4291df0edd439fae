"""What is kept of the output of VMs and their runners on this host, and the tasks that copy it there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from pathlib import Path

from app.vm.trouble import told_as_vm_error


class Copies:
    """Tasks that copy output, one for each runner."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, copy: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin *copy* for a runner; nothing where that is under way."""
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.create_task(copy())
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def stop(self, name: str) -> None:
        """End a runner's."""
        await _cancel(task for task in [self._tasks.get(name)] if task)

    async def close(self) -> None:
        """End all."""
        await _cancel(self._tasks.values())


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)


def kept(folder: Path, files: Iterable[str]) -> tuple[Path, ...]:
    """Return those of *files* that there are in a runner's *folder*."""
    return tuple(folder / file for file in files if (folder / file).is_file())


def forget(runners: Path, before: datetime, lives: Callable[[str], bool]) -> None:
    """Remove what is kept in *runners* of those that said nothing since *before*, unless one *lives*. Raises VMError."""
    oldest = before.timestamp()
    with told_as_vm_error(f"cannot tidy {runners}"):
        for folder in runners.iterdir() if runners.is_dir() else ():
            if not folder.is_dir():
                continue
            newest = max(f.stat().st_mtime for f in (folder, *folder.iterdir()))
            if newest < oldest and not lives(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
