"""What an Orchard controller answers, call by call: the model, and a real one where there is one.

Both are asked the same, and must answer the same: status, kind and text. Names and times that are each one's own
are left out.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.clock import utcnow
from app.sandbox.orchard.server import ACCOUNT, SERVER_NAME, TOKEN, shelf
from app.sandbox.orchard.values import TART_VMS
from tests.vm.real_orchard import TOKENS, real_shelf

JSON = "application/json; charset=utf-8"
NO_JSON = "invalid JSON was provided"
OTHERS = {"reader": ["compute:read"], "connector": ["compute:connect"], "bare": []}
OWN = frozenset({"uid", "createdAt", "localName", "tartName", "version", "commit"})  # each one's own
NEVER = "0001-01-01T00:00:00Z"
ASKED: dict[str, Any] = {
    "name": "a1",
    "image": "sequoia",
    "os": "linux",
    "arch": "amd64",
    "runtime": "vetu",
    "cpu": 4,
    "headless": True,
    "resources": {TART_VMS: 1},
    "labels": {"room": "2"},
    "startup_script": {"script_content": "echo <a>&b\n", "env": {"A": "b"}},
}
TAKEN = {
    "imagePullPolicy": "IfNotPresent",
    "restart_policy": "Never",
    "powerState": "running",
    "status": "pending",
    "conditions": [{"type": "scheduled", "state": "false"}],
    "generation": 0,
    "observedGeneration": 0,
    "scheduled_at": NEVER,
    "started_at": NEVER,
    "restarted_at": NEVER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A controller without workers, and who may ask it."""

    url: str
    certificate: Path
    tokens: dict[str, str]

    async def ask(
        self, who: str | None, verb: str, path: str, body: Any = None
    ) -> tuple[int, str | None, Any]:
        """Return status, kind and content of an answer."""
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        async with httpx.AsyncClient(verify=self.tls()) as client:
            answer = await client.request(
                verb,
                f"{self.url}/v1{path}",
                auth=None if who is None else (who, self.tokens.get(who, "wrong")),
                extensions={"sni_hostname": SERVER_NAME},
                **({} if body is None else given),
            )
        kind = answer.headers.get("content-type")
        return answer.status_code, kind, told(answer.json()) if kind == JSON else answer.text

    async def refused(self, who: str, path: str) -> tuple[int, Any]:
        """Return how an upgrade is refused."""
        credentials = base64.b64encode(f"{who}:{self.tokens[who]}".encode()).decode()
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(
                f"ws{self.url.removeprefix('http')}/v1{path}",
                additional_headers={"Authorization": f"Basic {credentials}"},
                ssl=self.tls(),
                server_hostname=SERVER_NAME,
                proxy=None,
            ):
                pass
        answer = refusal.value.response
        return answer.status_code, json.loads(answer.body)["message"] if answer.body else ""

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


def told(found: Any) -> Any:
    if isinstance(found, list):
        return [told(one) for one in found]
    if isinstance(found, dict):
        return {key: told(value) for key, value in found.items() if key not in OWN}
    return found


@asynccontextmanager
async def on_model(place: Path) -> AsyncIterator[Face]:
    async with shelf(place, utcnow, macs=(), tls=True) as made:
        for name, roles in OTHERS.items():
            made.model.account(name, f"{name}-token", *roles)
        assert made.certificate is not None
        tokens = {ACCOUNT: TOKEN} | {name: f"{name}-token" for name in OTHERS}
        yield Face(url=made.url, certificate=made.certificate, tokens=tokens)


@asynccontextmanager
async def on_real_orchard(place: Path) -> AsyncIterator[Face]:
    async with real_shelf(place, workers=()) as made:
        for name, roles in OTHERS.items():
            account = {"name": name, "token": f"{name}-token", "roles": roles}
            assert (await made.ask("POST", "/service-accounts", account)).status_code == 200
        tokens = {ACCOUNT: TOKENS["cidermill"]} | {name: f"{name}-token" for name in OTHERS}
        yield Face(url=made.url, certificate=made.certificate, tokens=tokens)


@pytest.fixture(params=[on_model, pytest.param(on_real_orchard, marks=pytest.mark.orchard)])
async def face(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Face]:
    make: Callable[[Path], AbstractAsyncContextManager[Face]] = request.param
    async with make(tmp_path) as made:
        yield made


async def test_who_may_ask_what(face: Face) -> None:
    """Whatever is refused is a 401: without a word for a stranger, with the roles that are missing for the others."""
    for who in (None, "nobody", "bare2"):
        assert await face.ask(who, "GET", "/controller/info") == (401, None, "")
    for who in (ACCOUNT, "bare"):
        status, _, info = await face.ask(who, "GET", "/controller/info")
        assert (status, list(info)) == (200, ["capabilities"])
    for who, verb, path, role in (
        ("bare", "GET", "/vms", "compute:read"),
        ("connector", "GET", "/workers", "compute:read"),
        ("reader", "POST", "/vms", "compute:write"),
        ("reader", "DELETE", "/vms/a1", "compute:write"),
    ):
        said = {"message": f"all of the following roles must be present: {role}"}
        assert await face.ask(who, verb, path) == (401, JSON, said)
    said = "any of the following roles must be present: compute:write, compute:connect"
    assert await face.refused("reader", "/vms/a1/exec?command=true") == (401, said)


