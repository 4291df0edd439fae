"""The real server between the sandbox's GitHub and the stand-in tart, with all that it does and says kept.

What is kept: the argument list and the environment of every command it starts, its log, its files while it works
and afterwards, and every answer of its API. A :class:`Finder` says which secrets are in any of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.sandbox.github import ModelGitHub
from app.sandbox.github_jit import rsa_parameters
from app.sandbox.github_values import Job
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import Server

SEED = 7
SECONDS = 90.0
CONFIG = f"""\
slots = 2
host_name = "demo"
min_free_disk_gb = 0
log_level = "debug"

[[pool]]
name = "sequoia"
labels = ["sequoia"]
image = "{IMAGE}"
repositories = ["acme/*"]
"""
LABELS = ("self-hosted", "macOS", "sequoia")
LARGEST = 20_000_000  # bytes of a file that is searched; above are disks, with nothing in them
PUBLIC = {"modulus", "exponent"}
STEP, WINDOW = 8, 24

# A shell script, since it must note the environment before anything of ours could change it.
NOTE = """\
#!/bin/bash
note='{notes}'/$$-$RANDOM
printf '%s\\0' "$0" "$@" >"$note.argv"
env -0 >"$note.env"
if [ "$2" = -i ] && [ -e '{repeat}' ]; then
  given=$(cat)
  if [[ $given == *eyI* ]]; then
    rm '{repeat}'
    echo "$given" >&2
    exit 1
  fi
  echo "$given" | '{tart}' "$@"
  exit
fi
exec '{tart}' "$@"
"""
REPEAT = (
    "repeat"  # while this file is there, the next guest that is given its JIT config says it back and fails
)


ENDLESS = {"/api/v1/events"}  # a stream: what it tells stands in the other answers


class Finder:
    """Finds secrets, also pieces of one: any WINDOW + STEP - 1 characters of it in a row."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._pieces = {
            text[n : n + WINDOW]: number
            for number, text in enumerate(map(str.encode, self._all(secrets)))
            for n in range(len(text) - WINDOW + 1)
        }

    @staticmethod
    def _all(secrets: Iterable[str]) -> Iterator[str]:
        """Yield the secrets, and what is in them: a key's lines, a JIT configuration's files and numbers."""
        yield from (value for name, value in rsa_parameters().items() if name not in PUBLIC)
        for secret in secrets:
            if "PRIVATE KEY" in secret:
                yield from (line for line in secret.splitlines() if "PRIVATE KEY" not in line)
                continue
            yield secret
            if secret.startswith("eyIu"):
                yield from json.loads(base64.b64decode(secret)).values()

    def found_in(self, data: bytes) -> bool:
        """Whether any of the secrets, or a piece of one, is in *data*."""
        return any(data[n : n + WINDOW] in self._pieces for n in range(0, len(data) - WINDOW + 1, STEP))


class Told(Server):
    """The server, told more than the sandbox tells it."""

    def __init__(self, place: Path, api_url: str, model: ModelGitHub, told: dict[str, str | None]) -> None:
        super().__init__(place, api_url, model, CONFIG)
        changed = {f"CIDERMILL_{name.upper()}": text for name, text in told.items()}
        self._env = {name: text for name, text in (self._env | changed).items() if text is not None}


