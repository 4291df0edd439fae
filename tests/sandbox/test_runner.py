"""The stub runner, as real processes against the sandbox's GitHub on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from app.clock import utcnow
from app.sandbox.github import ModelGitHub
from app.sandbox.github_runners import SessionRefused
from app.sandbox.github_values import Job
from app.sandbox.http import serve
from app.sandbox.runner import runner_files
from tests.sandbox.github_world import ACME, LABELS, a_blob, a_github

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
BLOB = "ACTIONS_RUNNER_INPUT_JITCONFIG"


@dataclass(slots=True)
class Guest:
    """A directory with the runner in it, and what run.sh did there."""

    model: ModelGitHub
    root: Path
    output: str = ""

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.root)} | environment
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            self.root / "run.sh", *arguments, env=env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )

    async def end(self, process: asyncio.subprocess.Process) -> int:
        async with asyncio.timeout(20):
            out, _ = await process.communicate()
        self.output = out.decode()
        assert process.returncode is not None
        return process.returncode

    async def run(self, *arguments: str, **environment: str) -> int:
        return await self.end(await self.start(*arguments, **environment))

    async def run_job(self, job: Job, *, name: str = "mini-1", **environment: str) -> None:
        """Run the runner over one job, which must end."""
        assert await self.run(**{BLOB: a_blob(self.model, name)}, **environment) == 0
        assert job.status == "completed"

    def write(self, path: str, text: str) -> Path:
        (self.root / path).write_text(text, encoding="utf-8")
        return self.root / path


def install(root: Path, files: Mapping[str, tuple[str, int]]) -> None:
    for path, (text, mode) in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    model = a_github(utcnow)
    model.app_hook.events = frozenset()
    install(tmp_path, runner_files())
    async with serve(model):
        yield Guest(model, tmp_path)


async def until(holds: object) -> None:
    """Wait until a condition holds, with a bound."""
    assert callable(holds)
    async with asyncio.timeout(10):
        while not holds():  # other processes: there is no event
            await asyncio.sleep(0)


async def test_it_says_what_the_real_one_says(guest: Guest) -> None:
    """The lines a follower parses come in their order and form, and run.sh exits 0."""
    job = guest.model.queue("acme/app", "test (3.12)", LABELS, seconds=0.01)
    await guest.run_job(job)
    expected = (
        r"\n√ Connected to GitHub\n\n"
        r"Current runner version: '2\.336\.0'\n"
        rf"{TIME}: Listening for Jobs\n"
        rf"{TIME}: Running job: test \(3\.12\)\n"
        rf"{TIME}: Job test \(3\.12\) completed with result: Succeeded\n"
    )
    assert re.match(expected, guest.output)
    assert (job.conclusion, job.runner_name) == ("success", "mini-1")
    assert guest.model.runners.registrations == {}


async def test_the_blob_reaches_no_job(guest: Guest) -> None:
    """The JIT configuration is taken out of the environment; what the job can read are the runner's own files."""
    job = guest.model.queue("acme/app", labels=LABELS, script="env; ls -a ../../..; cat ../../../.runner")
    blob = a_blob(guest.model)
    assert await guest.run(**{BLOB: blob}) == 0
    assert "ACTIONS_RUNNER_INPUT" not in job.log
    assert blob not in job.log
    assert {".runner", ".credentials", ".credentials_rsaparams"} <= set(job.log.split())
    assert '"AgentName": "mini-1"' in job.log
    modes = [
        (guest.root / name).stat().st_mode & 0o777 for name in (".credentials", ".credentials_rsaparams")
    ]
    assert modes == [0o600, 0o600]


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        pytest.param("no blob", 0, "Not configured", id="no configuration"),
        pytest.param("nonsense", 0, "not base64", id="a configuration that is none"),
        pytest.param(
            "deleted", 0, "registration has been deleted from the server", id="its registration is gone"
        ),
        pytest.param("deprecated", 7, "is deprecated", id="a version too old, with the variable"),
        pytest.param("deprecated, quiet", 0, "is deprecated", id="a version too old, without it"),
    ],
)
async def test_exit_codes(guest: Guest, how: str, code: int, line: str) -> None:
    """run.sh exits 0 whatever happens, but for one code that must be asked for."""
    environment = {} if how == "no blob" else {BLOB: a_blob(guest.model)}
    match how:
        case "nonsense":
            environment[BLOB] = "bm9uc2Vuc2U="
        case "deleted":
            guest.model.runners.deregister(ACME, 1)
        case "deprecated" | "deprecated, quiet":
            guest.model.runners.refusals.append(
                SessionRefused("version_deprecated", "Version 1 is deprecated.")
            )
    if how == "deprecated":
        environment["ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"] = "1"
    assert await guest.run(**environment) == code
    assert line in guest.output


