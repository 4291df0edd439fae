"""The facts about tart and what runs on this machine; most of them there are on Linux too."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.clock import utcnow
from app.doctor.shell import Shell
from app.domain.pools import Names, Pool
from app.domain.world import HostLook, World
from app.ports import VMBackend, VMError
from app.vm.command import MORE_PATH, Tart
from app.vm.hostcheck import tart_version

BARE_PATH = os.pathsep.join(
    ("/usr/bin", "/bin", "/usr/sbin", "/sbin", *MORE_PATH)
)  # under launchd, as we make it
MACHINE = "com.apple.Virtualization.VirtualMachine"  # the process that a VM of any program is


@dataclass(frozen=True, slots=True)
class Process:
    """A process that may be a VM."""

    pid: int
    argv: tuple[str, ...]
    seconds: float  # since it began


@dataclass(frozen=True, slots=True, kw_only=True)
class Softnet:
    """The program that keeps guests apart, and whether it may do so."""

    path: str
    setuid: bool
    sudo: bool  # it may be started by sudo without a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What there is on this machine."""

    pools: Sequence[Pool]
    names: Names
    slots: int
    min_free_gb: float
    program: str  # tart, as it is configured
    version: tuple[int, ...] | None = None  # of tart; None: an unofficial build
    tart_trouble: VMError | None = None
    softnet: Softnet | None = None
    off_path: Mapping[str, str] = field(
        default_factory=dict
    )  # programs that launchd would not find, and where they are
    free_gb: float = 0.0
    look: HostLook | None = None
    look_trouble: str = ""
    processes: tuple[Process, ...] = ()
    world: World | None = None  # of the running server, which knows what is in the images


async def gather(
    shell: Shell,
    tart: Tart,
    vms: VMBackend,
    *,
    pools: Sequence[Pool],
    names: Names,
    slots: int,
    min_free_gb: float,
    processes: Callable[[], Iterable[Process]] | None = None,
    bare_path: str = BARE_PATH,
    world: World | None = None,
) -> Host:
    """Look at it all."""
    version, trouble = await _version(tart)
    look, look_trouble = await _look(vms) if trouble is None else (None, str(trouble))
    return Host(
        pools=tuple(pools),
        names=names,
        slots=slots,
        min_free_gb=min_free_gb,
        program=tart.program,
        version=version,
        tart_trouble=trouble,
        softnet=await _softnet(shell, tart),
        off_path=dict(_off_path((tart.program, "softnet"), tart.env["PATH"], bare_path)),
        free_gb=shutil.disk_usage(_existing(tart.home)).free / 1e9,
        look=look,
        look_trouble=look_trouble,
        processes=tuple((processes or running)()),
        world=world,
    )


async def _version(tart: Tart) -> tuple[tuple[int, ...] | None, VMError | None]:
    try:
        return await asyncio.to_thread(tart_version, tart), None
    except VMError as error:
        return None, error


async def _look(vms: VMBackend) -> tuple[HostLook | None, str]:
    try:
        return await vms.look(), ""
    except VMError as error:
        return None, str(error)


async def _softnet(shell: Shell, tart: Tart) -> Softnet | None:
    path = shutil.which("softnet", path=tart.env["PATH"])
    if path is None:
        return None
    told = await asyncio.to_thread(Path(path).stat)
    setuid = told.st_uid == 0 and bool(told.st_mode & stat.S_ISUID)
    sudo = setuid or (await shell(("sudo", "-n", "softnet", "--help"))).ok
    return Softnet(path=path, setuid=setuid, sudo=sudo)


def _off_path(programs: Iterable[str], path: str, bare: str) -> Iterable[tuple[str, str]]:
    for program in programs:
        found = shutil.which(program, path=path)
        if found is not None and os.sep not in program and shutil.which(program, path=bare) is None:
            yield program, found


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def running() -> Iterable[Process]:
    """Return the processes that may be VMs: each ``tart run``, and each VM of Apple's framework."""
    now = utcnow().timestamp()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            argv = _argv(process)
            if argv:
                yield Process(process.pid, argv, now - process.create_time())


def _argv(process: psutil.Process) -> tuple[str, ...]:
    if process.name().startswith(MACHINE[:15]):  # macOS keeps no more of a name
        return (MACHINE,)
    argv = tuple(process.cmdline())
    is_tart = any(Path(part).name == "tart" for part in argv[:2])
    return argv if is_tart and "run" in argv[1:3] else ()
