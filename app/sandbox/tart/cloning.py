"""``clone``, ``delete``, ``rename``: VMs come to be in ``tmp`` and are moved into place, and go the same way.

A clone replaces a VM of its name without a word, a running one too: the driver must not let that happen, so it is
noted as a violation. When a clone gets a MAC address of its own is docs/contracts/tart.md §1.4.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from app.sandbox.tart import faults, leaks
from app.sandbox.tart.copying import copy_image, workspace
from app.sandbox.tart.home import VM, Home, random_mac
from app.sandbox.tart.locking import flocked, take_record
from app.sandbox.tart.names import Remote, remote
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Failure, Misuse, Refusal, missing

CLONE = Spec(
    "clone",
    ("source-name", "new-name"),
    flags=("--insecure", "--stacked"),
    values=("--concurrency", "--prune-limit"),
)
DELETE = Spec("delete", ("name",), many=True)
RENAME = Spec("rename", ("name", "new-name"))
LINGER = 3.0  # s, for which a guest that just lost its power may still write


def clone(home: Home, arguments: list[str]) -> None:
    """Make a VM from another one, or from an image."""
    options = parse(CLONE, arguments)
    source_name, name = options.names
    if "/" in name:
        raise options.misuse("<new-name> should be a local name")
    concurrency = options.number("--concurrency")
    if concurrency is not None and concurrency < 1:
        raise options.misuse("network concurrency cannot be less than 1")
    if name in {"", ".", ".."}:
        leaks.report(home.root, "clone-name", f"clone to {name!r} would replace the directory of all VMs")
        raise Failure("the stand-in does not carry this out: it would replace the directory of all VMs")
    source = _source(home, source_name)
    with workspace(home.temporary, str(uuid.uuid4()).upper()) as part, flocked(home.root):
        _fill(home, source, part, name)
        _move_in(home, part, name)


def _source(home: Home, name: str) -> VM:
    image = remote(name)
    if image is None:
        return home.vm(name)
    place = image.path(home.cache)
    if not place.is_dir():
        leaks.report(home.root, "clone-pulls", f"{image} was not pulled before it was cloned")
        from app.sandbox.tart.registry import fetch  # only here, since its digests take a while to import

        place = fetch(home, image)
    vm = VM(place.resolve(), name)
    vm.touch()
    return vm


def _fill(home: Home, source: VM, part: Path, name: str) -> None:
    if faults.take(home.root, "clone_unlockable", name):
        raise Failure(f"failed to lock {part}: No such file or directory")
    if faults.take(home.root, "clone_fails", name):
        raise Failure(faults.UNKNOWN_TEXT)
    slow = faults.take(home.root, "clone_slow", name)
    time.sleep(slow.seconds if slow else 0)
    if faults.take(home.root, "clone_disk_full", name):
        text = f"“disk.img” couldn’t be copied to “{part.name}” because there isn’t enough space."
        raise Failure(text)
    if source.owner:
        leaks.report(home.root, "clone-running", f"{name} is a clone of {source.name} while that runs")
    copy_image(source.path, part)
    copy = VM(part)
    config = copy.config()
    taken = {vm.config()["macAddress"] for vm in home.vms()}
    if config["macAddress"] in taken and not source.snapshot.is_file():
        copy.configure({**config, "macAddress": random_mac()})


def _move_in(home: Home, part: Path, name: str) -> None:
    target = VM(home.local / name)
    replaced = home.temporary / str(uuid.uuid4()).upper()
    if target.path.exists():
        running = target.config_file.is_file() and target.owner
        kind = "name-reused" if running else "clone-over"
        leaks.report(home.root, kind, f"clone replaced the {'running ' if running else ''}VM {name}")
        target.path.rename(replaced)
    part.rename(target.path)
    remove_tree(replaced)


def delete(home: Home, arguments: list[str]) -> None:
    """Delete VMs or cached images, up to the first that fails."""
    for name in parse(DELETE, arguments).names:
        image = remote(name)
        if image is None:
            _delete_local(home, name)
        else:
            _delete_cached(home, image)


def _delete_local(home: Home, name: str) -> None:
    vm = VM(home.local / name)
    if "/" in name or not vm.config_file.is_file():
        raise missing(name)
    if faults.take(home.root, "delete_fails", name):
        raise Failure(f"“{name}” couldn’t be removed because you don’t have permission to access it.")
    if take_record(vm.config_file) is None:
        raise Refusal(f'VM "{name}" is running')
    if faults.take(home.root, "delete_leaves", name):
        vm.config_file.unlink()
        return
    gone = home.temporary / str(uuid.uuid4()).upper()
    vm.path.rename(gone)
    remove_tree(gone)


def _delete_cached(home: Home, image: Remote) -> None:
    place = image.path(home.cache)
    if not place.is_dir():
        raise missing(str(image))
    if image.is_digest:
        remove_tree(place)
    else:
        place.unlink()
    links = [entry for entry in place.parent.iterdir() if entry.is_symlink()]
    used = {link.resolve() for link in links}
    for entry in place.parent.iterdir():
        kept = entry in used or (entry / ".explicitly-pulled").exists()
        if not entry.is_symlink() and not kept:
            remove_tree(entry)


def rename(home: Home, arguments: list[str]) -> None:
    """Give a VM another name; a running one goes on."""
    name, new = parse(RENAME, arguments).names
    if "/" in new:
        raise Misuse("<new-name> should be a local name")
    if not VM(home.local / name).is_whole:
        raise Misuse(f"failed to rename a non-existent local VM: {name}")
    if VM(home.local / new).is_whole:
        raise Misuse(f"failed to rename VM {name}, target VM {new} already exists, delete it first!")
    (home.local / name).rename(home.local / new)


def remove_tree(path: Path) -> None:
    """Remove a directory, also while a guest that lost its power this moment still writes into it."""
    end = time.monotonic() + LINGER
    while path.is_dir() and time.monotonic() < end:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # somebody else removes it, too
        except OSError:
            _open_up(path)
            time.sleep(0.02)


def _open_up(path: Path) -> None:
    """Give back the directories that a guest closed against its own user."""
    for directory, _, _ in os.walk(path):
        with suppress(OSError):
            Path(directory).chmod(0o700)
