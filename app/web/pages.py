"""The pages: a dashboard, and a page for each job. They need no script to be read.

A browser shows the admin token once, in a link (as Jupyter's) or a form, and keeps a session instead
(:mod:`app.api.session`). Names of jobs are strangers' text: every value is escaped, and the policy below lets nothing
run or load that is not a file of ours, whatever a page holds.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from app.api import session
from app.api.admin import MAX_ID
from app.api.context import Context, Ctx
from app.web import views
from app.web.lately import Lately
from app.web.words import clock, iso, span

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PLACE = re.compile(r"/(jobs/[0-9]{1,19})?")  # where a login may lead

router = APIRouter(include_in_schema=False)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(span=span, iso=iso, clock=clock)
    return environment


TEMPLATES = _environment()


def mount(app: FastAPI) -> None:
    """Add the pages to *app*, with their style and script."""
    app.state.lately = Lately()
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")


@router.get("/")
async def dashboard(request: Request, context: Ctx) -> Response:
    """Show the whole."""
    lately: Lately = request.app.state.lately
    return _enter(request, context) or await _show(
        context, "dashboard.html", views.dashboard(context, lately)
    )


@router.get("/jobs/{job_id}")
async def job(request: Request, context: Ctx, job_id: Annotated[int, InPath(ge=0, le=MAX_ID)]) -> Response:
    """Show one job."""
    entry = _enter(request, context)
    return entry or await _show(context, "job.html", views.job(context, job_id))


@router.post("/login")
async def login(request: Request, context: Ctx) -> Response:
    """Begin a session for who knows the admin token."""
    form = parse_qs((await context.bodies.read(request)).decode("utf-8", "replace"))
    place = form.get("place", ["/"])[0]
    return _greet(request, context, form.get("token", [""])[0], place if PLACE.fullmatch(place) else "/")


def _enter(request: Request, context: Context) -> Response | None:
    """Return None where the request bears a session, else the way to one."""
    token = request.query_params.get("token")
    if token is not None:
        return _greet(request, context, token, request.url.path)
    if session.may_read(request, context.admin_token, context.clock()):
        return None
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A link from elsewhere brings no cookie of ours; the same page asked for by itself does.
        return _page(context, "again.html", seconds=0, text="One moment …")
    return _page(context, "login.html", 401, place=request.url.path, wrong=False)


def _greet(request: Request, context: Context, token: str, place: str) -> Response:
    if not secrets.compare_digest(token.strip().encode(), context.admin_token.encode()):
        return _page(context, "login.html", 401, place=place, wrong=True)
    answer = RedirectResponse(place, 303)
    session.begin(answer, request, context.admin_token, context.clock())
    return answer


async def _show(context: Context, template: str, values: Any) -> Response:
    try:
        found = await values
    except HTTPException as refusal:
        if refusal.status_code == 503:
            return _page(context, "again.html", 503, seconds=1, text="CiderMill is starting …")
        return _page(context, "problem.html", refusal.status_code, text=refusal.detail)
    return _page(context, template, **found)


def _page(context: Context, template: str, code: int = 200, **values: Any) -> HTMLResponse:
    text = TEMPLATES.get_template(template).render(
        values,
        now=context.clock(),
        version=context.version,
        host=context.reconciler.setup.names.host,
        simulated=context.simulated,
    )
    return HTMLResponse(text, code, {"content-security-policy": POLICY})
