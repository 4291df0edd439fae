"""Copies of a VM's files: the disk keeps its size and takes no space, the guest's directory is really copied."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.sandbox.tart.locking import try_flock

FILES = ("config.json", "nvram.bin", "manifest.json", "state.vzvmsave")


@contextmanager
def workspace(temporary: Path, name: str) -> Iterator[Path]:
    """Make a locked directory in ``tmp`` to work in, gone afterwards unless it was moved away.

    The real tart may lose it to a collection of garbage before it is locked; here that is a fault to ask for.
    """
    part = temporary / name
    lock = _make_locked(part)
    while lock is None:
        lock = _make_locked(part)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.close(lock)


def _make_locked(part: Path) -> int | None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with suppress(FileNotFoundError):
        lock = try_flock(part)
        if lock is not None and part.is_dir():
            return lock
        if lock is not None:
            os.close(lock)
    return None


def copy_image(source: Path, target: Path) -> None:
    """Copy a VM, with its snapshot if it has one. Of a running one the copy is only about right, as with tart."""
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    make_disk(target / "disk.img", (source / "disk.img").stat().st_size)
    if (source / "guest").is_dir():
        try:
            shutil.copytree(source / "guest", target / "guest", symlinks=True, ignore=_special)
        except shutil.Error:  # files came and went meanwhile
            return


def make_disk(file: Path, size: int) -> None:
    """Make an empty disk that says it has *size* bytes, or let one grow."""
    file.touch()
    os.truncate(file, size)


def _special(directory: str, names: list[str]) -> list[str]:
    found = []
    for name in names:
        mode = Path(directory, name).lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            found.append(name)
    return found
