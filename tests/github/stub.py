"""A small GitHub with state, as an httpx transport: what the client's tests talk to.

It answers as docs/contracts/github.md says, keeps every request, and can be told what to answer next.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.clock import utcnow
from app.github.auth import AppCredentials, TokenCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics

API = "https://api.github.test"
BLOB = "eyJqaXQiOiAidGhlLXNlY3JldC1ibG9iLW9mLXRoaXMtcnVubmVyIn0="
PAT = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
JSON = dict[str, Any]
Forced = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def pem() -> str:
    return key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def problem(status: int, message: str, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"message": message}, headers=names)


@dataclass
class StubGitHub:
    """State, and the requests it saw."""

    base: str = API
    installations: dict[str, int] = field(default_factory=lambda: {"acme": 11})
    tokens: dict[str, str] = field(default_factory=dict)  # token → owner
    runners: dict[int, JSON] = field(default_factory=dict)
    jobs: dict[int, JSON] = field(default_factory=dict)
    runs: dict[int, JSON] = field(default_factory=dict)
    groups: list[JSON] = field(default_factory=list)
    group_repositories: list[str] = field(default_factory=list)
    app: JSON = field(
        default_factory=lambda: {
            "slug": "cider",
            "permissions": {"actions": "read", "organization_self_hosted_runners": "write"},
            "events": ["workflow_job"],
        }
    )
    page: int = 100
    requests: list[httpx.Request] = field(default_factory=list)
    minted: int = 0
    quota_headers: dict[str, str] = field(default_factory=dict)
    _forced: list[tuple[str, Forced]] = field(default_factory=list)

    def force(self, route: str, *answers: Forced) -> None:
        """Let the next requests whose "METHOD path" matches *route* meet *answers*, one each."""
        self._forced += [(route, answer) for answer in answers]

    def seen(self, route: str) -> list[httpx.Request]:
        return [one for one in self.requests if re.search(route, f"{one.method} {one.url.path}")]

    def secrets(self) -> list[str]:
        return [BLOB, PAT, pem(), *self.tokens]

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # as a network, let others run
        self.requests.append(request)
        line = f"{request.method} {request.url.path}"
        for index, (route, answer) in enumerate(self._forced):
            if re.search(route, line):
                del self._forced[index]
                if isinstance(answer, Exception):
                    raise answer
                return answer(request) if callable(answer) else answer
        response = self._answer(request)
        if not request.url.path.endswith("/access_tokens"):
            response.headers.update(self.quota_headers)
        return response

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(httpx.URL(self.base).path.rstrip("/"))
        refused = self._authenticate(request, path)
        if refused is not None:
            return refused
        for pattern, answer in self._routes():
            if match := re.fullmatch(pattern, f"{request.method} {path}"):
                return answer(request, *match.groups())
        return problem(404, "Not Found")

    def _authenticate(self, request: httpx.Request, path: str) -> httpx.Response | None:
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if re.fullmatch(r"/app(/.*)?|/(orgs/[^/]+|repos/[^/]+/[^/]+)/installation", path):
            try:
                claims = jwt.decode(secret, key().public_key(), algorithms=["RS256"])
            except jwt.PyJWTError:
                return problem(401, "A JSON web token could not be decoded")
            good = kind == "Bearer" and claims["iss"] == "42"
        else:
            good = kind == "token" and (secret in self.tokens or secret == PAT)
        return None if good else problem(401, "Bad credentials")

    def _routes(self) -> list[tuple[str, Callable[..., httpx.Response]]]:
        place = r"/(?:orgs/[^/]+|repos/[^/]+/[^/]+|organizations/\d+)/actions"
        return [
            (r"GET /app", lambda _: httpx.Response(200, json=self.app)),
            (r"GET /user", lambda _: httpx.Response(200, json={"login": "octocat"})),
            (r"GET /(?:orgs|repos)/([^/]+)(?:/[^/]+)?/installation", self._installation),
            (r"POST /app/installations/(\d+)/access_tokens", self._token),
            (rf"POST {place}/runners/generate-jitconfig", self._mint),
            (rf"GET {place}/runners", lambda r: self._list(r, "runners", self._named(r))),
            (rf"DELETE {place}/runners/(\d+)", self._remove),
            (rf"GET {place}/jobs/(\d+)", lambda _, n: self._one(self.jobs, n)),
            (rf"GET {place}/runs/(\d+)", lambda _, n: self._one(self.runs, n)),
            (rf"GET {place}/runner-groups", lambda r: self._list(r, "runner_groups", self.groups)),
            (rf"GET {place}/runner-groups/\d+/repositories", self._repositories),
        ]

    def _installation(self, _: httpx.Request, owner: str) -> httpx.Response:
        found = self.installations.get(owner.lower())
        return httpx.Response(200, json={"id": found}) if found else problem(404, "Not Found")

    def _token(self, _: httpx.Request, number: str) -> httpx.Response:
        owner = next((o for o, n in self.installations.items() if n == int(number)), None)
        if owner is None:
            return problem(404, "Not Found")
        self.minted += 1
        token = f"ghs_42_{self.minted:03}.abcdefghij-klmnopqrstuvwxyz_ABCDEFGHIJ"
        self.tokens[token] = owner
        ends = (utcnow() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {"token": token, "expires_at": ends, "permissions": {}, "repository_selection": "all"}
        return httpx.Response(201, json=answer)

    def _mint(self, request: httpx.Request) -> httpx.Response:
        wanted = json.loads(request.content)
        if any(one["name"].lower() == wanted["name"].lower() for one in self.runners.values()):
            return problem(409, f"Already exists - A runner with the name {wanted['name']} already exists.")
        runner = {"id": len(self.runners) + 1, "name": wanted["name"], "status": "offline", "busy": False}
        self.runners[runner["id"]] = runner
        return httpx.Response(201, json={"runner": runner, "encoded_jit_config": BLOB})

    def _named(self, request: httpx.Request) -> list[JSON]:
        name = request.url.params.get("name")
        return [one for one in self.runners.values() if name is None or name.lower() in one["name"].lower()]

    def _list(self, request: httpx.Request, field_name: str, found: list[JSON]) -> httpx.Response:
        query = parse_qs(request.url.query.decode())
        number, size = int(query.get("page", ["1"])[0]), min(int(query["per_page"][0]), self.page)
        headers = {}
        if number * size < len(found):
            # As at GitHub, later pages live under the owner's id.
            after = re.sub(r"/orgs/[^/]+", "/organizations/5", str(request.url.copy_with(query=None)))
            headers["link"] = (
                f'<{after}?per_page={size}&page={number + 1}>; rel="next", <{after}>; rel="last"'
            )
        page = found[(number - 1) * size : number * size]
        return httpx.Response(200, json={"total_count": len(found), field_name: page}, headers=headers)

    def _remove(self, _: httpx.Request, number: str) -> httpx.Response:
        runner = self.runners.get(int(number))
        if runner is None:
            return problem(404, "Not Found")
        if runner["busy"]:
            return problem(422, f'Bad request - Runner "{runner["name"]}" is still running a job"')
        del self.runners[int(number)]
        return httpx.Response(204)

    def _one(self, things: dict[int, JSON], number: str) -> httpx.Response:
        thing = things.get(int(number))
        return httpx.Response(200, json=thing) if thing else problem(404, "Not Found")

    def _repositories(self, request: httpx.Request) -> httpx.Response:
        return self._list(request, "repositories", [{"full_name": one} for one in self.group_repositories])


@dataclass
class Seconds:
    """A monotonic clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def a_client(stub: StubGitHub, *, token: str | None = None, **changes: Any) -> GitHubClient:
    credentials = TokenCredentials(token=token) if token else AppCredentials(app_id="42", private_key=pem())
    values: JSON = {
        "api_url": stub.base,
        "ca_path": None,
        "api_version": "2026-03-10",
        "metrics": Metrics(),
        "downloads": Path("nowhere"),
        "transport": httpx.MockTransport(stub),
    }
    return GitHubClient(credentials, **values | changes)


@asynccontextmanager
async def connected(stub: StubGitHub, **changes: Any) -> AsyncIterator[GitHubClient]:
    async with a_client(stub, **changes) as client:
        yield client


def http_date(seconds: float) -> str:
    """Return *seconds* since the epoch as HTTP writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