async def test_what_is_not_there(face: Face) -> None:
    """A name that is not there has no body, an unknown path or method is plain text, and a slash too many leads away."""
    for verb, path in (
        ("GET", "/vms/a1"),
        ("DELETE", "/vms/a1"),
        ("GET", "/vms/a1/events"),
        ("GET", "/workers/mini9"),
    ):
        assert await face.ask(ACCOUNT, verb, path) == (404, None, "")
    assert await face.ask(ACCOUNT, "PUT", "/workers/mini9", {"name": "mini9"}) == (404, None, "")
    for who, verb, path in ((None, "GET", "/nothing"), (ACCOUNT, "PATCH", "/vms")):
        assert await face.ask(who, verb, path) == (404, "text/plain", "404 page not found")
    assert (await face.ask(ACCOUNT, "GET", "/vms/"))[0] == 301
    assert await face.refused(ACCOUNT, "/vms/a1/exec?command=true") == (404, "")


REFUSED: list[tuple[bytes | dict[str, Any], int, str]] = [
    (b"{", 400, NO_JSON),
    (b"", 400, NO_JSON),
    (b"[]", 400, NO_JSON),
    (b'{"name":"a","image":"x","cpu":4.0}', 400, NO_JSON),
    ({"cpu": "4"}, 400, NO_JSON),
    ({"resources": {TART_VMS: -1}}, 400, NO_JSON),
    ({"labels": {"a": 1}}, 400, NO_JSON),
    ({"os": "plan9"}, 400, NO_JSON),
    (b"null", 412, "VM name is empty"),
    ({"name": ""}, 412, "VM name is empty"),
    ({"name": "a/b"}, 412, "VM name name contains restricted characters, please only use [A-Za-z0-9:-_.]"),
    ({"image": ""}, 412, "VM image is empty"),
    ({"restart_policy": "Maybe"}, 412, 'unsupported restart policy: "Maybe"'),
    ({"imagePullPolicy": "Maybe"}, 412, 'unsupported image pull policy: "Maybe"'),
    ({"netSoftnet": True}, 412, 'runtime "vetu" does not support field "netSoftnet"'),
    (
        {"os": "darwin", "arch": "arm64", "runtime": "tart", "hostDirs": [{"name": "x", "path": "/x"}]},
        400,
        'host directory "x:/x" is disallowed by policy, check your cluster settings',
    ),
]


async def test_bodies_that_are_refused(face: Face) -> None:
    """What is no JSON of a VM is 400, and what makes no sense 412, each with a word."""
    for body, status, message in REFUSED:
        sent = body if isinstance(body, bytes) else ASKED | body
        assert await face.ask(ACCOUNT, "POST", "/vms", sent) == (status, JSON, {"message": message}), body


async def test_a_vm_that_no_worker_takes(face: Face) -> None:
    """It is answered as it is stored, once, with what was left out filled in and what is unknown left out."""
    kept = (200, JSON, ASKED | TAKEN)
    assert await face.ask(ACCOUNT, "POST", "/vms", ASKED | {"colour": "red", "uid": "mine"}) == kept
    exists = {"message": "VM with this name already exists"}
    assert await face.ask(ACCOUNT, "POST", "/vms", ASKED) == (409, JSON, exists)
    assert await face.ask("reader", "GET", "/vms/a1") == kept
    mac = {"name": "a2", "image": "sequoia"}
    filled_in = mac | TAKEN | {"os": "darwin", "arch": "arm64", "runtime": "tart", "resources": {TART_VMS: 1}}
    assert await face.ask(ACCOUNT, "POST", "/vms", mac) == (200, JSON, filled_in)
    assert await face.ask("reader", "GET", "/vms") == (200, JSON, [ASKED | TAKEN, filled_in])
    assert await face.ask("reader", "GET", "/vms?filter=worker=mini1") == (200, JSON, [])
    assert await face.ask("reader", "GET", "/vms/a1/events?order=desc&limit=5") == (200, JSON, [])
    for query, message in (
        ("limit=0", 'invalid limit "0": expected positive integer'),
        ("limit=x", 'invalid limit "x": expected positive integer'),
        ("order=up", 'invalid order "up": expected asc or desc'),
    ):
        assert await face.ask("reader", "GET", f"/vms/a1/events?{query}") == (400, JSON, {"message": message})
    for query, refusal in (
        ("command=true&wait=1", (408, "VM is not running on '' worker")),
        ("wait=1", (400, '"command" parameter cannot be empty')),
        ("command=true&wait=x", (400, "")),
        ("command=true&wait=65536", (400, "")),
    ):
        assert await face.refused("connector", f"/vms/a1/exec?{query}") == refusal
    assert await face.ask(ACCOUNT, "DELETE", "/vms/a1") == (200, None, "")
    assert await face.ask(ACCOUNT, "DELETE", "/vms/a1") == (404, None, "")
