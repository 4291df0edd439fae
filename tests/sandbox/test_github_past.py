"""A repository's past, read from the sandbox's GitHub over HTTP: by the client, and by the command that replays it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.program import program
from app.clock import utcnow
from app.domain.jobs import JobStatus
from app.sandbox.github import ModelGitHub
from app.sandbox.http import serve
from app.sandbox.http_limits import Limits
from tests.conftest import Clock
from tests.sandbox.github_world import APP, LABELS, a_github, connected
from tests.sandbox.test_github_client import Pair, pair

__all__ = ["pair"]  # the fixture

DAY = timedelta(days=1)
CONFIG = """\
github_api_url = "{url}"
github_token = "{token}"
github_webhook_secret = "not asked for here"

[[pool]]
name = "mac"
labels = ["sequoia"]
image = "sequoia"
repositories = ["acme/*"]
"""


def run_one(model: ModelGitHub, clock: Clock | None = None, *, labels: tuple[str, ...] = LABELS) -> None:
    """Let a job of acme/app wait for 10 s and run for 50, where there is a clock to set."""
    model.queue("acme/app", labels=labels)
    if clock is not None:
        clock.pass_(seconds=10)
    session = connected(model, f"mini-{len(model.workflows.jobs)}", APP, labels)
    model.runners.start(session)
    if clock is not None:
        clock.pass_(seconds=50)
    model.runners.finish(session)


async def test_past_jobs(pair: Pair) -> None:
    """Runs that are over are read with all their jobs, cancelled ones too; others, older ones and what is too much are not."""
    model = pair.model
    for _ in range(2):
        run_one(model)
    model.cancel(model.queue("acme/app", labels=LABELS))
    model.queue("acme/app", labels=LABELS)  # waits
    today = utcnow().date()
    past = await pair.client.past_jobs("acme/app", since=today - DAY, most_runs=10)
    assert (past.runs, past.complete) == (3, True)
    assert [job.conclusion for job in past.jobs] == ["cancelled", "success", "success"]
    assert {(job.repository, job.status, job.labels) for job in past.jobs} == {
        ("acme/app", JobStatus.COMPLETED, LABELS)
    }
    assert [job.runner for job in past.jobs] == [None, "mini-2", "mini-1"]
    some = await pair.client.past_jobs("acme/app", since=today - DAY, most_runs=1)
    assert (len(some.jobs), some.complete) == (1, False)
    assert (await pair.client.past_jobs("acme/app", since=today + 2 * DAY, most_runs=1)).jobs == ()


async def forecast(place: Path, url: str, token: str, *arguments: str) -> Any:
    """Run the command in *place*, where this GitHub is configured."""
    file = place / "cidermill.toml"
    file.write_text(CONFIG.format(url=url, token=token), encoding="utf-8")
    file.chmod(0o600)
    return await asyncio.to_thread(
        CliRunner().invoke, program, ["forecast", "--repository", "acme/app", *arguments]
    )


async def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replays what GitHub tells of the last days, for the jobs that the configured pools would serve."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    clock = Clock(utcnow() - 20 * DAY)
    model = a_github(clock)
    run_one(model, clock, labels=("self-hosted", "sequoia"))  # too long ago
    clock.now = utcnow() - DAY
    for _ in range(3):
        run_one(model, clock, labels=("self-hosted", "sequoia"))
    run_one(model, clock, labels=("gpu",))
    token = model.accounts.add_token("ada").text
    async with serve(model, limits=Limits(clock)) as url:
        done = await forecast(tmp_path, url, token, "--macs", "1", "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["jobs"], told["left_out"]) == (3, {"of_no_pool": 1, "unfinished": 0})
        assert "4 jobs of 4 runs of acme/app since" in told["read"]
        (setup,) = told["setups"]
        assert setup["wait_seconds"]["longest"] == pytest.approx(17.3)
        assert setup["job_hours"] == pytest.approx(150 / 3600, abs=0.01)
        done = await forecast(tmp_path, url, "ghp_wrong")
        assert (done.exit_code, "Bad credentials" in done.stderr, "ghp_wrong" in done.stderr) == (
            1,
            True,
            False,
        )
