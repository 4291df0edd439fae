"""A site on real time: a GitHub on loopback, a tart whose VMs are processes, and the server as a process to kill.

Everything is seen from outside: GitHub's model, the directories and locks of the VMs, the database file once the
process has ended, a file in which each job writes down that it ran.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from itertools import pairwise
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
import psutil

from app.domain.pools import Names
from app.domain.runners import TRANSITIONS, RunnerState
from app.sandbox.github import ModelGitHub
from app.sandbox.github_values import Job
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import free_port
from app.vm.locks import owner_of
from tests.crash.server import run

CONFIG = f"""\
slots = 2
host_name = "crash"
min_free_disk_gb = 0

[[pool]]
name = "mac"
labels = ["mac"]
image = "{IMAGE}"
repositories = ["acme/*"]
cpu = 4
idle_timeout = "4s"
"""
LABELS = ("self-hosted", "macOS", "mac")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.crash.server"])
NAMES = Names("crash")
SLOTS = 2
LOOK = 0.1  # s, between two looks at what another process does
START_SECONDS = 60.0  # the machine may be busy with many of us
END_SECONDS = 10.0
DRAIN_SECONDS = 150.0  # the log of deliveries is read every two minutes


class Site:
    """One place, and one process of ours at a time in it."""

    labels = LABELS  # of its jobs

    def __init__(self, model: ModelGitHub, api_url: str, place: Path, config: str = CONFIG) -> None:
        self.model, self.place = model, place
        self.url = ""
        self.trail = place / "trail"
        self.trail.touch()
        self.env = self._environment(api_url)
        self.wrong: list[str] = []
        self.process: ForkServerProcess | None = None
        self._ran, self._gate = place / "ran", place / "gate"
        self.jobs: list[Job] = []
        self._watching = asyncio.create_task(self._watch())
        self._client = httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_keepalive_connections=0))
        (place / "cidermill.toml").write_text(config, encoding="utf-8")

    def _environment(self, api_url: str) -> dict[str, str]:
        key = self.place / "app.pem"
        key.touch(mode=0o600)
        key.write_text(self.model.accounts.app.pem, encoding="ascii")
        return {
            "PATH": f"{self.place / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.place),
            "CRASH_TRAIL": str(self.trail),
            "CRASH_JUMP": str(self.place / "jump"),
            "CIDERMILL_STATE_DIR": str(self.place / "state"),
            "CIDERMILL_GITHUB_API_URL": api_url,
            "CIDERMILL_GITHUB_APP_ID": str(self.model.accounts.app.id),
            "CIDERMILL_GITHUB_PRIVATE_KEY_PATH": str(key),
            "CIDERMILL_GITHUB_WEBHOOK_SECRET": self.model.app_hook.secret,
            "CIDERMILL_TART_PATH": str(self.place / "bin" / "tart"),
            "CIDERMILL_TART_HOME": str(self.place / "tart"),
            "CIDERMILL_LOG_FORMAT": "json",
        }

    async def close(self) -> None:
        """End everything here, VMs too."""
        self._watching.cancel()
        (outcome,) = await asyncio.gather(self._watching, return_exceptions=True)
        await self.kill()
        await self._client.aclose()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if isinstance(outcome, Exception):
            raise outcome

    # -- our process -----------------------------------------------------------------------------

    async def start(self, extra: Mapping[str, str] | None = None) -> bool:
        """Start a process and wait until it answers; False: it was killed first."""
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self.model.point_hook(f"{self.url}/webhooks/github")
        environ = self.env | {"CIDERMILL_LISTEN": address} | dict(extra or {})
        self.process = FORKS.Process(target=run, args=(environ, self.place))
        self.process.start()
        await self.until(lambda: self.has_ended() or self._is_up(), START_SECONDS)
        if self.has_ended():
            assert self.exit_code() == -signal.SIGKILL, f"it did not come up:\n{self.log()[-3000:]}"
            return False
        token = (self.place / "state" / "admin-token").read_text(encoding="ascii").strip()
        self._client.headers["authorization"] = f"Bearer {token}"
        return True

    def has_ended(self) -> bool:
        return self.process is None or self.process.exitcode is not None

    def exit_code(self) -> int | None:
        """Return how the process ended, a negative signal or its code; None: it has not, or was never started."""
        return None if self.process is None else self.process.exitcode

    async def kill(self) -> None:
        """End the process as ``kill -9`` does, if it has not ended by itself."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> None:
        """Send the process a signal that ends it, within the time that a service manager allows."""
        if self.process is not None and self.process.pid is not None and not self.has_ended():
            os.kill(self.process.pid, number)
            await self.until(self.has_ended, within=END_SECONDS)

    async def _is_up(self) -> bool:
        try:
            return (await self._client.get(f"{self.url}/healthz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def ask(self, method: str, path: str) -> httpx.Response | None:
        """Ask the admin API; None: the process ended under it."""
        try:
            return await self._client.request(method, self.url + path)
        except httpx.TransportError:
            return None

    async def until(self, holds: Callable[[], object], within: float = DRAIN_SECONDS) -> None:
        """Wait until *holds*, a function or a coroutine function, does; fail if it does not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            if loop.time() > deadline:
                msg = f"not within {within:.0f} s; left: {self.left()}\n{self.log()[-3000:]}"
                raise TimeoutError(msg)
            await asyncio.sleep(LOOK)

    def log(self) -> str:
        """Return what the processes wrote."""
        return (self.place / "server.log").read_text(encoding="utf-8", errors="replace")

    # -- GitHub ----------------------------------------------------------------------------------

    def queue(self, seconds: float = 0.5, repository: str = "acme/app", *, held: bool = False) -> Job:
        """Queue a job that writes down each of its runs: the runner's name, and its worker.

        One that is *held* runs until all are let go, however slow this machine is.
        """
        self._ran.mkdir(exist_ok=True)
        n = len(self.jobs)
        script = f'echo "$RUNNER_NAME $PPID" >> "{self._ran / str(n)}"'
        if held:
            script += f'; until [ -e "{self._gate}" ]; do sleep 0.1; done'
        job = self.model.queue(repository, f"job {n}", self.labels, seconds, script=script)
        self.jobs.append(job)
        return job

    def let_go(self) -> None:
        """Let the jobs that are held come to their end."""
        self._gate.touch()

    def runs(self, job: Job) -> list[str]:
        """Return the runs of a job: "runner pid-of-its-worker" each."""
        file = self._ran / str(self.jobs.index(job))
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    # -- what must hold --------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Note what must never be, not even for a moment."""
        while True:
            await asyncio.sleep(LOOK)
            self.wrong += await self.seen()

    async def seen(self) -> list[str]:
        """Return what is wrong now: a third VM."""
        running = [name for name in self.vms() if owner_of(self.place / "tart" / "vms" / name)]
        return [f"{len(running)} VMs run: {running}"] if len(running) > SLOTS else []

    def vms(self) -> list[str]:
        """Return the names of our VMs' directories."""
        folder = self.place / "tart" / "vms"
        return sorted(vm.name for vm in folder.iterdir() if NAMES.is_runner(vm.name))

    def goldens(self) -> dict[str, bool]:
        """Return the goldens that are there, and whether launches know them."""
        file = self.place / "state" / "goldens.json"
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        folder = self.place / "tart" / "vms"
        return {vm.name: f'"{vm.name}"' in known for vm in folder.iterdir() if NAMES.is_golden(vm.name)}

    def left(self) -> list[str]:
        """Return what is not over yet: jobs, VMs, registrations, rows."""
        open_jobs = (job for job in self.jobs if job.status != "completed" and job.run.verdict is None)
        left = [f"job {job.id} is {job.status} at GitHub" for job in open_jobs]
        left += [f"VM {name}" for name in self.vms()]
        left += [f"golden {name}, which nobody knows" for name, known in self.goldens().items() if not known]
        listed = self.model.runners.registrations.values()
        left += [f"registration {runner.name}" for runner in listed if NAMES.is_runner(runner.name)]
        rows = self.rows(
            "SELECT name, state FROM runner WHERE state != 'gone' OR (target IS NOT NULL AND NOT deregistered)"
        )
        left += [f"runner {name} is {state}" for name, state in rows]
        known = {int(job): status for job, status in self.rows("SELECT id, status FROM job")}
        ours = (f"job {job.id} is {known.get(job.id, 'unknown')} to us" for job in self.jobs)
        return left + [text for text in ours if not text.endswith("completed to us")]

    def is_drained(self) -> bool:
        return not self.left()

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Ask the database file; nothing where there are no tables yet."""
        file = self.place / "state" / "cidermill.db"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def processes(self) -> list[int]:
        """Return every process of this place that lives: of the server, of tart, of the guests."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                homes = (process.environ().get("HOME", ""), *process.cmdline())
                if any(text.startswith(str(self.place)) for text in homes):
                    found.append(process.pid)
        return [pid for pid in found if psutil.pid_exists(pid)]

    async def problems(self) -> list[str]:
        """Return all that is not as it must be, now that everything should be over; our process is ended too."""
        await self.end(signal.SIGTERM)
        with suppress(TimeoutError):  # what followed a guest's output ends a moment after it
            await self.until(lambda: not self.processes(), within=END_SECONDS)
        wrong = [
            *self.wrong,
            *(f"left behind: {left}" for left in [*self.left(), *self.processes()]),
            *self._misused(),
        ]
        wrong += [
            f"job {job.id} ended {job.conclusion}, and ran {len(self.runs(job))} times"
            for job in self.jobs
            if len(self.runs(job)) != (job.conclusion == "success")
        ]
        return wrong + self._illegal_lives() + self.shared_slots()

    def _misused(self) -> list[str]:
        file = self.place / "tart" / "violations.log"
        wrong = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        wrong += [
            f"{name} was a third VM"
            for (name,) in self.rows("SELECT name FROM runner WHERE reason = 'vm_limit'")
        ]
        return wrong + [line for line in self.log().splitlines() if "Traceback" in line]

    def _illegal_lives(self) -> list[str]:
        lives: dict[str, list[tuple[str | None, str]]] = {}
        for name, before, after in self.rows(
            "SELECT runner, from_state, to_state FROM runner_history ORDER BY id"
        ):
            lives.setdefault(name, []).append((before, after))
        return [f"{name} lived {steps}" for name, steps in lives.items() if not _is_legal(steps)]

    def shared_slots(self) -> list[str]:
        """Return the slots that two runners held at a time."""
        spans = self.rows(
            "SELECT slot, min(at), max(at) FROM runner JOIN runner_history ON runner = name"
            " GROUP BY name ORDER BY slot, min(at)"
        )
        return [
            f"slot {one} was held twice: until {end} and from {begin}"
            for (one, _, end), (other, begin, _) in pairwise(spans)
            if one == other and begin < end
        ]

    def steps(self) -> list[str]:
        """Return the steps made so far, by all processes."""
        return self.trail.read_text(encoding="utf-8").splitlines()


def _is_legal(steps: list[tuple[str | None, str]]) -> bool:
    states = [RunnerState(after) for _, after in steps]
    joined = [before for before, _ in steps] == [None, *(state.value for state in states[:-1])]
    allowed = all(after in TRANSITIONS[before] for before, after in pairwise(states))
    return joined and allowed and (states[0], states[-1]) == (RunnerState.CLAIMED, RunnerState.GONE)


@asynccontextmanager
async def a_site(seed: int, config: str = CONFIG) -> AsyncIterator[Site]:
    """Make a site, and take it away again with every process of it."""
    async with outside(seed) as (model, api_url, place):
        site = Site(model, api_url, place, config)
        try:
            yield site
        finally:
            await site.close()
