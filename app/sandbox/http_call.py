"""How the sandbox's GitHub treats any call: version, faults, who is asking, what it may, quota, ETag, errors.

An endpoint is a row (method, path, verb, who may call it with what) and a function from a :class:`Call` to a
:class:`Reply`; everything that GitHub does alike for all endpoints is in :class:`Face`
(docs/contracts/github.md §3.4, §7).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.sandbox.github import ModelGitHub
from app.sandbox.github_faults import Fault, Kind
from app.sandbox.github_shapes import Json
from app.sandbox.github_values import ApiError, Token
from app.sandbox.http_limits import SECONDARY, Limits

VERSIONS = frozenset({"2022-11-28", "2026-03-10"})
DOCUMENTATION = "https://docs.github.com/rest"


class Auth(StrEnum):
    """Which credential an endpoint takes."""

    NONE = "none"
    JWT = "jwt"  # the App itself
    TOKEN = "token"  # noqa: S105  # an installation's token, or a person's


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call."""

    model: ModelGitHub
    request: Request
    args: Mapping[str, str]
    body: Json
    token: Token | None = None
    limits: Limits

    def number(self, name: str) -> int:
        """Return a number in the path, or answer 404."""
        text = self.args[name]
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ApiError(404, "Not Found")
        return int(text)

    def query(self, name: str) -> str | None:
        """Return a query parameter."""
        return self.request.query_params.get(name)

    def per_page(self) -> int:
        """Return the page size, 30 unless asked, at most 100."""
        text = self.query("per_page") or "30"
        return min(max(int(text), 1), 100) if text.isdigit() else 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an endpoint answers."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table."""

    method: str
    path: str
    verb: str
    auth: Auth
    answer: Callable[[Call], Reply]
    needs: Mapping[str, str] = field(default_factory=dict)


class Broken(Response):
    """No answer, or the beginning of one: the connection ends in the middle of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Promise a longer body than what is sent, which makes the server close the connection."""
        del scope, receive
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % (len(self.body) + 1))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.body:
            await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})


