"""The pages of the sandbox's GitHub that making and installing an App needs (docs/contracts/github.md §3.5).

And the one download there is, the actions runner's, which as GitHub's leads to another place first. Whoever opens them is logged in as the sandbox's maintainer, who may do anything everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from app.sandbox.github import ModelGitHub
from app.sandbox.github_manifest import read_manifest
from app.sandbox.github_values import Account, ApiError
from app.sandbox.runner import runner_archive

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,">
<style>body {{ font: 16px/1.5 system-ui; max-width: 36rem; margin: 3rem auto; padding: 0 1rem }}</style></head>
<body><p>A simulated GitHub</p><h1>{title}</h1>{body}</body></html>"""


class WebFace:
    """The pages, over one model."""

    def __init__(self, model: ModelGitHub) -> None:
        self._model = model

    def routes(self) -> list[BaseRoute]:
        """Return the routes of every page."""
        return [
            Route("/settings/apps/new", _told(self.offer), methods=["POST"]),
            Route("/organizations/{org}/settings/apps/new", _told(self.offer), methods=["POST"]),
            Route("/settings/apps/manifest", _told(self.confirm), methods=["POST"]),
            Route("/apps/{slug}/installations/new", _told(self.choose), methods=["GET"]),
            Route("/apps/{slug}/installations/new", _told(self.install), methods=["POST"]),
            Route("/actions/runner/releases/download/v{version}/{name}", _moved, methods=["GET"]),
            Route("/_assets/{version}/{name}", _archive, methods=["GET"]),
        ]

    async def offer(self, request: Request) -> Response:
        """Show a manifest to a person, who may change the name and then agree."""
        text = (await _form(request)).get("manifest", [""])[0]
        manifest = read_manifest(text)
        owner = self._model.accounts.account(
            request.path_params.get("org") or self._model.accounts.app.owner.login
        )
        asked = ", ".join(f"{name}: {level}" for name, level in manifest["default_permissions"].items())
        hidden = {
            "manifest": text,
            "owner": owner.login,
            "state": request.query_params.get("state", ""),
        }
        body = (
            f"<p>It will belong to <strong>{escape(owner.login)}</strong> and may: {escape(asked)}.</p>"
            f'<form method="post" action="/settings/apps/manifest">{_hidden(hidden)}'
            f'<p><label>GitHub App name <input name="name" value="{escape(str(manifest.get("name", "")))}">'
            "</label></p><button>Create GitHub App</button></form>"
        )
        return _page("Create a GitHub App", body)

    async def confirm(self, request: Request) -> Response:
        """Send the person back with a code."""
        form = await _form(request)
        manifest = read_manifest(form["manifest"][0])
        owner = self._model.accounts.account(form["owner"][0])
        name = form.get("name", [""])[0]
        if not name:
            raise ApiError(422, "Name can't be blank")
        code = self._model.manifests.confirm(manifest, name, owner)
        query = {"code": code} | ({"state": form["state"][0]} if "state" in form else {})
        return RedirectResponse(f"{manifest['redirect_url']}?{urlencode(query)}", 302)

    async def choose(self, request: Request) -> Response:
        """Ask on which repositories of its owner a private App is to be installed."""
        owner = self._owner(request)
        rows = "".join(
            f'<p><label><input type="checkbox" name="repository" value="{escape(name)}"> {escape(name)}</label></p>'
            for name in self._names(owner)
        )
        body = (
            f'<p>Install on <strong>{escape(owner.login)}</strong></p><form method="post"><fieldset>'
            '<p><label><input type="radio" name="which" value="all" checked> All repositories</label></p>'
            '<p><label><input type="radio" name="which" value="selected"> Only select repositories</label></p>'
            f"{rows}</fieldset><button>Install</button></form>"
        )
        return _page("Install the GitHub App", body)

    async def install(self, request: Request) -> Response:
        """Install the App as chosen."""
        owner, form = self._owner(request), await _form(request)
        chosen = None
        if form.get("which") == ["selected"]:
            chosen = [self._model.accounts.repository(name) for name in form.get("repository", [])]
        self._model.accounts.install(owner.login, repositories=chosen)
        return _page("Installed", f"<p>The App is installed on {escape(owner.login)}.</p>")

    def _owner(self, request: Request) -> Account:
        app = self._model.accounts.app
        if request.path_params["slug"] != app.slug:
            raise ApiError(404, "Not Found")
        return app.owner

    def _names(self, owner: Account) -> list[str]:
        return [r.full_name for r in self._model.accounts.repositories.values() if r.owner is owner]


async def _moved(request: Request) -> Response:
    version, name = request.path_params["version"], request.path_params["name"]
    return RedirectResponse(str(request.url.replace(path=f"/_assets/{version}/{name}")), 302)


async def _archive(request: Request) -> Response:
    return Response(runner_archive(request.path_params["version"]), media_type="application/octet-stream")


def _told(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        try:
            return await answer(request)
        except ApiError as error:
            return _page(error.message, "", error.status)

    return page


async def _form(request: Request) -> dict[str, list[str]]:
    return parse_qs((await request.body()).decode())


def _hidden(values: dict[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in values.items()
    )


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(title=escape(title), body=body), status)
