"""A person at the setup's pages, a simulated GitHub behind them, and a home that may have anything in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from app.clock import utcnow
from app.sandbox.github import ModelGitHub
from app.sandbox.http import make_app
from app.setup.flow import Flow
from app.setup.web import Pages
from tests.github.conftest import no_waiting_between_tries
from tests.openapi import CheckedTransport
from tests.sandbox.github_world import a_github

__all__ = ["no_waiting_between_tries"]

HERE = "http://127.0.0.1:8765"
FORM = {"account": "organization", "owner": "acme", "public_url": "https://hook.example.org"}
POOL = {
    "name": "mac",
    "labels": "sequoia",
    "image": "macos",
    "repository": "acme/app",
    "forks": "allow",
    "group": "yes",
}


class Person:
    """Somebody who fills in forms and follows where they lead, at us and at GitHub."""

    def __init__(
        self,
        model: ModelGitHub,
        home: Path,
        environ: dict[str, str] | None = None,
        *,
        base_path: str = "",
        is_mac: bool = False,
    ) -> None:
        self.model, self.home = model, home
        github = make_app(model, base_path=base_path)
        self.github = httpx.AsyncClient(transport=httpx.ASGITransport(github), base_url="https://github.com")
        self.seen = CheckedTransport(httpx.ASGITransport(github), base_path=base_path)
        environ = {"CIDERMILL_STATE_DIR": str(home), "CIDERMILL_HOST_NAME": "mini"} | (environ or {})
        self.flow = Flow(environ, home, transport=lambda: self.seen)
        self.finished = False
        pages = Pages(
            self.flow, self._images, finish=self._finish, dashboard="http://127.0.0.1:8000", is_mac=is_mac
        )
        self.base = f"/{pages.path}/"
        self.here = httpx.AsyncClient(transport=httpx.ASGITransport(pages.app()), base_url=HERE)
        self.images: list[str] = []

    async def _images(self) -> list[str]:
        return self.images

    def _finish(self) -> None:
        self.finished = True

    async def open(self, page: str = "") -> httpx.Response:
        return await self.here.get(self.base + page)

    async def post(self, page: str, form: dict[str, str]) -> httpx.Response:
        return await self.here.post(self.base + page, data=form)

    async def agree(self, form: dict[str, str] | None = None) -> httpx.URL:
        """Go to GitHub with the form's manifest and agree there; return where GitHub sends one back to."""
        review = await self.post("app", FORM if form is None else form)
        assert review.status_code == 200, review.text
        offer = await self.github.post(action(review.text), data={"manifest": field(review.text, "manifest")})
        assert offer.status_code == 200, offer.text
        given = {name: field(offer.text, name) for name in ("manifest", "owner", "state", "name")}
        back = await self.github.post("/settings/apps/manifest", data=given)
        assert back.status_code == 302, back.text
        return httpx.URL(back.headers["location"])

    async def make_app(self, form: dict[str, str] | None = None) -> httpx.Response:
        """Make an App and come back with it."""
        return await self.here.get(await self.agree(form))

    def env(self) -> str:
        return (self.home / ".env").read_text()

    def toml(self) -> str:
        return (self.home / "cidermill.toml").read_text()


def field(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None, name
    return unescape(found[1])


def action(html: str) -> str:
    found = re.search(r'<form method="post" action="(http[^"]+)"', html)
    assert found is not None
    return unescape(found[1])


@pytest.fixture
def model() -> ModelGitHub:
    """Return acme and ada, and no App of theirs yet."""
    model = a_github(utcnow)
    for installation in tuple(model.accounts.installations.values()):
        model.accounts.uninstall(installation)
    return model


@pytest.fixture
async def person(model: ModelGitHub, tmp_path: Path) -> AsyncIterator[Person]:
    person = Person(model, tmp_path)
    async with person.here, person.github:
        yield person
