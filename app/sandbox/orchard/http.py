"""The model controller behind HTTP: its REST API and its WebSocket for commands, on loopback.

docs/contracts/orchard.md §1–2: whatever is refused is a 401, most errors have no body, an unknown path or method is a
plain 404, and `exec` says what is wrong before the upgrade, after the whole of `wait`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from email.utils import format_datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.sandbox.orchard.controller import OrchardModel
from app.sandbox.orchard.values import Record, Refused
from app.sandbox.orchard.worker import ModelWorker
from app.vm.process import Child

LARGEST_MESSAGE = 32_768  # bytes from a client
CHUNK = 4096  # bytes of output a frame
LONGEST_WAIT = 65_535  # s, for a guest to be reached
JSON = "application/json; charset=utf-8"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
READ, WRITE, CONNECT = "compute:read", "compute:write", "compute:connect"

Verb = Callable[[Request], Awaitable[Any]]


class OrchardFace:
    """Answers for a model."""

    def __init__(self, model: OrchardModel, workers: Mapping[str, ModelWorker]) -> None:
        self._model, self._workers = model, workers

    def app(self) -> Starlette:
        """Return the ASGI application."""
        table: list[tuple[str, str, Verb, tuple[str, ...]]] = [
            ("GET", "/v1/controller/info", self._info, ()),
            ("GET", "/v1/workers", self._list_workers, (READ,)),
            ("GET", "/v1/workers/{name}", self._get_worker, (READ,)),
            ("PUT", "/v1/workers/{name}", self._put_worker, (WRITE,)),
            ("GET", "/v1/vms", self._list_vms, (READ,)),
            ("POST", "/v1/vms", self._create, (WRITE,)),
            ("GET", "/v1/vms/{name}", self._get_vm, (READ,)),
            ("DELETE", "/v1/vms/{name}", self._delete_vm, (WRITE,)),
            ("GET", "/v1/vms/{name}/events", self._events, (READ,)),
        ]
        by_path: dict[str, dict[str, tuple[Verb, tuple[str, ...]]]] = {}
        for method, path, verb, roles in table:
            by_path.setdefault(path, {})[method] = verb, roles
        routes = [Route(path, self._endpoint(verbs), methods=METHODS) for path, verbs in by_path.items()]
        app = Starlette(
            routes=[*routes, WebSocketRoute("/v1/vms/{name}/exec", self._exec)],
            exception_handlers={404: _no_such_page, 405: _no_such_page},
        )
        app.router.redirect_slashes = False
        return app

    def _endpoint(self, verbs: Mapping[str, tuple[Verb, tuple[str, ...]]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            self._model.log.append(f"{request.method} {request.url.path}?{request.url.query}")
            if request.method not in verbs:
                return _no_such_page(request, None)
            verb, roles = verbs[request.method]
            try:
                self._let_in(request, roles)
                status = self._model.faults.answer.pop(0) if self._model.faults.answer else 200
                return self._reply(status, await verb(request) if status == 200 else None)
            except Refused as refused:
                return self._reply(refused.status, {"message": refused.message} if refused.message else None)

        return answer

    def _reply(self, status: int, body: Any) -> Response:
        headers = {"Date": format_datetime(self._model.clock(), usegmt=True)}
        if body is None:
            return Response(b"", status, headers=headers)
        return Response(json.dumps(body), status, headers=headers | {"Content-Type": JSON})

    def _let_in(self, request: HTTPConnection, roles: tuple[str, ...]) -> None:
        kind, _, packed = request.headers.get("authorization", "").partition(" ")
        try:
            name, _, token = base64.b64decode(packed, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(401) from None
        account = self._model.accounts.get(name)
        if kind != "Basic" or account is None or account.token != token:
            raise Refused(401)
        if roles and not account.roles & set(roles):
            how_many = "any" if len(roles) > 1 else "all"
            raise Refused(401, f"{how_many} of the following roles must be present: {', '.join(roles)}")

    async def _info(self, request: Request) -> Any:
        del request
        return {
            "version": self._model.version,
            "commit": "none",
            "capabilities": ["rpc-v1", "vm-state-endpoint", "rpc-v2"],
        }

    async def _list_workers(self, request: Request) -> Any:
        del request
        return [worker.shown() for _, worker in sorted(self._model.workers.items())]

    async def _get_worker(self, request: Request) -> Any:
        worker = self._model.workers.get(request.path_params["name"])
        if worker is None:
            raise Refused(404)
        return worker.shown()

    async def _put_worker(self, request: Request) -> Any:
        body = await _json(request)
        worker = self._model.workers.get(str(body.get("name", "")))
        if worker is None:
            raise Refused(404)
        worker.paused = bool(body.get("scheduling_paused", False))
        return worker.shown()

    async def _list_vms(self, request: Request) -> Any:
        wanted = request.query_params.get("filter", "").removeprefix("worker=")
        records = [record for _, record in sorted(self._model.vms.items())]
        return [record.shown() for record in records if wanted in {"", record.worker}]

    async def _get_vm(self, request: Request) -> Any:
        return self._model.vm(request.path_params["name"]).shown()

    async def _create(self, request: Request) -> Any:
        record = self._model.create(await _json(request))
        if self._model.faults.lost_answer:
            self._model.faults.lost_answer -= 1
            raise Refused(500)
        return {key: value for key, value in record.shown().items() if key != "version"}

    async def _delete_vm(self, request: Request) -> Any:
        name = request.path_params["name"]
        self._model.vm(name)
        del self._model.vms[name]

    async def _events(self, request: Request) -> Any:
        events = self._model.vm(request.path_params["name"]).events
        order, limit = request.query_params.get("order", "asc"), request.query_params.get("limit")
        if limit is not None and (not limit.isdigit() or int(limit) < 1):
            raise Refused(400, f'invalid limit "{limit}": expected positive integer')
        if order not in {"asc", "desc"}:
            raise Refused(400, f'invalid order "{order}": expected asc or desc')
        return events[:: -1 if order == "desc" else 1][: int(limit) if limit else None]

    async def _exec(self, socket: WebSocket) -> None:
        self._model.log.append(f"GET {socket.url.path}?{socket.url.query}")
        try:
            self._let_in(socket, (WRITE, CONNECT))
            if self._model.faults.exec_silent:
                self._model.faults.exec_silent -= 1
                await asyncio.Event().wait()
            wait = _seconds(socket)
            record = self._model.vm(socket.path_params["name"])
            worker = await self._until_reached(record, wait)
        except Refused as refused:
            body = {"message": refused.message} if refused.message else None
            await socket.send_denial_response(self._reply(refused.status, body))
            return
        await socket.accept()
        child = await worker.exec(record, "/bin/sh", "-c", socket.query_params["command"])
        try:
            await _Exec(self._model, socket, child).relay()
        finally:
            await child.end(signal.SIGKILL)

    async def _until_reached(self, record: Record, wait: float) -> ModelWorker:
        """Wait until the VM runs and its guest lets us in. Raises Refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while True:
            if record.status == "failed":
                raise Refused(417, "VM is in a terminal state 'failed'")
            worker = self._workers.get(record.worker)
            if record.status == "running" and worker is not None and await worker.reaches(record):
                return worker
            if loop.time() >= end:
                if record.status == "running":
                    raise Refused(503, "context deadline exceeded")
                raise Refused(408, f"VM is not running on '{record.worker}' worker")
            await asyncio.sleep(self._model.pace / 5)


