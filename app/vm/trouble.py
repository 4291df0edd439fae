"""Trouble of the host itself (a full disk, a directory that may not be read), turned into the port's error."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from app.ports import VMError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def told_as_vm_error(what: str) -> Iterator[None]:
    """Raise VMError where the system refuses what is done within; *what* names it."""
    try:
        yield
    except TimeoutError:
        raise  # the only OSError that a limit in time raises
    except OSError as error:
        reason = "disk_full" if error.errno in FULL else "host_trouble"
        raise VMError(f"{what}: {error.strerror or error}", reason=reason, host_wide=True) from error