class Face:
    """The common behaviour of all endpoints over one model."""

    def __init__(self, model: ModelGitHub, limits: Limits, versions: frozenset[str] = VERSIONS) -> None:
        self._model = model
        self._limits = limits
        self._versions = versions

    async def serve(self, endpoint: Endpoint, request: Request) -> Response:
        """Answer one request."""
        self._model.tick()
        fault = self._model.faults.take(endpoint.verb)
        if fault is not None and not fault.effect:
            broken = await self._meet(fault, request)
            if broken is not None:
                return broken
        moved = self._moved(request)
        if moved is not None:
            return self._respond(request, moved)
        try:
            reply = await self._answer(endpoint, request)
        except ApiError as error:
            reply = _error(error)
        if fault is not None and fault.effect:
            return await self._meet(fault, request) or self._respond(request, reply)
        return self._respond(request, reply)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Reply:
        self._check_version(request)
        token = self._authenticate(endpoint, request)
        body = await _json_body(request)
        if token is not None:
            self._limits.spend(token.text)
            who = f"installation {token.installation.id}" if token.installation else token.account.login
            place = request.url.path if endpoint.verb == "mint" else None
            self._limits.weigh(request.method, endpoint.path, who, place)
            self._check_access(endpoint, request, token)
        call = Call(
            model=self._model,
            request=request,
            args=request.path_params,
            body=body,
            token=token,
            limits=self._limits,
        )
        return endpoint.answer(call)

    def _moved(self, request: Request) -> Reply | None:
        """Send a question about a repository's former name on; by 307 what must be repeated as it is."""
        owner, name = (request.path_params.get(key) for key in ("owner", "repo"))
        home = self._model.accounts.renamed.get(f"{owner}/{name}".casefold())
        if home is None:
            return None
        path = request.url.path.replace(f"/repos/{owner}/{name}", f"/repos/{home.full_name}", 1)
        body = {"message": "Moved Permanently", "documentation_url": DOCUMENTATION}
        status = 301 if request.method == "GET" else 307
        return Reply(status=status, body=body, headers={"location": str(request.url.replace(path=path))})

    def _check_version(self, request: Request) -> None:
        version = request.headers.get("x-github-api-version")
        if version is None or version in self._versions:
            return
        status = 410 if re.fullmatch(r"\d{4}-\d{2}-\d{2}", version) else 400
        raise ApiError(status, f"'{version}' is not a supported version of the API.")

    def _authenticate(self, endpoint: Endpoint, request: Request) -> Token | None:
        if endpoint.auth is Auth.NONE:
            return None
        credential = _credential(request)
        if credential is None:
            raise ApiError(401, "Requires authentication")
        if endpoint.auth is Auth.JWT:
            self._model.accounts.check_jwt(credential)
            return None
        return self._model.accounts.check_token(credential)

    def _check_access(self, endpoint: Endpoint, request: Request, token: Token) -> None:
        owner = request.path_params.get("org") or request.path_params.get("owner")
        if owner is None:
            return
        accounts, name = self._model.accounts, request.path_params.get("repo")
        repository = accounts.repository(f"{owner}/{name}") if name else None
        accounts.check_access(token, owner, repository, endpoint.needs)

    async def _meet(self, fault: Fault, request: Request) -> Response | None:
        """Return what a fault answers; None where the call goes on."""
        match fault.kind:
            case Kind.ANSWER:
                return self._respond(request, _error(ApiError(fault.status, fault.message)))
            case Kind.PRIMARY_LIMIT:
                self._limits.exhaust(_credential(request) or "", fault.seconds)
                return self._respond(request, _error(ApiError(fault.status, "API rate limit exceeded.")))
            case Kind.SECONDARY_LIMIT:
                return self._respond(request, _error(ApiError(fault.status, SECONDARY, self._hint(fault))))
            case Kind.PAGE:
                return Response(fault.message, fault.status, media_type="text/html")
            case Kind.CUT:
                return Broken(b'{"total_count": 1, "runn')
            case Kind.RESET | Kind.HANG:
                await asyncio.sleep(fault.seconds)
                return Broken()
            case Kind.SLOW:
                await asyncio.sleep(fault.seconds)
                return None

    def _hint(self, fault: Fault) -> dict[str, str]:
        if fault.retry_after is None:
            return {}
        date = format_datetime(self._model.now() + timedelta(seconds=fault.retry_after), usegmt=True)
        return {"retry-after": date if fault.as_date else str(fault.retry_after)}

    def _respond(self, request: Request, reply: Reply) -> Response:
        content = b"" if reply.body is None else json.dumps(reply.body).encode()
        headers = {
            "date": format_datetime(self._model.now(), usegmt=True),
            "x-github-media-type": "github.v3; format=json",
            "x-github-request-id": self._model.ground.hex(16).upper(),
            "x-github-api-version-selected": request.headers.get("x-github-api-version", "2022-11-28"),
            **dict(reply.headers),
        }
        status, credential = reply.status, _credential(request)
        if request.method == "GET" and status == 200:
            tag = headers["etag"] = f'W/"{hashlib.sha256(content).hexdigest()}"'
            if tag == request.headers.get("if-none-match"):
                status, content = 304, b""
                self._limits.refund(credential)
        headers |= self._limits.headers(credential)
        kind = "application/json; charset=utf-8" if content else None
        return Response(content, status, headers, kind)


def _error(error: ApiError) -> Reply:
    body = {"message": error.message, "documentation_url": DOCUMENTATION, "status": str(error.status)}
    return Reply(status=error.status, body=body, headers=error.headers)


def _credential(request: Request) -> str | None:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() or None if scheme.lower() in {"bearer", "token"} else None


async def _json_body(request: Request) -> Json:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "Problems parsing JSON") from error
    if not isinstance(body, dict):
        raise ApiError(400, "Body should be a JSON object")
    return body