class _Exec:
    """One command: frames in, frames out, and its exit code as the last."""

    def __init__(self, model: OrchardModel, socket: WebSocket, child: Child) -> None:
        self._faults, self._socket, self._process = model.faults, socket, child.process
        self._takes_input = "true" in (
            socket.query_params.get("stdin"),
            socket.query_params.get("interactive"),
        )

    async def relay(self) -> None:
        """Go on until the command has ended, or the client has gone."""
        if not self._takes_input and self._process.stdin is not None:
            self._process.stdin.close()
        reading = asyncio.create_task(self._read())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on("stdout", self._process.stdout))
                group.create_task(self._pass_on("stderr", self._process.stderr))
            code = await self._process.wait()
            await self._finish(code)
        except* (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _finish(self, code: int) -> None:
        if self._faults.exec_drops:
            self._faults.exec_drops -= 1
            await self._socket.close(1011)
            return
        if self._faults.exec_error:
            self._faults.exec_error -= 1
            text = 'failed to execute command "…": wait: remote command exited without exit status or exit signal'
            await self._send({"type": "error", "error": text})
        else:
            await self._send({"type": "exit", "exit": {"code": code}})
        await self._socket.close(1000, "Command finished")

    async def _pass_on(self, kind: str, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (chunk := await stream.read(CHUNK)):
            await self._send({"type": kind, "data": base64.b64encode(chunk).decode()})

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._socket.send_text(json.dumps(frame))

    async def _read(self) -> None:
        """Feed the command; an empty frame ends its input, and a bad one the connection."""
        stdin = self._process.stdin
        while stdin is not None:
            try:
                text = await self._socket.receive_text()
                if len(text) > LARGEST_MESSAGE:
                    await self._socket.close(1009)
                    return
                frame = json.loads(text)
                data = base64.b64decode(frame["data"], validate=True)
                if frame["type"] != "stdin" or not self._takes_input:
                    await self._socket.close(1011)
                    return
            except WebSocketDisconnect:
                self._process.kill()
                return
            except (ValueError, KeyError, TypeError):
                await self._socket.close(1011)
                return
            if data:
                stdin.write(data)
                await stdin.drain()
            else:
                stdin.close()


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        raise Refused(400, "invalid JSON was provided") from None


def _seconds(socket: WebSocket) -> float:
    """Return how long an ``exec`` may wait. Raises Refused for one that says nothing to do, or makes no sense."""
    asked = socket.query_params
    if not asked.get("command"):
        raise Refused(400, '"command" parameter cannot be empty')
    wait = asked.get("wait", "10")
    if not wait.isdigit() or int(wait) > LONGEST_WAIT:
        raise Refused(400)
    return int(wait)


def _no_such_page(request: Request, error: Exception | None) -> Response:
    del error
    path = request.url.path
    if path.endswith("/"):
        headers = {"Location": path.rstrip("/"), "Content-Type": "text/html; charset=utf-8"}
        return Response(f'<a href="{path.rstrip("/")}">Moved Permanently</a>.\n\n', 301, headers=headers)
    return Response("404 page not found", 404, headers={"Content-Type": "text/plain"})
