"""A fleet on a real Orchard controller whose workers make nothing: for many Macs on one machine.

``orchard worker run --synthetic`` does all that a worker does with its controller, and has no VMs behind it
(docs/contracts/orchard.md §7.4): no command can be run in them, and none of them ever ends. So a face in front of the
controller passes every request on, counts it, answers the commands as a guest would, and reports a VM's end to the
controller as its worker would.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.clock import utcnow
from app.ports import JitConfig
from app.sandbox.github import ModelGitHub
from app.sandbox.host import ModelHost
from app.sandbox.hostparts import ModelVM
from app.sandbox.lives import RunnerLives
from app.sandbox.server import free_port
from app.sandbox.serving import loopback, serving
from tests.vm.real_orchard import ADMIN, START, TOKENS, bootstrap_token, located

METHODS = ["GET", "POST", "PUT", "DELETE"]
ENDED = "VM failed: failed to run startup script: Process exited with status 100"
NAMED = re.compile(r"/v1/vms/([^/?]+)")


class Guests:
    """The face in front of the controller."""

    def __init__(self, controller: str, model: ModelGitHub) -> None:
        self.calls: Counter[str] = Counter()
        self.url = ""
        self._host = ModelHost(utcnow)
        self._host.on_end(self._report)
        self.lives = RunnerLives(model, self._host)
        self._controller = httpx.AsyncClient(
            base_url=controller, auth=("worker", TOKENS["worker"]), timeout=30.0
        )
        self._reports: set[asyncio.Task[None]] = set()

    async def placed(self) -> int:
        """Return how many VMs have a place on a worker, as the controller says; not counted."""
        shown = (await self._controller.get("/v1/vms")).json()
        held = {"type": "scheduled", "state": "true"}
        return sum(held in vm.get("conditions", []) for vm in shown)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on loopback."""
        listener = loopback()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        routes = [
            WebSocketRoute("/v1/vms/{name}/exec", self._exec),
            Route("/{path:path}", self._pass_on, methods=METHODS),
        ]
        face = Starlette(routes=routes)
        try:
            async with serving(face, listener, ws="websockets-sansio", date_header=False):
                yield
        finally:
            await self.lives.close()
            for task in self._reports:
                task.cancel()
            await asyncio.gather(*self._reports, return_exceptions=True)
            await self._controller.aclose()

    async def _pass_on(self, request: Request) -> Response:
        path = request.url.path
        self.calls[f"{request.method} {NAMED.sub('/v1/vms/*', path)}"] += 1
        headers = {
            key: request.headers[key]
            for key in ("authorization", "user-agent", "content-type")
            if key in request.headers
        }
        answer = await self._controller.request(
            request.method,
            path,
            params=request.query_params,
            content=await request.body(),
            headers=headers,
            auth=None,
        )
        name = NAMED.match(path)
        if request.method == "DELETE" and name and (vm := self._host.vms.pop(name[1], None)):
            self._host.lost(vm)
        kept = {key: answer.headers[key] for key in ("date", "content-type") if key in answer.headers}
        return Response(answer.content, answer.status_code, kept)

    async def _exec(self, socket: WebSocket) -> None:
        await socket.accept()
        name, command = socket.path_params["name"], socket.query_params["command"]
        vm = self._host.vms.setdefault(name, ModelVM(name))
        with suppress(WebSocketDisconnect):
            if "tail -c" in command:
                self.calls["exec: follow"] += 1
                await socket.receive_text()  # until whoever follows has enough
                return
            self.calls["exec"] += 1
            given = await self._input(socket)
            said = self._do(vm, command, given)
            await socket.send_text(
                json.dumps({"type": "stdout", "data": base64.b64encode(said.encode()).decode()})
            )
            await socket.send_text(json.dumps({"type": "exit", "exit": {"code": 0}}))
            await socket.close(1000, "Command finished")

    async def _input(self, socket: WebSocket) -> bytes:
        given = bytearray()
        while "stdin" in socket.query_params:
            data = base64.b64decode(json.loads(await socket.receive_text())["data"])
            if not data:
                break
            given += data
        return bytes(given)

    def _do(self, vm: ModelVM, command: str, given: bytes) -> str:
        """Answer a command as a guest would, and begin the runner's life where it is one."""
        if "deliver.sh" in command:
            vm.jit, vm.runner_alive = JitConfig(given.partition(b"\n")[0].decode()), True
            self._host.connected(vm)
            return "cidermill-delivered\n"
        if "probe.sh" in command:
            delivered, alive, works = (
                int(flag) for flag in (vm.jit is not None, vm.runner_alive, vm.worker_alive)
            )
            return f"cidermill-guest delivered={delivered} alive={alive} worker={works} code=-\n"
        return f"cidermill-set-up version={self.lives.version}\n"

    def _report(self, name: str, ending: str) -> None:
        del ending
        task = asyncio.create_task(self._tell(name))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _tell(self, name: str) -> None:
        answer = await self._controller.get(f"/v1/vms/{name}")
        if answer.status_code == 200:
            ended: dict[str, Any] = answer.json() | {"status": "failed", "status_message": ENDED}
            await self._controller.put(f"/v1/vms/{name}/state", json=ended)


@asynccontextmanager
async def synthetic_fleet(place: Path, workers: int) -> AsyncIterator[str]:
    """Run a controller with so many workers of two VMs each, and yield its URL."""
    program, url = located(), f"http://127.0.0.1:{free_port()}"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "ORCHARD_HOME": str(place / "orchard"),
        "ORCHARD_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
    }
    (place / "orchard").mkdir()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, auth=("bootstrap-admin", ADMIN))
        )

        def run(*arguments: str) -> None:
            with (place / "orchard.log").open("ab") as log:
                process = subprocess.Popen(
                    [program, *arguments], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            stack.callback(_ended, process)

        run("controller", "run", "--insecure-no-tls", "--listen", url.removeprefix("http://"))
        await _until(client, "/v1/controller/info", at_least=1)
        for name, token in TOKENS.items():
            account = {"name": name, "token": token, "roles": ["compute:read", "compute:write"]}
            (await client.post("/v1/service-accounts", json=account)).raise_for_status()
        run(
            "worker", "run", "--synthetic", "--workers", str(workers), "--name", "mini",
            "--resources", "org.cirruslabs.tart-vms=2", "--bootstrap-token", bootstrap_token(None), url,
        )  # fmt: skip
        await _until(client, "/v1/workers", at_least=workers)
        yield url


async def _until(client: httpx.AsyncClient, path: str, *, at_least: int) -> None:
    """Wait until an answer has so many items."""
    async with asyncio.timeout(START):
        while True:
            with suppress(httpx.TransportError):
                found: Sequence[Any] = (await client.get(path)).json()
                if len(found) >= at_least:
                    return
            await asyncio.sleep(0.1)


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=15)
