"""What each image of a registry is and was: a file in the state directory, so that a restart pulls nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from app.vm.trouble import told_as_vm_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one image."""

    digests: tuple[str, ...]  # 64 hex digits each; what it is, then what it was, newest first
    asked_at: datetime  # when the registry last told

    def now(self, digest: str, at: datetime) -> Known:
        """Return what is known once the registry has told *digest*."""
        older = tuple(known for known in self.digests if known != digest)
        return Known(digests=(digest, *older), asked_at=at)

    def without(self, digest: str) -> Known:
        """Return what is known once the base of *digest* is gone."""
        return replace(self, digests=tuple(known for known in self.digests if known != digest))


def load(file: Path) -> dict[str, Known]:
    """Return what is remembered; what cannot be read is forgotten, and its images are pulled again."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        # A file of an earlier version has one digest for an image, and was written when that was asked for.
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {str(image): _known(value, written) for image, value in found.items()}
    return {}


def _known(value: object, written: datetime) -> Known:
    if isinstance(value, dict):
        digests = tuple(str(digest) for digest in value["digests"])
        return Known(digests=digests, asked_at=datetime.fromisoformat(value["asked_at"]))
    return Known(digests=(str(value),), asked_at=written)


def save(file: Path, images: Mapping[str, Known]) -> None:
    """Write the file whole, or leave it as it was. Raises VMError."""
    written = {
        image: {"digests": known.digests, "asked_at": known.asked_at.isoformat()}
        for image, known in images.items()
    }
    new = file.with_name(f"{file.name}.new")
    with told_as_vm_error(f"cannot write {file}"):
        new.write_text(json.dumps(written, indent=1), encoding="utf-8")
        new.replace(file)
