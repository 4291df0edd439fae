"""The kept output of a VM and its runner, as a stream: what there is, or all that comes until the runner is gone.

It is text of the job's: trust none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from app.api.context import Context
from app.domain.runners import RunnerState

CHUNK = 65536
BETWEEN_LOOKS = 0.5  # s


def once(files: tuple[Path, ...]) -> Iterator[bytes]:
    """Yield what *files* hold."""
    for file in files:
        try:
            opened = file.open("rb")
        except FileNotFoundError:
            continue  # retention was quicker
        yield _title(file)
        with opened:
            while chunk := opened.read(CHUNK):
                yield chunk
        yield b"\n"


async def followed(context: Context, name: str) -> AsyncIterator[bytes]:
    """Yield what comes, file by file, until the runner is gone and all of it was told."""
    told: dict[Path, int] = {}
    last: Path | None = None
    while True:
        found = await context.reader.runner(name)
        over = found is None or found[0].state is RunnerState.GONE
        for file in context.vms.logs(name):
            while chunk := await asyncio.to_thread(_after, file, told):
                if file != last:
                    yield (b"\n" if last else b"") + _title(file)
                    last = file
                yield chunk
        if over:
            return
        await asyncio.sleep(BETWEEN_LOOKS)


def _after(file: Path, told: dict[Path, int]) -> bytes:
    """Return the next piece of *file*, and note how much of it was told; one that was begun anew is told anew."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            place = told.get(file, 0)
            opened.seek(place if place <= size else 0)
            chunk = opened.read(CHUNK)
            told[file] = opened.tell()
    except FileNotFoundError:
        return b""
    return chunk


def _title(file: Path) -> bytes:
    return f"==> {file.name} <==\n".encode()
