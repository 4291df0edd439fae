"""What single values of settings must be: URLs, and files that are named."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def split(value: str) -> SplitResult | None:
    """Return the parts of an http or https URL; None where it is none."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # it is read, and may be wrong, only when asked for
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None


def is_plain_url(value: str) -> bool:
    """Whether it is a URL of http or https without user, query or fragment."""
    parts = split(value)
    if parts is None:
        return False
    return not (parts.username is not None or parts.password is not None or parts.query or parts.fragment)


def holds_certificates(path: Path) -> bool:
    """Whether a file holds certificates in PEM form."""
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError):
        return False
    return True


def read_private(path: Path) -> str:
    """Return the text of the App's private key, which nobody else may read. Raises ValueError with the mend."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        msg = f"github_private_key_path: cannot read {path} ({error.strerror})"
        raise ValueError(msg) from error
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        msg = f"github_private_key_path: others may read {path}: run `chmod 600 {path}`"
        raise ValueError(msg)
    return text
