"""The goldens that were made: a file in the state directory, written whole, so that half a golden is never resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from app.domain.world import Golden
from app.vm.trouble import told_as_vm_error


def load(file: Path) -> tuple[Golden, ...]:
    """Return what is remembered; what cannot be read is forgotten, and its goldens are made again."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return tuple(map(_golden, json.loads(file.read_text(encoding="utf-8"))))
    return ()


def _golden(value: Mapping[str, Any]) -> Golden:
    return Golden(
        name=str(value["name"]),
        pool=str(value["pool"]),
        at=datetime.fromisoformat(value["at"]),
        source=str(value["source"]),
        digest=str(value["digest"]),
        shape=str(value["shape"]),
        system=str(value["system"]),
    )


def save(file: Path, known: tuple[Golden, ...]) -> None:
    """Write the file whole, or leave it as it was. Raises VMError."""
    written = [asdict(golden) | {"at": golden.at.isoformat()} for golden in known]
    new = file.with_name(f"{file.name}.new")
    with told_as_vm_error(f"cannot write {file}"):
        new.write_text(json.dumps(written, indent=1), encoding="utf-8")
        new.replace(file)
