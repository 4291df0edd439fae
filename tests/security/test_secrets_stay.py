"""No secret leaves, and no stranger's text acts: the real server through whole jobs, and all it did looked through."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.api.connection import HEAD_BYTES
from app.sandbox.github import ModelGitHub
from app.sandbox.github_faults import answer, reset
from app.sandbox.tart import faults
from app.sandbox.tart.faults import Fault
from tests.security.rig import LABELS, REPEAT, STEP, WINDOW, Finder, Rig, at_work

pytestmark = pytest.mark.timeout(120)  # whole jobs, on a machine that may be busy
MARK = "h0stile"  # in every text of a stranger, so that it can be looked for
NAMES = [
    f"$(touch {MARK}) `touch {MARK}`; touch {MARK} && {MARK} | {MARK} > {MARK}",
    f"../../../../tmp/{MARK}",
    f"{MARK}\n2026-01-01T00:00:00Z [info     ] forged by {MARK}\r\n",
    f"\x1b[2J\x1b]0;{MARK}\x07\x9b31m",
    f"\u202e{MARK}\u2066\u2028",
    f"--net-bridged=en0 -{MARK}",
    MARK * 1000,
]


async def troubled() -> Rig:
    """Run jobs with an App while GitHub, tart and the database fail now and then; JSON logs."""

    def prepare(model: ModelGitHub, place: Path) -> dict[str, str | None]:
        model.accounts.stateless_tokens = True
        model.faults.add("token", answer(502))
        model.faults.add("job", answer(500))
        model.faults.add("registrations", reset())
        failing = (Fault("list_fails", count=1), Fault("exec_dies", count=2), Fault("delete_fails", count=1))
        faults.write(place / "tart", *failing)
        return {}

    async with at_work(prepare) as rig:
        first = rig.model.queue("acme/app", "build", LABELS, seconds=1.0)
        await rig.until(lambda: first.status == "in_progress")
        await while_it_works(rig)
        assert b"headers are too large" in await talk(rig, b"GET / HTTP/1.1\r\nx: " + b"x" * HEAD_BYTES)
        breaking = {"runner_history": "INSERT", "delivery": "INSERT"}
        with closing(sqlite3.connect(rig.place / "state" / "cidermill.db")) as database:
            for table, verb in breaking.items():
                database.execute(
                    f"CREATE TRIGGER broken_{table} BEFORE {verb} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'broken by the test'); END"
                )
            assert await rig.post(a_job(9), secret=rig.model.app_hook.secret, guid="broken") == 503
            await rig.until(lambda: rig.logged().count('"exception"') >= 2)
            for table in breaking:
                database.execute(f"DROP TRIGGER broken_{table}")
        await rig.until_idle()
        await rig.keep_answers("afterwards")
    assert rig.log.count("Traceback") >= 2
    assert first.conclusion == "success"
    return rig


async def echoed() -> Rig:
    """Run a job with an App whose first registration is lost, and whose second guest says back what it was given."""

    def prepare(model: ModelGitHub, place: Path) -> dict[str, str | None]:
        model.faults.add("mint", answer(500, effect=True))
        (place / REPEAT).touch()
        return {}

    async with at_work(prepare) as rig:
        job = rig.model.queue("acme/app", "build", LABELS, seconds=1.0)
        await rig.until(lambda: job.status == "in_progress")
        assert not (rig.place / REPEAT).exists()
        await while_it_works(rig)
        await rig.until_idle()
        await rig.keep_answers("afterwards")
    assert job.conclusion == "success"
    return rig


async def hostile() -> Rig:
    """Run jobs of strangers' names with a token and a repository's own webhook; readable logs."""

    def prepare(model: ModelGitHub, place: Path) -> dict[str, str | None]:
        del place
        hook = model.add_hook("acme/app")
        return {
            "github_app_id": None,
            "github_private_key_path": None,
            "github_token": model.accounts.add_token("acme").text,
            "github_webhook_secret": hook.secret,
            "github_webhook_secret_previous": model.app_hook.secret,
            "log_format": "console",
        }

    async with at_work(prepare) as rig:
        for number, name in enumerate(NAMES):
            for status in ("queued", "in_progress", "completed"):
                payload = a_job(number + 1, name, status)
                sent = await rig.post(
                    payload, secret=rig.model.app_hook.secret, guid=f"{MARK}-{number}-{status}"
                )
                assert sent == 202
        said = f"printf '%b' '\\033[2J{MARK}\\n'; echo \"$0 ../{MARK}\""
        jobs = [
            rig.model.queue("acme/app", "".join(NAMES[:5]), LABELS, seconds=0.5, script=said),
            rig.model.queue("acme/app", NAMES[2], LABELS, seconds=0.5),
        ]
        await rig.until(lambda: any(job.status == "in_progress" for job in jobs))
        await while_it_works(rig)
        await rig.until(lambda: all(job.status == "completed" for job in jobs))
        await rig.until_idle()
        await rig.keep_answers("afterwards")
    assert [job.conclusion for job in jobs] == ["success", "success"]
    return rig


async def talk(rig: Rig, sent: bytes) -> bytes:
    """Send bytes to the server, and return all that it says before it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port)
    writer.write(sent)
    said = await reader.read()
    writer.close()
    return said


