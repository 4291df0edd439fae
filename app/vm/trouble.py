"""Trouble of the host itself (a full disk, no more open files, a directory that is gone), as the port's error."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from app.ports import VMError
from app.vm.causes import DISK_FULL, HOST_EXHAUSTED, TART_MISSING, Cause

NOT_PERMITTED = Cause(
    "not_permitted",
    "the user that runs CiderMill may not do that: look at owner and mode of the directory, and at whether its "
    "volume is mounted for writing",
    host_wide=True,
)
PATH_LOST = Cause(
    "path_lost",
    "a directory is not where it was, or something else is in its place: mount its volume, or make it again",
    host_wide=True,
)
HOST_TROUBLE = Cause(
    "host_trouble", "macOS refused it: see the Mac's own log, and the health of its disk", host_wide=True
)
CAUSES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EMFILE: HOST_EXHAUSTED,
    errno.ENFILE: HOST_EXHAUSTED,
    errno.EAGAIN: HOST_EXHAUSTED,
    errno.ENOMEM: HOST_EXHAUSTED,
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.EROFS: NOT_PERMITTED,
    errno.ENOENT: PATH_LOST,
    errno.ENOTDIR: PATH_LOST,
    errno.EEXIST: PATH_LOST,
}


@contextmanager
def told_as_vm_error(what: str) -> Iterator[None]:
    """Raise VMError where the system refuses what is done within; *what* names it."""
    try:
        yield
    except TimeoutError:
        raise  # the only OSError that a limit in time raises
    except OSError as error:
        raise _vm_error(what, error, CAUSES.get(error.errno or 0, HOST_TROUBLE)) from error


def cannot_start(program: str, error: OSError | RuntimeError) -> VMError:
    """Say why a program could not be started; Python raises RuntimeError where it gets no thread to wait for one."""
    cause = HOST_EXHAUSTED
    if isinstance(error, OSError):
        cause = CAUSES.get(error.errno or 0, TART_MISSING)
        cause = cause if cause in {DISK_FULL, HOST_EXHAUSTED} else TART_MISSING
    return _vm_error(f"cannot start {program}", error, cause)


def _vm_error(what: str, error: OSError | RuntimeError, cause: Cause) -> VMError:
    said = error.strerror if isinstance(error, OSError) else None
    msg = f"{what} ({said or error}): {cause.detail}"
    return VMError(msg, reason=cause.code, host_wide=cause.host_wide)
