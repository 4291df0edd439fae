"""A machine that has no more open files or threads to give, for real and for a moment."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

TOO_MUCH = 2**46  # bytes for a thread's stack: more than there is


def open_files() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/dev/fd").iterdir())


@contextmanager
def room_for(files: int) -> Iterator[None]:
    """Let this process open only so many files more."""
    before, used = resource.getrlimit(resource.RLIMIT_NOFILE), open_files()
    free = (number for number in count() if number not in used)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, files, None)), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread start."""
    usual = threading.stack_size(TOO_MUCH)
    try:
        yield
    finally:
        threading.stack_size(usual)
