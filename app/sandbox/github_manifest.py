"""Apps that are made from a manifest: what a person confirms, and the code that hands the new App over, once.

docs/contracts/github.md §3.5. The model has one App, so a new one takes the place of the one before it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from app.sandbox.github_ground import Ground
from app.sandbox.github_shapes import Json
from app.sandbox.github_values import Account, ApiError

CODE_LIFE = timedelta(hours=1)
REQUIRED = ("url", "redirect_url", "hook_attributes", "default_permissions", "default_events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """An App that a person agreed to, and that nobody has fetched yet."""

    manifest: Json
    name: str
    owner: Account
    until: datetime

    @property
    def slug(self) -> str:
        """Return the name as URLs have it."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


class Manifests:
    """The codes that wait to be exchanged."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._waiting: dict[str, Confirmed] = {}

    def confirm(self, manifest: Json, name: str, owner: Account) -> str:
        """Note that a person agreed; return the code for whoever asked."""
        code = self._ground.keep(self._ground.hex(40))
        self._waiting[code] = Confirmed(
            manifest=manifest, name=name, owner=owner, until=self._ground.now() + CODE_LIFE
        )
        return code

    def take(self, code: str) -> Confirmed:
        """Return what *code* stands for, the first time within an hour; else answer 404."""
        confirmed = self._waiting.pop(code, None)
        if confirmed is None or confirmed.until <= self._ground.now():
            raise ApiError(404, "Not Found")
        return confirmed


def read_manifest(text: str) -> Json:
    """Read the field of the form, or answer 422 with what GitHub would miss."""
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ApiError(422, "Invalid GitHub App configuration: the manifest is not JSON") from error
    lacking = [key for key in REQUIRED if key not in manifest] if isinstance(manifest, dict) else ["all"]
    if lacking:
        raise ApiError(422, f"Invalid GitHub App configuration: missing {', '.join(lacking)}")
    hook = urlsplit(str(manifest["hook_attributes"].get("url", "")))
    if hook.hostname in {None, "localhost", "127.0.0.1"}:
        raise ApiError(422, "Hook url is not supported because it isn't reachable over the public Internet")
    return dict(manifest)
