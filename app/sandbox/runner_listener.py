"""The listener of the stub runner: it runs in the sandbox's guests as ``Runner.Listener``.

Behaves as docs/contracts/github.md §6 says of the real one: the lines it prints, its exit codes, ``.env``, and
that it forgets the inputs it was given before anything else can see them. It speaks to
:mod:`app.sandbox.http_runner` instead of GitHub, and its retries wait a small part of the real ones' time.

This file is copied into the guest and runs there by itself, so it uses the standard library only, and little
of that, since it must start within some tens of milliseconds.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NoReturn

Json = dict[str, Any]  # JSON from the sandbox; its keys are the types

INPUT = "ACTIONS_RUNNER_INPUT_"
DEPRECATED = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
POLL = 20  # seconds a wait for a job may last
BEAT = 0.5  # seconds between signs of life while a job runs
CONFLICT_TRIES = 8
CONFLICT_WAIT = 0.25  # really 30 s
CONNECT_TRIES = 10
CONNECT_WAIT = 0.25  # really 15 to 30 s
CONCLUSIONS = {100: "success", 102: "failure", 103: "cancelled"}  # by the worker's exit code
RESULTS = {"success": "Succeeded", "failure": "Failed", "cancelled": "Canceled"}


class Refused(Exception):
    """The service said no; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Service:
    """The sandbox's runner service, over HTTP/1.0: importing an HTTP library takes longer than a job."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self._place, _, path = rest.partition("/")
        self._base = f"/{path}".rstrip("/")
        if scheme != "http":
            raise OSError(0, "the stub runner speaks only plain http, to the sandbox")

    def call(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """Ask, and return the answer; None for an empty one. Raises Refused, or OSError."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {self._base}{path} HTTP/1.0\r\nHost: {self._place}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        host, _, port = self._place.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=POLL + 10) as connection:
            connection.sendall(head.encode() + content)
            with connection.makefile("rb") as file:
                answer = file.read()
        header, _, content = answer.partition(b"\r\n\r\n")
        words = header.split(None, 2)
        if len(words) < 2:
            raise OSError(0, "the sandbox closed the connection")
        parsed: Json | None = json.loads(content) if content else None
        if int(words[1]) >= 400:
            told = parsed if isinstance(parsed, dict) else {}
            raise Refused(told.get("code", "unavailable"), told.get("message", "no reason given"))
        return parsed


def main(argv: list[str]) -> int:
    """Run as *argv* says: our file, ``…/bin/Runner.Listener``, the version to claim, ``run`` and its options."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(argv[1]))))  # noqa: PTH100, PTH120
    try:
        return listen(argv[2], argv[3:])
    except _Stopped:
        say("Exiting...")
        return 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.buffer.write(f"{text}\n".encode())
    sys.stdout.buffer.flush()


def stamped(text: str) -> None:
    """Print a line with the time before it."""
    say(f"{time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime())}: {text}")


def load_env() -> None:
    """Load ``.env`` over the environment; an empty value unsets."""
    try:
        with open(".env", encoding="utf-8") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        key, found, value = line.partition("=")
        if not found or not key:
            continue
        os.environ.pop(key, None)
        if value:
            os.environ[key] = value


def take_inputs(arguments: list[str]) -> str | None:
    """Return the JIT configuration, and forget every input that is in the environment."""
    blob = os.environ.get(f"{INPUT}JITCONFIG")
    for key in [key for key in os.environ if key.startswith(INPUT)]:
        del os.environ[key]
    if "--jitconfig" in arguments[:-1]:
        return arguments[arguments.index("--jitconfig") + 1]
    return blob


def configure(blob: str) -> tuple[Json, Json]:
    """Write the configuration's files; return what the service wants to know, and the runner's settings."""
    files = {name: base64.b64decode(text) for name, text in json.loads(base64.b64decode(blob)).items()}
    for name in (".runner", ".credentials", ".credentials_rsaparams"):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(files[name])
    client = json.loads(files[".credentials"])["Data"]["clientId"]
    secret = json.loads(files[".credentials_rsaparams"])["d"]
    proof = {"client_id": client, "secret": secret}
    return proof, json.loads(files[".runner"])


def listen(version: str, arguments: list[str]) -> int:
    """Connect, wait for one job, run it, and return the listener's exit code."""
    load_env()
    blob = take_inputs(arguments)
    if not blob:
        say("An error occurred: Not configured. Run config.(sh/cmd) to configure the runner.")
        return 1
    try:
        proof, settings = configure(blob)
    except (ValueError, KeyError, TypeError):
        say("An error occurred: the JIT configuration is not base64 of the runner's files.")
        return 1
    service = Service(settings["ServerUrl"])
    say("\n√ Connected to GitHub\n")
    try:
        session = connect(service, proof | {"version": version})
    except Refused as error:
        return refused(error)
    except OSError as error:
        say(f"An error occurred: {error}")
        return 2
    say(f"Current runner version: '{version}'")
    return attend(service, session, {"version": version, "settings": settings})


