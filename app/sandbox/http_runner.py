"""The service that stub runners talk to, below ``/_runner``: sessions, jobs, and how they ended.

GitHub's own protocol between runner and service is undocumented, so this is a small one of our own. What it
keeps of the real thing: a session is opened with the secret out of the JIT configuration, a job is waited for
by long polls, and a registration that is gone ends the session.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.sandbox.github import ModelGitHub
from app.sandbox.github_jit import Credentials
from app.sandbox.github_runners import SessionRefused
from app.sandbox.github_shapes import Json
from app.sandbox.github_values import Job, Session

LONGEST_WAIT = 30.0  # seconds a poll may last
STATUS = {"session_conflict": 409, "job_gone": 409, "version_deprecated": 403, "registration_deleted": 410}

Handler = Callable[[Request], Awaitable[Response]]


class RunnerFace:
    """The routes of the service."""

    def __init__(self, model: ModelGitHub) -> None:
        self._model = model
        self._bells: dict[str, asyncio.Event] = {}
        model.runners.watchers.append(self._ring)

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = "/_runner/sessions/{session}"
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/_runner/sessions", self._connect),
            ("GET", f"{one}/job", self._job),
            ("POST", f"{one}/start", self._start),
            ("POST", f"{one}/beat", self._beat),
            ("POST", f"{one}/finish", self._finish),
            ("DELETE", one, self._disconnect),
        ]
        return [Route(path, _refusals(handler), methods=[method]) for method, path, handler in table]

    def _ring(self, session: Session) -> None:
        bell = self._bells.get(session.id)
        if bell is not None:
            bell.set()

    def _session(self, request: Request) -> Session:
        self._model.tick()
        session = self._model.runners.sessions.get(request.path_params["session"])
        if session is None:
            raise SessionRefused("registration_deleted", "There is no such session.")
        self._model.runners.beat(session)
        return session

    async def _connect(self, request: Request) -> Response:
        body = json.loads(await request.body())
        credentials = Credentials(str(body["client_id"]), str(body["secret"]))
        self._model.tick()
        session = self._model.runners.connect_with(credentials, version=str(body["version"]), heartbeats=True)
        alive = self._model.runners.sessions
        self._bells = {key: bell for key, bell in self._bells.items() if key in alive}
        self._bells[session.id] = asyncio.Event()
        return JSONResponse({"session": session.id})

    async def _job(self, request: Request) -> Response:
        session = self._session(request)
        bell = self._bells[session.id]
        wait = min(float(request.query_params.get("wait", "20")), LONGEST_WAIT)
        try:
            async with asyncio.timeout(wait):
                while (job := self._model.runners.next_job(session)) is None:
                    await bell.wait()
                    bell.clear()
        except TimeoutError:
            return Response(status_code=204)
        return JSONResponse({"id": job.id})

    async def _start(self, request: Request) -> Response:
        job = self._model.runners.start(self._session(request))
        return JSONResponse(self._message(job))

    async def _beat(self, request: Request) -> Response:
        job = self._session(request).registration.job
        return JSONResponse({"cancelled": job is not None and job.cancelled})

    async def _finish(self, request: Request) -> Response:
        body = json.loads(await request.body())
        session = self._session(request)
        self._bells.pop(session.id, None)
        self._model.runners.finish(session, str(body["conclusion"]), log=str(body.get("log", "")))
        return Response(status_code=204)

    async def _disconnect(self, request: Request) -> Response:
        session = self._session(request)
        self._bells.pop(session.id, None)
        self._model.runners.disconnect(session)
        return Response(status_code=204)

    def _message(self, job: Job) -> Json:
        """Return what a runner needs to know of its job."""
        run = job.run
        return {
            "id": job.id,
            "key": job.key,
            "name": job.name,
            "seconds": job.seconds,
            "script": job.script,
            "always": job.always,
            "outcome": job.outcome,
            "environment": {
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTOR": run.repository.owner.login,
                "GITHUB_EVENT_NAME": run.event,
                "GITHUB_JOB": job.key,
                "GITHUB_REF": f"refs/heads/{run.head_branch}",
                "GITHUB_REPOSITORY": run.repository.full_name,
                "GITHUB_REPOSITORY_ID": str(run.repository.id),
                "GITHUB_REPOSITORY_OWNER": run.repository.owner.login,
                "GITHUB_RUN_ATTEMPT": str(run.attempt),
                "GITHUB_RUN_ID": str(run.id),
                "GITHUB_RUN_NUMBER": str(run.number),
                "GITHUB_SERVER_URL": self._model.shapes.web_url,
                "GITHUB_SHA": run.head_sha,
                "GITHUB_WORKFLOW": run.workflow,
            },
            "event": self._model.shapes.trigger(run),
        }


def _refusals(handler: Handler) -> Handler:
    """Turn a refusal of the model into an answer."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except SessionRefused as error:
            return JSONResponse({"code": error.code, "message": str(error)}, STATUS[error.code])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"code": "bad_request", "message": "The request is malformed."}, 400)

    return answer