async def while_it_works(rig: Rig) -> None:
    """Look at everything while a job runs, and see that a secret would be found: the guest holds its own."""
    rig.keep_files("while a job runs")
    await rig.keep_answers("while a job runs")
    guests = [
        path
        for path in (rig.place / "tart" / "vms").rglob("*")
        if path.is_file() and path.stat().st_size < 10**6
    ]
    finder = Finder(rig.model.secrets())
    assert any(finder.found_in(path.read_bytes()) for path in guests)


def a_job(number: int, name: str = "build", status: str = "queued") -> dict[str, Any]:
    """Return a delivery of which every text is *name*, but for what makes it a job of ours at all."""
    job = {
        "id": number, "run_id": number, "run_attempt": 1, "status": status, "conclusion": name,
        "name": name + "\0\ud800", "workflow_name": name, "head_branch": name, "runner_name": name,
        "runner_group_name": name, "html_url": name, "labels": ["sequoia", name],
        "created_at": "2026-03-01T12:00:00Z", "started_at": name, "completed_at": name,
        "steps": [{"name": name, "status": name}],
    }  # fmt: skip
    repository = {"id": 1, "full_name": "acme/app", "private": True, "owner": {"login": name, "type": name}}
    return {"action": status, "workflow_job": job, "repository": repository, "sender": {"login": name}}


STORIES = [
    pytest.param(troubled, id="troubled", marks=pytest.mark.long),
    pytest.param(hostile, id="hostile"),
    pytest.param(echoed, id="echoed", marks=pytest.mark.long),
]


@pytest.fixture(scope="module", params=STORIES)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with asyncio.Runner() as runner:
        yield runner.run(request.param())


def test_no_secret_leaves(rig: Rig) -> None:
    """No secret, nor a piece of one, is in any argument list, environment, log, file, database or answer."""
    finder = Finder(rig.secrets)
    assert [name for name, data in rig.evidence.items() if finder.found_in(data)] == []


def test_everything_was_looked_at(rig: Rig) -> None:
    """Every kind of secret was looked for, also in pieces, in every kind of place."""
    finder = Finder(rig.secrets)
    for secret in rig.secrets:
        text = secret.splitlines()[3] if "PRIVATE KEY" in secret else secret
        piece = text[len(text) // 5 :][: WINDOW + STEP - 1]
        assert all(finder.found_in(b"." * n + piece.encode() + b".") for n in range(8))
    own = ["ghs_", "eyJ"] if rig.with_app else ["github_pat_"]
    for start in ("eyIu", "-----BEGIN", rig.model.app_hook.secret, rig.token, *own):
        assert any(secret.startswith(start) for secret in rig.secrets), start
    for place in (
        "while a job runs: state/cidermill.db-wal",
        "while a job runs: server.log",
        "while a job runs: admin /metrics",
        "afterwards: stranger /api/v1/jobs",
        "at the end: state/cidermill.db",
    ):
        assert rig.evidence[place]
    for part in (".argv", ".env", "run.log", "runner.log", "/logs"):
        assert any(name.endswith(part) for name in rig.evidence)


def test_commands_have_nothing_of_strangers(rig: Rig) -> None:
    """Every command is made of our own words, our own names and the configuration."""
    assert {"clone", "run", "exec", "list", "delete"} <= {argv[1] for argv in rig.commands}
    for argv in rig.commands:
        assert not any(MARK in argument for argument in argv)
        assert all(
            re.fullmatch(r"demo-sequoia-[a-z2-7]{8}", part) for part in argv if part.startswith("demo-")
        )
    environments = {name: data for name, data in rig.evidence.items() if name.endswith(".env")}
    assert environments
    for data in environments.values():
        assert MARK.encode() not in data
        assert b"CIDERMILL_" not in data


def test_files_have_names_of_ours(rig: Rig) -> None:
    """Every file in the state directory has a name that we made up."""
    ours = r"(cidermill\.db(-wal|-shm|-journal)?|admin-token|lock|images\.json|runners(/demo-sequoia-[a-z2-7]{8}(/(run|runner)\.log)?)?)"
    assert [name for name in rig.files if re.fullmatch(ours, name) is None] == []
    assert any("runner.log" in name for name in rig.files)


def test_lines_of_the_log_are_ours(rig: Rig) -> None:
    """Every line of the log is one of ours: none is begun by a stranger, and none steers a terminal."""
    lines = [line for line in rig.log.split("\n") if line]
    assert len(lines) > 10
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", rig.log)
    if lines[0].startswith("{"):
        assert all(json.loads(line)["timestamp"] for line in lines)
    else:
        heads = [line for line in lines if not line.startswith("    ")]
        assert [
            line
            for line in heads
            if re.match(r"20\d\d-\d\d-\d\dT[0-9:.]+Z \[(debug|info|warning|error)", line) is None
        ] == []
        assert not [line for line in heads if line.startswith("2026-01-01")]


def test_what_is_kept_of_strangers_is_short(rig: Rig) -> None:
    """Texts are kept as text, cut to a length, without what cannot be stored."""
    pages = [name for name in rig.evidence if name.endswith(": admin /api/v1/jobs")]
    shown = [json.loads(rig.evidence[name].partition(b"\n")[2]) for name in pages]
    assert shown
    for job in (job for page in shown for job in page["items"]):
        assert all(len(text) <= 1000 for text in (job["name"], job["workflow"] or "", *job["labels"]))
        assert "\0" not in job["name"]
