"""What is asked of GitHub for a new App: exactly what CiderMill needs, and where it is asked.

docs/contracts/github.md §3.4 and §3.5. A private App of the account that owns the repositories, with one event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from app.advice import GHES_VERSION
from app.domain.pools import Scope
from app.settings import Settings
from app.values import LOOPBACK

GITHUB = "https://github.com"
WEBHOOK_PATH = "/webhooks/github"
# Nothing ever answers there; it is changed once the true address is known.
NO_WEBHOOK = f"https://not-set-yet.invalid{WEBHOOK_PATH}"
HOMEPAGE = "https://github.com/cidermill/cidermill"
LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?")
LONGEST_NAME = 34  # of an App, at GitHub
DATA_RESIDENCY = ".ghe.com"


class Mistake(ValueError):
    """Something that a person wrote cannot be used; ``field`` names where, the text says how to put it right."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Place:
    """One GitHub: github.com, or a server of one's own."""

    web_url: str = GITHUB

    @property
    def api_url(self) -> str:
        """Return where its REST API is."""
        if self.web_url == GITHUB:
            return "https://api.github.com"
        parts = urlsplit(self.web_url)
        if (parts.hostname or "").endswith(DATA_RESIDENCY):
            return f"https://api.{parts.netloc}"
        return f"{self.web_url}/api/v3"

    @property
    def api_version(self) -> str:
        """Return the version of the REST API that it knows."""
        if self.api_url.endswith("/api/v3"):
            return GHES_VERSION
        return str(Settings.model_fields["github_api_version"].default)

    @classmethod
    def of_api(cls, api_url: str) -> Place:
        """Return the place whose REST API is at *api_url*."""
        parts = urlsplit(api_url)
        if parts.hostname == "api.github.com":
            return cls()
        return cls(f"{parts.scheme}://{parts.netloc.removeprefix('api.')}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The App that a person wants."""

    place: Place
    owner: str  # the organization; empty for one's own account
    scope: Scope  # where its runners will register
    public_url: str | None  # where GitHub reaches us

    @property
    def webhook_url(self) -> str:
        """Return where webhooks are to go."""
        return f"{self.public_url}{WEBHOOK_PATH}" if self.public_url else NO_WEBHOOK

    @property
    def permissions(self) -> dict[str, str]:
        """Return the least permissions that will do."""
        runners = "organization_self_hosted_runners" if self.scope is Scope.ORGANIZATION else "administration"
        return {runners: "write", "actions": "read", "metadata": "read"}

    def form_url(self, state: str) -> str:
        """Return where the browser posts the manifest to."""
        account = f"/organizations/{quote(self.owner)}" if self.owner else ""
        return f"{self.place.web_url}{account}/settings/apps/new?{urlencode({'state': state})}"

    def manifest(self, *, name: str, redirect_url: str) -> dict[str, object]:
        """Return the manifest."""
        return {
            "name": name,
            "url": HOMEPAGE,
            "description": "Ephemeral macOS runners on a Mac of ours.",
            "public": False,
            "hook_attributes": {"url": self.webhook_url, "active": True},
            "redirect_url": redirect_url,
            "default_events": ["workflow_job"],
            "default_permissions": self.permissions,
        }


def app_name(host_name: str, suffix: str) -> str:
    """Return a name for the App: those of Apps are unique on all of GitHub."""
    room = LONGEST_NAME - len(f"cidermill--{suffix}")
    return f"cidermill-{host_name[:room]}-{suffix}"


def read_wish(form: Mapping[str, str]) -> Wish:
    """Read the first form. Raises Mistake."""
    place = read_place(form.get("github", "") or GITHUB)
    owner = form.get("owner", "").strip()
    if form.get("account") == "user":
        return Wish(place=place, owner="", scope=Scope.REPOSITORY, public_url=read_public_url(form))
    if LOGIN.fullmatch(owner) is None:
        raise Mistake("owner", "Write the organization's name as its page has it: github.com/NAME")
    scope = Scope.REPOSITORY if form.get("scope") == "repository" else Scope.ORGANIZATION
    return Wish(place=place, owner=owner, scope=scope, public_url=read_public_url(form))


def read_place(text: str) -> Place:
    """Read which GitHub is meant. Raises Mistake."""
    parts = _url("github", text)
    host = parts.hostname or ""
    if parts.path.strip("/"):
        raise Mistake("github", f"Write the address of GitHub alone: https://{host}")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise Mistake("github", f"Plain http would show secrets to the network: write https://{host}")
    if host in {"www.github.com", "api.github.com"}:
        return Place()
    return Place(f"{parts.scheme}://{parts.netloc.lower()}")


def read_public_url(form: Mapping[str, str]) -> str | None:
    """Read where GitHub reaches us, with or without the webhook's own path; None: not known yet. Raises Mistake."""
    text = form.get("public_url", "").strip()
    if not text:
        return None
    parts = _url("public_url", text)
    if parts.hostname in LOOPBACK:
        raise Mistake("public_url", "GitHub cannot reach this computer under that name: see docs/tunnel.md")
    path = parts.path.rstrip("/").removesuffix(WEBHOOK_PATH)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _url(field: str, text: str) -> SplitResult:
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        _ = parts.port  # it is read, and may be wrong, only when asked for
    except ValueError:
        raise Mistake(field, "Write an address such as https://HOST") from None
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if (
        parts.scheme not in {"http", "https"}
        or not re.fullmatch(r"[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*", parts.netloc)
        or not plain
    ):
        raise Mistake(field, "Write an address such as https://HOST, without user, query or fragment")
    return parts
