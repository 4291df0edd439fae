"""What tart removes by itself or in bulk: garbage in ``tmp`` before most commands, and ``prune``.

Locked entries of ``tmp`` belong to somebody; the rest is what killed commands left (docs/contracts/tart.md §7.5).
"""

from __future__ import annotations

import os
import shutil
import sys

from app.clock import utcnow
from app.sandbox.tart import faults, leaks
from app.sandbox.tart.home import VM, Home
from app.sandbox.tart.locking import try_flock
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Misuse

PRUNE = Spec("prune", values=("--entries", "--older-than", "--space-budget"))
DAY = 86_400
GIBIBYTE = 2**30


def collect_garbage(home: Home) -> None:
    """Remove the unlocked entries of ``tmp``."""
    if faults.take(home.root, "gc_noise"):
        print("Failed to perform garbage collection: The file doesn’t exist.", file=sys.stderr)
    for entry in home.temporary.iterdir():
        try:
            lock = try_flock(entry)
        except FileNotFoundError:
            continue  # another command was quicker
        if lock is not None:
            shutil.rmtree(entry, ignore_errors=True)
            os.close(lock)


def prune(home: Home, arguments: list[str]) -> None:
    """Remove cached images, or local VMs that do not run, by age or size."""
    options = parse(PRUNE, arguments)
    days, budget = options.number("--older-than"), options.number("--space-budget")
    if days is None and budget is None:
        raise Misuse("at least one pruning criteria must be specified")
    if options.text("--entries", "caches") == "vms":
        leaks.report(home.root, "prune-vms", "`prune --entries vms` deletes images to clone from, too")
        found = [vm for vm in home.vms() if not vm.owner]
    else:
        found = [VM(place) for place in home.cache.rglob("sha256:*")]
    found.sort(key=lambda vm: vm.path.stat().st_atime, reverse=True)
    from app.sandbox.tart.cloning import remove_tree  # only here, since garbage is collected by all commands

    kept = 0
    for vm in found:
        kept += vm.allocated_size
        old = days is not None and utcnow().timestamp() - vm.path.stat().st_atime > days * DAY
        if old or (budget is not None and kept > budget * GIBIBYTE):
            remove_tree(vm.path)