@dataclass(slots=True, kw_only=True)
class Rig:
    """The server at work, and what it left: the last three fields are filled when it has stopped."""

    model: ModelGitHub
    place: Path
    server: Server
    token: str
    evidence: dict[str, bytes] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)  # every command's argument list
    files: list[str] = field(default_factory=list)  # the paths of all there was in the state directory
    log: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret there is: GitHub's, and our own."""
        return (*self.model.secrets(), self.token)

    @property
    def with_app(self) -> bool:
        """Whether the server is an App, and not somebody's token."""
        return not any(secret.startswith("github_pat_") for secret in self.secrets)

    def logged(self) -> str:
        """Return the log so far."""
        return (self.place / "server.log").read_text(encoding="utf-8", errors="replace")

    def finish(self) -> None:
        """Keep what the stopped server left."""
        self.keep_files("at the end")
        noted = sorted((self.place / "notes").glob("*.argv"))
        self.commands = [file.read_bytes().decode(errors="replace").split("\0")[:-1] for file in noted]
        self.log = self.logged()

    def keep_files(self, when: str) -> None:
        """Keep what is in the files now: all that was written, but for the guests' disks and the App's own key."""
        state = self.place / "state"
        self.files += [str(path.relative_to(state)) for path in state.rglob("*")]
        for path in self.place.rglob("*"):
            inside = path.relative_to(self.place)
            if inside.parts[0] == "tart" and when != "at the end":
                continue  # a guest that runs holds its own runner's credentials
            if path.name != "app.pem" and path != state / "admin-token" and is_small_file(path):
                self.evidence[f"{when}: {inside}"] = path.read_bytes()

    async def keep_answers(self, when: str) -> None:
        """Keep every answer of the API: good ones, refusals, and the document."""
        document = await self.server.get("/openapi.json")
        runners = await self.server.get("/api/v1/runners")
        jobs = (await self.server.get("/api/v1/jobs"))["items"]
        names = [runner["name"] for runner in runners] or ["none"]
        ids = [job["id"] for job in jobs] or [0]
        paths = [
            path.format(name=name, job_id=job_id)
            for path, methods in document["paths"].items()
            if "get" in methods
            for name, job_id in {(names[0], ids[0]), (names[-1], ids[-1]), ("none", 1)}
        ]
        async with httpx.AsyncClient(base_url=self.server.url) as client:
            for path in {*paths, "/openapi.json"} - ENDLESS:
                for who, token in (("admin", self.token), ("stranger", "wrong")):
                    answer = await client.get(path, headers={"authorization": f"Bearer {token}"})
                    kept = f"{answer.status_code} {answer.headers}\n".encode() + answer.content
                    self.evidence[f"{when}: {who} {path}"] = kept

    async def post(self, payload: object, *, secret: str, guid: str) -> int:
        """Deliver a webhook of our own making, signed."""
        body = json.dumps(payload).encode()
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "X-GitHub-Event": "workflow_job",
            "X-GitHub-Delivery": guid,
            "X-Hub-Signature-256": f"sha256={digest}",
        }
        async with httpx.AsyncClient(base_url=self.server.url) as client:
            return (await client.post("/webhooks/github", content=body, headers=headers)).status_code

    async def job(self, job: Job) -> dict[str, Any]:
        """Return a job as the API shows it."""
        shown: dict[str, Any] = await self.server.get(f"/api/v1/jobs/{job.id}")
        return shown

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what another process brings about."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                await asyncio.sleep(0.05)

    async def until_idle(self) -> None:
        """Wait until every slot is free again."""
        async with asyncio.timeout(SECONDS):
            while any(slot["state"] != "free" for slot in await self.server.get("/api/v1/slots")):
                await asyncio.sleep(0.05)


def is_small_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < LARGEST


@asynccontextmanager
async def at_work(prepare: Callable[[ModelGitHub, Path], dict[str, str | None]]) -> AsyncIterator[Rig]:
    """Run the server; *prepare* changes the outside and returns settings beside the usual."""
    print(f"seed {SEED}")
    async with outside(SEED) as (model, api_url, place):
        _note_commands(place)
        told = prepare(model, place)
        async with Told(place, api_url, model, told) as server:
            model.point_hook(f"{server.url}/webhooks/github")
            for hook in model.hooks.hooks.values():
                hook.url = model.app_hook.url
            token = (place / "state" / "admin-token").read_text(encoding="ascii").strip()
            rig = Rig(model=model, place=place, server=server, token=token)
            yield rig
        rig.finish()


def _note_commands(place: Path) -> None:
    (place / "notes").mkdir()
    tart = place / "bin" / "tart"
    stand_in = tart.rename(tart.with_name("tart-stand-in"))
    tart.write_text(
        NOTE.format(notes=place / "notes", tart=stand_in, repeat=place / REPEAT), encoding="utf-8"
    )
    tart.chmod(0o755)
