"""The sandbox's tart, installed and given images: what the demo and the tests make before they begin.

:func:`install` writes the executable that ``CIDERMILL_TART_PATH`` names; :func:`make_image` makes a VM to clone from,
or an image in the directory that plays the registry. How to make things go wrong: :mod:`app.sandbox.tart.faults`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from app.sandbox.tart import faults
from app.sandbox.tart.copying import make_disk
from app.sandbox.tart.guest import HOME, furnish
from app.sandbox.tart.home import GIGABYTE, VM, random_mac
from app.sandbox.tart.names import remote

ENTRY = Path(__file__).parent / "tart" / "__main__.py"
REMOTE_IMAGE = "ghcr.io/cirruslabs/macos-sequoia-base:latest"
MIB = 2**20


def install(directory: Path, *, python: str = sys.executable) -> Path:
    """Write the executable ``tart`` into a directory, and return its path.

    Python is isolated (-I) and without site-packages (-S), so that neither the caller's environment nor what is
    installed changes what it does or how fast it starts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "tart"
    command = shlex.join([python, "-I", "-S", str(ENTRY)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def make_image(
    tart_home: Path,
    name: str,
    files: Mapping[str, tuple[str, int]],
    *,
    oci: bool = False,
    os: str = "darwin",
    disk_gb: int = 50,
) -> Path:
    """Make a stopped local VM, or with *oci* an image that can be pulled, and return its directory.

    *files* are text and mode by path below ``actions-runner`` in the guest's home directory.
    """
    path = _published(tart_home, name) if oci else tart_home / "vms" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    vm = VM(path)
    make_disk(vm.disk, disk_gb * GIGABYTE)
    vm.nvram.write_bytes(bytes(1024))
    furnish(vm.guest)
    for place, (text, mode) in files.items():
        file = vm.guest / HOME / "actions-runner" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    config = _config(os)
    if oci:
        content = [config, sorted((place, text, mode) for place, (text, mode) in files.items())]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        (path / "manifest.json").write_text(
            json.dumps({"config": {"digest": f"sha256:{digest}"}}), encoding="utf-8"
        )
    vm.configure(config)
    return path


def _published(tart_home: Path, name: str) -> Path:
    image = remote(name)
    if image is None or image.is_digest:
        msg = f"{name!r} is no name to publish an image by: use host/namespace:tag, such as {REMOTE_IMAGE}"
        raise ValueError(msg)
    settings = faults.read(tart_home).settings
    return image.path(Path(settings.registry or tart_home.parent / "registry"))


def _config(os: str) -> dict[str, object]:
    config: dict[str, object] = {
        "version": 1,
        "os": os,
        "arch": "arm64",
        "cpuCountMin": 2,
        "cpuCount": 4,
        "memorySizeMin": 2048 * MIB,
        "memorySize": 8192 * MIB,
        "macAddress": random_mac(),
        "display": {"width": 1024, "height": 768},
        "diskFormat": "raw",
    }
    if os == "darwin":
        config |= {"ecid": uuid.uuid4().hex, "hardwareModel": "c3RhbmQtaW4="}
    return config