async def test_an_argument_does_as_well(guest: Guest) -> None:
    """``--jitconfig`` is the other way in."""
    job = guest.model.queue("acme/app", labels=LABELS)
    assert await guest.run("--jitconfig", a_blob(guest.model)) == 0
    assert job.conclusion == "success"


async def test_dot_env_overrides(guest: Guest) -> None:
    """Lines of ``.env`` win over the environment, and an empty value unsets."""
    guest.write(".env", "COLOUR=red\nGONE=\n# no line\nNEW=a=b\n")
    job = guest.model.queue("acme/app", labels=LABELS, script='echo "[$COLOUR] [${GONE-unset}] [$NEW]"')
    await guest.run_job(job, COLOUR="blue", GONE="here")
    assert "[red] [unset] [a=b]" in job.log


async def test_setup_info_is_shown(guest: Guest) -> None:
    """Groups of ``.setup_info`` appear in the job's own log."""
    guest.write(".setup_info", json.dumps([{"group": "Image", "detail": "sequoia@sha256:1"}]))
    job = guest.model.queue("acme/app", labels=LABELS)
    await guest.run_job(job)
    assert "##[group]Image\nsequoia@sha256:1\n##[endgroup]" in job.log


HOOK = 'echo "repository=$GITHUB_REPOSITORY event=$GITHUB_EVENT_NAME run=$GITHUB_RUN_ID on=$RUNNER_NAME"\n'


async def test_a_hook_sees_the_job_that_arrived(guest: Guest) -> None:
    """The job-started hook knows repository, event and payload, with the fork a pull request comes from."""
    hook = guest.write("hook.sh", HOOK + 'cp "$GITHUB_EVENT_PATH" "$HOME/event.json"\n')
    done = guest.write("done.sh", "echo over and out\n")
    fork = guest.model.accounts.add_repository("eve/app", visibility="public")
    job = guest.model.queue("acme/app", labels=LABELS, event="pull_request", head=fork)
    await guest.run_job(
        job,
        ACTIONS_RUNNER_HOOK_JOB_STARTED=str(hook),
        ACTIONS_RUNNER_HOOK_JOB_COMPLETED=str(done),
    )
    assert f"repository=acme/app event=pull_request run={job.run.id} on=mini-1" in job.log
    assert "over and out" in job.log
    event = json.loads((guest.root / "event.json").read_text(encoding="utf-8"))
    assert event["repository"]["full_name"] == "acme/app"
    assert event["pull_request"]["head"]["repo"]["id"] == fork.id != event["repository"]["id"]


@pytest.mark.parametrize(
    ("hook", "shown", "always_ran"),
    [
        pytest.param("echo no; exit 1", "##[error]Process completed with exit code 1.", True, id="it fails"),
        pytest.param("false; echo on", "##[error]Process completed with exit code 1.", True, id="bash -e"),
        pytest.param("echo no; kill -KILL $PPID; exit 1", "no\n", False, id="it ends the worker"),
    ],
)
async def test_a_hook_refuses(guest: Guest, hook: str, shown: str, always_ran: bool) -> None:
    """A hook that fails fails the job, yet ``if: always()`` steps run, unless it ends the worker, its parent."""
    path = guest.write("hook.sh", hook)
    job = guest.model.queue("acme/app", labels=LABELS, script="echo step ran", always="echo always ran")
    await guest.run_job(job, ACTIONS_RUNNER_HOOK_JOB_STARTED=str(path))
    assert job.conclusion == "failure"
    assert shown in job.log
    assert "step ran" not in job.log
    assert ("always ran" in job.log) is always_ran
    assert "completed with result: Failed" in guest.output


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        pytest.param({"script": "exit 3"}, "Failed", id="its script fails"),
        pytest.param({"outcome": "failure"}, "Failed", id="it was to fail"),
        pytest.param({"script": "true"}, "Succeeded", id="it succeeds"),
    ],
)
async def test_results(guest: Guest, changes: dict[str, str], result: str) -> None:
    """A job's result is that of its step, or the one it was made to have."""
    job = guest.model.queue("acme/app", labels=LABELS, **changes)  # type: ignore[arg-type]
    await guest.run_job(job)
    assert f"completed with result: {result}" in guest.output


