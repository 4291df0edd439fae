"""``list`` and ``get``: what there is, in the JSON that drivers read (docs/contracts/tart.md §2).

The order of keys is shuffled and slashes are escaped on purpose, as Swift's encoder may do.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from app.sandbox.tart import faults
from app.sandbox.tart.home import GIGABYTE, VM, Home, vanished
from app.sandbox.tart.names import Remote
from app.sandbox.tart.options import Options, Spec, parse

LIST = Spec("list", flags=("--quiet",), values=("--source", "--format"), short=(("-q", "--quiet"),))
GET = Spec("get", ("name",), values=("--format",))
ACCESSED_SINCE = (2, 31)
Row = dict[str, Any]  # one JSON object of tart's


def list_vms(home: Home, arguments: list[str]) -> None:
    """Print local VMs, then cached images, each by name."""
    options = parse(LIST, arguments)
    source = options.text("--source", "")
    if source not in {"", "local", "oci"}:
        raise options.misuse(f"'{source}' is not a valid <source>")
    form = _format(options)
    if faults.take(home.root, "list_fails"):
        raise vanished("config.json")
    if faults.take(home.root, "list_garbage"):
        print("objc[512]: Class VZVirtualMachine is implemented in both of two places. One is undefined.")
        return
    new = _version(home) >= ACCESSED_SINCE
    shown = [vm for vm in home.vms() if not faults.take(home.root, "list_partial", vm.name)]
    rows = [_row(vm, "local", new=new) for vm in shown] if source != "oci" else []
    if source != "local":
        rows += [_row(vm, "OCI", new=new) for vm in _cached(home)]
    if "--quiet" in options.flags:
        print("".join(f"{row['Name']}\n" for row in rows), end="")
    elif form == "json":
        print("[\n" + ",\n".join(_json(row, "  ") for row in rows) + "\n]")
    else:
        _print_table(rows)


def get(home: Home, arguments: list[str]) -> None:
    """Print one local VM."""
    options = parse(GET, arguments)
    form = _format(options)
    vm = home.vm(options.names[0])
    config, state = vm.config(), vm.state
    display = config["display"]
    row = {
        "OS": config["os"],
        "CPU": config["cpuCount"],
        "Memory": config["memorySize"] // 2**20,
        "Disk": vm.logical_size // GIGABYTE,
        "DiskFormat": config.get("diskFormat", "raw"),
        "Size": f"{vm.allocated_size / GIGABYTE:.3f}",
        "Display": f"{display['width']}x{display['height']}{display.get('unit', '')}",
        "Running": state == "running",
        "State": state,
    }
    if form == "json":
        print(_json(row, ""))
    else:
        _print_table([row])


def _format(options: Options) -> str:
    form = options.text("--format", "text")
    if form not in {"text", "json"}:
        raise options.misuse(f"The value '{form}' is invalid for '--format <format>'")
    return form


def _row(vm: VM, source: str, *, new: bool) -> Row:
    state = vm.state if source == "local" else "stopped"
    size = vm.allocated_size // GIGABYTE
    row = {
        "Source": source,
        "Name": vm.name,
        "Disk": vm.logical_size // GIGABYTE,
        "Size": size,
        "Running": state == "running",
        "State": state,
    }
    if not new:
        return row | {"SizeOnDisk": size}
    accessed = datetime.fromtimestamp(vm.path.stat().st_atime, UTC)
    return row | {"Accessed": accessed.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _cached(home: Home) -> Iterator[VM]:
    """Find the images in the cache: once by each tag, once by digest."""
    found: dict[str, VM] = {}
    for config in home.cache.rglob("sha256:*/config.json"):
        place = config.parent
        host, *space = place.parent.relative_to(home.cache).parts
        image = Remote(host.replace("%3A", ":"), "/".join(space), place.name)
        found[str(image)] = VM(place, str(image))
        for entry in place.parent.iterdir():
            if entry.is_symlink() and entry.resolve() == place.resolve():
                tagged = str(image.at(entry.name))
                found[tagged] = VM(place, tagged)
    return (found[name] for name in sorted(found))


def _json(row: Row, indent: str) -> str:
    keys = list(row)
    random.shuffle(keys)
    text = json.dumps({key: row[key] for key in keys}, indent=2, separators=(",", " : "), ensure_ascii=False)
    return "\n".join(indent + line for line in text.replace("/", "\\/").splitlines())


def _print_table(rows: list[Row]) -> None:
    heads = list(rows[0]) if rows else ["Source", "Name", "Disk", "Size", "Accessed", "Running", "State"]
    lines = [heads, *([str(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print(" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _version(home: Home) -> tuple[int, ...]:
    return tuple(int(part) for part in home.settings.version.split(".") if part.isdigit()) or ACCESSED_SINCE
