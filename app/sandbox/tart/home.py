"""``TART_HOME`` and the VMs in it: all state is files and the kernel's locks, as with the real tart.

The guest's disk is not ``disk.img``, a file of the right size with nothing in it, but the directory ``guest``
beside it, in which the guest's commands really run (docs/contracts/tart.md §7.1, §7.2 for the rest).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.clock import utcnow
from app.sandbox.tart import faults
from app.sandbox.tart.locking import holder
from app.sandbox.tart.refusals import Absent, Failure, Refusal, missing

GIGABYTE = 1_000_000_000
Config = dict[str, Any]  # config.json: its keys are the types


class VM:
    """A VM's directory, local or in the cache."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path, self.name = path, name or path.name
        self.config_file = path / "config.json"
        self.disk = path / "disk.img"
        self.nvram = path / "nvram.bin"
        self.snapshot = path / "state.vzvmsave"
        self.guest = path / "guest"

    @property
    def is_whole(self) -> bool:
        """Whether all three files are there; else tart does not list it."""
        return self.config_file.is_file() and self.disk.is_file() and self.nvram.is_file()

    @property
    def owner(self) -> int:
        """The process that runs the VM; 0: none."""
        try:
            return holder(self.config_file)
        except FileNotFoundError:
            raise vanished("config.json") from None

    @property
    def state(self) -> str:
        """``running``, ``suspended`` or ``stopped``."""
        if self.owner:
            return "running"
        return "suspended" if self.snapshot.is_file() else "stopped"

    def config(self) -> Config:
        """Return the configuration. Raises Failure where it cannot be read."""
        try:
            found = json.loads(self.config_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise vanished("config.json") from None
        except ValueError:
            found = None
        if not isinstance(found, dict) or "macAddress" not in found:
            text = "The data couldn’t be read because it isn’t in the correct format."
            raise Failure(text)
        return found

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the configuration in place: the file stays the same, and so does a lock on it."""
        self.config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")

    def touch(self) -> None:
        """Note that the VM was used: its time of access is what ``list`` shows."""
        stat = self.path.stat()
        os.utime(self.path, (utcnow().timestamp(), stat.st_mtime))

    @property
    def logical_size(self) -> int:
        """The size of its files as they say."""
        return sum(file.stat().st_size for file in (self.config_file, self.disk, self.nvram))

    @property
    def allocated_size(self) -> int:
        """The size of its files on the host's disk."""
        return sum(file.stat().st_blocks * 512 for file in (self.config_file, self.disk, self.nvram))


class Home:
    """One ``TART_HOME``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local, self.cache, self.temporary = root / "vms", root / "cache" / "OCIs", root / "tmp"
        try:
            for directory in (self.local, self.cache, self.temporary):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"TART_HOME is invalid: {root} does not exist, yet we can't create it: {error.strerror}"
            raise Refusal(text) from error

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Home:
        """Return the home that the environment names."""
        return cls(Path(environ.get("TART_HOME") or Path("~/.tart").expanduser()).absolute())

    @property
    def settings(self) -> faults.Settings:
        """How the stand-in behaves."""
        return faults.read(self.root).settings

    def vms(self) -> list[VM]:
        """Return the local VMs that are whole, by name."""
        return [vm for vm in map(VM, sorted(self.local.iterdir())) if vm.is_whole]

    def vm(self, name: str) -> VM:
        """Return a local VM, noting that it was used. Raises Absent, or Refusal where parts of it are missing."""
        vm = VM(self.local / name)
        if "/" in name or not vm.config_file.is_file():
            raise missing(name)
        if not vm.is_whole:
            raise Refusal("VM is missing some of its files (config.json, disk.img or nvram.bin)")
        vm.touch()
        return vm

    def running_vm(self, name: str) -> tuple[VM, int]:
        """Return a running VM and the process that runs it. Raises Absent."""
        vm = self.vm(name)
        owner = vm.owner
        if not owner:
            raise Absent(f'VM "{name}" is not running')
        return vm, owner


def vanished(file: str) -> Failure:
    """Say what tart says when a file goes away while it is looked at."""
    return Failure(f"The file “{file}” couldn’t be opened because there is no such file.")


def random_mac() -> str:
    """Return a new locally administered address."""
    return "02:" + os.urandom(5).hex(":")


def address_of(mac: str) -> str:
    """Return the address that the simulated network gives to the guest with that MAC."""
    return f"192.168.64.{2 + int(mac.replace(':', ''), 16) % 252}"