def connect(service: Service, proof: Json) -> str:
    """Open the session, trying again where another one is still open or nobody answers."""
    for left in reversed(range(CONFLICT_TRIES)):
        try:
            answer = service.call("POST", "/sessions", proof)
        except Refused as error:
            if error.code != "session_conflict" or not left:
                raise
            say("A session for this runner already exists.")
            time.sleep(CONFLICT_WAIT)
        except OSError as error:
            if not left:
                raise
            stamped(f"Runner connect error: {error}. Retrying until reconnected.")
            time.sleep(CONNECT_WAIT)
        else:
            return str((answer or {})["session"])
    raise AssertionError


def refused(error: Refused) -> int:
    """Say why there is no session, and return the exit code."""
    if error.code == "version_deprecated":
        say(f"An error occurred: {error}")
        return 7 if os.environ.get(DEPRECATED) == "1" else 1
    if error.code == "session_conflict":
        return 5
    say(f"Failed to create a session. {error} Please re-configure.")
    return 1


class _Stopped(BaseException):
    """A signal asks the listener to end."""


def _stop(number: int, frame: object) -> NoReturn:
    del number, frame
    raise _Stopped


def attend(service: Service, session: str, about: Json) -> int:
    """Wait for a job and run it."""
    failures = 0
    try:
        stamped("Listening for Jobs")  # whoever reads that may stop us at once
        while failures < CONNECT_TRIES:
            try:
                if service.call("GET", f"/sessions/{session}/job?wait={POLL}") is None:
                    failures = 0
                    continue
                job = service.call("POST", f"/sessions/{session}/start")
            except OSError as error:
                failures += 1
                stamped(f"Runner connect error: {error}. Retrying until reconnected.")
                time.sleep(CONNECT_WAIT)
                continue
            work(service, session, job or {}, about)
            return 0
    except Refused as error:
        if error.code != "job_gone":
            say("The runner no longer exists on the server. Cleaning up local configuration.")
        return 0
    except _Stopped:
        quietly(service, "DELETE", f"/sessions/{session}")
        raise
    return 2


def work(service: Service, session: str, job: Json, about: Json) -> None:
    """Have a worker run the job, and report how it ended."""
    stamped(f"Running job: {job['name']}")
    os.makedirs("_diag", exist_ok=True)  # noqa: PTH103
    message = json.dumps({"job": job} | about).encode()
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    command = [sys.executable, "-S", f"{here}/worker.py", f"{here}/Runner.Worker", "spawnclient"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
        try:
            if worker.stdin is not None:
                worker.stdin.write(message)
                worker.stdin.close()
            code = watch(service, session, worker)
        except _Stopped:
            worker.terminate()
            code = worker.wait()
    conclusion = CONCLUSIONS.get(code, "failure")  # a worker that was killed failed
    with open("_diag/job.log", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        report: Json = {"conclusion": conclusion, "log": file.read()}
    for _ in range(CONNECT_TRIES):
        if quietly(service, "POST", f"/sessions/{session}/finish", report):
            break
        time.sleep(CONNECT_WAIT)
    stamped(f"Job {job['name']} completed with result: {RESULTS[conclusion]}")


def watch(service: Service, session: str, worker: subprocess.Popen[bytes]) -> int:
    """Give signs of life until the worker ends, and stop it where the job was cancelled."""
    while True:
        try:
            return worker.wait(BEAT)
        except subprocess.TimeoutExpired:
            pass
        try:
            answer = service.call("POST", f"/sessions/{session}/beat") or {}
        except (OSError, Refused):
            continue  # the job goes on; its end is reported when somebody answers
        if answer.get("cancelled"):
            worker.terminate()


def quietly(service: Service, method: str, path: str, body: Json | None = None) -> bool:
    """Call, and say whether somebody answered at all."""
    try:
        service.call(method, path, body)
    except Refused:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv))