async def test_its_processes_have_the_real_names(guest: Guest) -> None:
    """While a job runs there are a ``Runner.Listener`` and below it a ``Runner.Worker``, and no blob in an argv."""
    job = guest.model.queue("acme/app", labels=LABELS, script="until [ -e ../../../go ]; do sleep 0.01; done")
    blob = a_blob(guest.model)
    process = await guest.start(**{BLOB: blob})
    await until(lambda: job.status == "in_progress" and (guest.root / "_work/_temp/script.sh").exists())
    below = [child.cmdline() for child in psutil.Process(process.pid).children(recursive=True)]
    lines = [" ".join(command) for command in below]
    assert [name for name in ("Runner.Listener", "Runner.Worker") if any(name in line for line in lines)] == [
        "Runner.Listener",
        "Runner.Worker",
    ]
    assert blob not in " ".join(lines)
    guest.write("go", "")
    assert await guest.end(process) == 0


async def test_a_cancelled_job_is_stopped(guest: Guest) -> None:
    """A cancellation ends the step and all it started; the result is Canceled."""
    job = guest.model.queue("acme/app", labels=LABELS, script="sleep 300")
    process = await guest.start(**{BLOB: a_blob(guest.model)})
    await until(lambda: (guest.root / "_work/_temp/script.sh").exists())
    guest.model.cancel(job)
    assert await guest.end(process) == 0
    assert (job.conclusion, job.status) == ("cancelled", "completed")
    assert "completed with result: Canceled" in guest.output


async def test_an_idle_runner_that_is_deregistered_ends(guest: Guest) -> None:
    """Its registration gone, a listening runner says so and exits 0."""
    process = await guest.start(**{BLOB: a_blob(guest.model)})
    await until(lambda: any(runner.online for runner in guest.model.runners.at(ACME)))
    guest.model.runners.deregister(ACME, 1)
    assert await guest.end(process) == 0
    assert "The runner no longer exists on the server." in guest.output


async def test_sigterm_is_passed_on(guest: Guest) -> None:
    """With RUNNER_MANUALLY_TRAP_SIG run.sh passes a SIGTERM on, and the listener closes its session."""
    process = await guest.start(**{BLOB: a_blob(guest.model)}, RUNNER_MANUALLY_TRAP_SIG="1")
    assert process.stdout is not None
    async with asyncio.timeout(10):
        await process.stdout.readuntil(b"Listening for Jobs")
    process.terminate()
    assert await guest.end(process) == 0
    (runner,) = guest.model.runners.at(ACME)
    assert not runner.online


async def test_a_second_use_conflicts(guest: Guest) -> None:
    """A blob used twice at a time conflicts, is tried again, and ends with code 5, which run.sh makes 0."""
    blob = a_blob(guest.model)
    guest.model.runners.connect(blob)
    assert await guest.run(**{BLOB: blob}) == 0
    assert "A session for this runner already exists." in guest.output
    assert "Session Conflict" in guest.output


async def test_version_and_warmup(tmp_path: Path) -> None:
    """The listener tells the version it was made with, and warms up without doing anything."""
    install(tmp_path, runner_files(version="2.340.1"))
    listener, pipe = tmp_path / "bin" / "Runner.Listener", asyncio.subprocess.PIPE
    answers = []
    for argument in ("--version", "warmup"):
        process = await asyncio.create_subprocess_exec(listener, argument, stdout=pipe)
        out, _ = await process.communicate()
        answers.append((process.returncode, out))
    assert answers == [(0, b"2.340.1\n"), (0, b"")]
