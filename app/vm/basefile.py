"""The bases that were prepared: a file in the state directory, written whole, so that half a base is never cloned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.domain.world import Made
from app.vm.trouble import told_as_vm_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One prepared base."""

    name: str
    digest: str  # of the image that it was made from
    made: Made


Known = Mapping[str, tuple[Prepared, ...]]  # by image, newest first


def load(file: Path) -> dict[str, tuple[Prepared, ...]]:
    """Return what is remembered; what cannot be read is forgotten, and its bases are prepared again."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(image): tuple(map(_prepared, values)) for image, values in found.items()}
    return {}


def _prepared(value: Mapping[str, Any]) -> Prepared:
    script = value["script"]
    return Prepared(
        name=str(value["name"]),
        digest=str(value["digest"]),
        made=Made(
            at=datetime.fromisoformat(value["at"]),
            runner_version=str(value["runner_version"]),
            runner_dir=str(value["runner_dir"]),
            script=None if script is None else str(script),
        ),
    )


def save(file: Path, known: Known) -> None:
    """Write the file whole, or leave it as it was. Raises VMError."""
    written = {image: [_value(base) for base in bases] for image, bases in known.items() if bases}
    new = file.with_name(f"{file.name}.new")
    with told_as_vm_error(f"cannot write {file}"):
        new.write_text(json.dumps(written, indent=1), encoding="utf-8")
        new.replace(file)


def _value(base: Prepared) -> dict[str, str | None]:
    return {
        "name": base.name,
        "digest": base.digest,
        "at": base.made.at.isoformat(),
        "runner_version": base.made.runner_version,
        "runner_dir": base.made.runner_dir,
        "script": base.made.script,
    }
