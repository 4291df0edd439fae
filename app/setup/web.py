"""The local pages of the setup: forms, the way to GitHub and back, and the end.

They listen on loopback for one person, who has the link: all of them stand below a path that cannot be guessed. Nothing
secret is on any of them, nothing is loaded from elsewhere, and a form goes to ourselves or to the one GitHub that is meant.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.github.apps import Installed
from app.ports import OutsideError
from app.setup.files import Unwritable
from app.setup.flow import Flow, WrongState
from app.setup.manifest import GITHUB, Mistake, read_wish
from app.setup.pools import Images, PoolForm, propose, read_pool

HERE = Path(__file__).parent
FORM_LIMIT = 100_000  # bytes
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin",  # GitHub learns where the form came from, and not the path
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
WRONG_STATE = (
    "This answer does not belong to a question that this setup asked. If you came here by a link from somebody else, close "
    "the page. Else begin again: nothing was changed."
)
Answer = Callable[[Request], Awaitable[Response]]


class Pages:
    """The pages over one flow."""

    def __init__(
        self,
        flow: Flow,
        images: Images,
        *,
        finish: Callable[[], None],
        dashboard: str,
        is_mac: bool,
        github: str = "",
    ) -> None:
        self.path = secrets.token_urlsafe(24)
        self._flow, self._images, self._finish, self._github = flow, images, finish, github
        self._dashboard, self._is_mac = dashboard, is_mac
        self._templates = Environment(
            loader=PackageLoader("app.setup"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    def app(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/", self.start, methods=["GET"]),
            Route("/app", self.ask, methods=["POST"]),
            Route("/callback", self.come_back, methods=["GET"]),
            Route("/store", self.store, methods=["POST"]),
            Route("/install", self.install, methods=["GET"]),
            Route("/installed", self.installed, methods=["GET"]),
            Route("/pool", self.pool, methods=["GET"]),
            Route("/pool", self.write_pool, methods=["POST"]),
            Route("/done", self.done, methods=["GET"]),
            Route("/finish", self.finish, methods=["POST"]),
        ]
        told = [Route(r.path, self._told(r.endpoint), methods=[*(r.methods or ())]) for r in routes]
        return Starlette(
            routes=[
                Mount(f"/{self.path}", routes=told),
                Mount("/static", StaticFiles(directory=HERE / "static", packages=[("app.web", "static")])),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
            exception_handlers={404: self._not_found},
        )

    # -- the pages, in order -----------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Ask where the App is to live; where there is one already, offer to go on with it."""
        del request
        return self._start({}, None)

    def _start(self, form: dict[str, str], mistake: Mistake | None) -> Response:
        configured = self._flow.setting("github_api_url")
        known = {
            "github": self._github or (self._flow.place().web_url if configured else GITHUB),
            "public_url": self._flow.setting("public_url") or "",
            "account": "organization",
            "scope": "organization",
            "owner": "",
        }
        return self._page(
            "start.html",
            status=422 if mistake else 200,
            form=known | form,
            wrong={mistake.field: str(mistake)} if mistake else {},
            app_id=self._flow.setting("github_app_id"),
            env=self._flow.files.env,
        )

    async def ask(self, request: Request) -> Response:
        """Show what GitHub will be asked for, and the button that goes there."""
        form = {name: values[0] for name, values in (await _form(request)).items()}
        try:
            wish = read_wish(form)
        except Mistake as mistake:
            return self._start(form, mistake)
        state = self._flow.ask(wish)
        manifest = self._flow.manifest(wish, f"{request.base_url}{self.path}/callback")
        return self._page(
            "review.html",
            form_action=wish.place.web_url,
            wish=wish,
            manifest=json.dumps(manifest),
            name=manifest["name"],
            url=wish.form_url(state),
        )

    async def come_back(self, request: Request) -> Response:
        """Take the new App."""
        query = request.query_params
        await self._flow.come_back(query.get("code", ""), query.get("state", ""))
        return self._go("install")

    async def store(self, request: Request) -> Response:
        """Store what could not be stored before."""
        del request
        await self._flow.store()
        return self._go("install")

    async def install(self, request: Request) -> Response:
        """Send the person to install the App, and show where it is installed."""
        del request
        app = await self._flow.known()
        if app is None:
            return self._go("")
        found = await self._flow.installations()
        return self._page(
            "install.html", app=app, installations=found, mark=_mark(found), warnings=self._flow.warnings
        )

    async def installed(self, request: Request) -> Response:
        """Tell the waiting page whether there is anything new."""
        del request
        return JSONResponse({"mark": _mark(await self._flow.installations())})

    async def pool(self, request: Request) -> Response:
        """Propose the first pool, or the one there is."""
        del request
        return await self._pool(None, {})

    async def _pool(self, form: PoolForm | None, wrong: dict[str, str]) -> Response:
        app, found = await self._flow.known(), await self._flow.installations()
        images = await self._images()
        known = self._flow.files.pools()
        shown = form or propose(known, found, images)
        offered = dict.fromkeys([*(name for one in found for name in one.repositories), *shown.repositories])
        return self._page(
            "pool.html",
            status=422 if wrong else 200,
            form=shown,
            known=bool(known),
            group=app is not None and app.at_organizations,
            wrong=wrong,
            images=images,
            offered=list(offered),
            toml=self._flow.files.toml,
        )

    async def write_pool(self, request: Request) -> Response:
        """Write the pool."""
        given = await _form(request)
        form = read_pool(given)
        wrong = form.problems()
        if wrong:
            return await self._pool(form, wrong)
        await self._flow.write_pool(form, group="group" in given)
        return self._go("done")

    async def done(self, request: Request) -> Response:
        """Check all of it as the service would, and say what comes next."""
        del request
        problems, warnings = self._flow.check()
        files, pools = self._flow.files, self._flow.files.pools()
        return self._page(
            "done.html",
            problems=problems,
            warnings=warnings,
            env=files.env,
            toml=files.toml,
            public_url=self._flow.setting("public_url"),
            dashboard=self._dashboard,
            is_mac=self._is_mac,
            labels=[str(label) for label in _labels(pools)],
        )

    async def finish(self, request: Request) -> Response:
        """End the setup."""
        del request
        self._finish()
        return self._page("bye.html")

    # -- what all of them have in common -----------------------------------------------------------

    def _page(self, template: str, *, status: int = 200, form_action: str = "", **values: object) -> Response:
        text = self._templates.get_template(template).render(base=f"/{self.path}/", **values)
        policy = f"{POLICY} {form_action}".rstrip()
        return HTMLResponse(text, status, {**HEADERS, "Content-Security-Policy": policy})

    def _go(self, page: str) -> Response:
        return RedirectResponse(f"/{self.path}/{page}", 303, HEADERS)

    def _told(self, answer: Answer) -> Answer:
        """Turn what can go wrong on any page into a page that names the mend."""

        async def page(request: Request) -> Response:
            try:
                response = await answer(request)
            except WrongState:
                return self._problem(WRONG_STATE, status=400)
            except Unwritable as error:
                return self._problem(f"{error}.", status=500, store=self._flow.has_unstored)
            except OutsideError as error:
                return self._problem(f"{error}.", status=502, again=request.method == "GET")
            response.headers.update(HEADERS)
            return response

        return page

    def _problem(self, text: str, *, status: int, again: bool = False, store: bool = False) -> Response:
        return self._page("problem.html", status=status, text=text, again=again, store=store)

    async def _not_found(self, request: Request, error: Exception) -> Response:
        del request, error
        text = "There is no such page: open the link that `cidermill setup` printed in your terminal.\n"
        return Response(text, 404, HEADERS, "text/plain")


async def _form(request: Request) -> dict[str, list[str]]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LIMIT:
            raise Unwritable("the form is too large")
    return parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=5000)


def _mark(installations: Sequence[Installed]) -> str:
    """Return a text that differs where the installations do."""
    return " ".join([f"{one.account}: {', '.join(one.repositories)}" for one in installations])


def _labels(pools: list[dict[str, object]]) -> list[object]:
    labels = pools[0].get("labels") if pools else None
    return list(labels) if isinstance(labels, list) else []
