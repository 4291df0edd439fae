"""``cidermill forecast``: what is asked, read, said, drawn and refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli.program import program
from app.clock import utcnow
from app.db.database import open_engine
from app.db.migrate import upgrade
from app.db.rows import JOB, job_values
from tests.forecast.past import a_past_job


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty directory that is the home too, with nothing configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["forecast", *arguments])


def write(count: int) -> None:
    """Write a file of that many jobs of a minute, two at a time and a minute apart."""
    lines = [
        {
            "id": n, "run_id": n, "status": "completed", "conclusion": "success", "labels": ["macos-15"],
            "url": "https://api.github.com/repos/acme/app/actions/runs/1", "runner_name": "r",
            "created_at": f"2026-03-01T12:{n // 2:02}:00Z", "started_at": f"2026-03-01T12:{n // 2:02}:05Z",
            "completed_at": f"2026-03-01T12:{n // 2 + 1:02}:05Z",
        }
        for n in range(count)
    ]  # fmt: skip
    Path("events.json").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def test_a_file_with_nothing_configured() -> None:
    """Whoever has no CiderMill yet is told how long jobs would wait, how few Macs are enough, and with which times."""
    write(60)
    done = run("--events", "events.json", "--within", "60s", "--svg", "waits.svg", "--timing", "boot=20s")
    assert done.exit_code == 0, done.output
    said = done.stdout
    assert "Read 60 jobs of events.json." in said
    assert "boot 20 s (given), register 0.7 s (default)" in said
    rows = [line.split("\t") for line in said.splitlines() if "\t" in line]
    assert [row[0] for row in rows] == ["SETUP", "1 Mac with 2 slots", "2 Macs with 2 slots each"]
    assert rows[2][1:6] == ["24 s"] * 5
    assert "2 Macs with 2 slots each is enough: 95 % of the jobs start within 60 s (100.0 %)." in said
    assert ET.parse("waits.svg").getroot().attrib["role"] == "img"  # noqa: S314  # ours


def test_json() -> None:
    """The same for programs, with the smallest that was found even if it was not asked for."""
    write(60)
    done = run("--events", "events.json", "--macs", "1", "--within", "60s", "--json")
    told = json.loads(done.stdout)
    assert [(one["macs"], one["slots"]) for one in told["setups"]] == [(1, 2), (2, 2)]
    assert told["goal"]["met_by"] == {"macs": 2, "slots": 2}
    assert told["setups"][1]["wait_seconds"]["longest"] == pytest.approx(17.3)
    assert told["timings"]["boot"] == {"seconds": 13.6, "origin": "default"}


def test_no_set_up_is_enough() -> None:
    """That is said, with the largest that was tried."""
    write(20)
    done = run("--events", "events.json", "--within", "5s", "--most-macs", "3")
    said = "Not even with 3 Macs with 2 slots each would 95 % of the jobs start within 5 s: where a slot is free it takes 17.3 s."
    assert said in done.stdout
    done = run("--events", "events.json", "--within", "5s", "--most-macs", "1", "--min-ready", "1")
    assert "Not even with 1 Mac with 2 slots, 1 ready would 95 % of the jobs start within 5 s." in done.stdout


def test_faster_starts() -> None:
    """VMs that are kept ready and snapshots are asked about by the names of their settings."""
    write(2)
    done = run("--events", "events.json", "--start", "snapshot", "--min-ready", "2", "--macs", "2", "--json")
    (setup,) = json.loads(done.stdout)["setups"]
    assert (setup["start"], setup["min_ready"]) == ("snapshot", 2)
    assert setup["wait_seconds"]["longest"] == pytest.approx(11.3)
    assert "resume 7.6 s (default), register" in run("--events", "events.json", "--start", "snapshot").stdout


def test_own_history(tmp_path: Path) -> None:
    """Unasked it is the database of this CiderMill, which nothing is written to."""
    state = tmp_path / ".cidermill"
    state.mkdir()
    path = state / "cidermill.db"
    upgrade(path)
    assert "there is nothing to replay" in run().stderr
    now = utcnow()
    jobs = [
        replace(
            a_past_job(n, labels=("macos",)), queued_at=now, received_at=now, started_at=now, completed_at=now
        )
        for n in range(3)
    ]
    engine = open_engine(path)
    with engine.begin() as connection:
        connection.execute(JOB.insert(), [job_values(job) for job in jobs])
    engine.dispose()
    path.chmod(0o400)
    assert "Replayed 3 jobs" in run().stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param((), 1, "There is no history yet", id="no database"),
        pytest.param(("--events", "none.json"), 1, "Cannot read none.json", id="no file"),
        pytest.param(("--events", os.devnull), 1, "there is nothing to replay", id="an empty file"),
        pytest.param(("--start", "warm"), 2, "is not one of 'cold'", id="no way to start"),
        pytest.param(("--repository", "acme/app"), 1, "GITHUB_TOKEN", id="no credentials"),
        pytest.param(("--repository", "acme"), 2, "write owner/name", id="no repository"),
        pytest.param(("--timing", "lunch=1h"), 2, "write NAME=TIME", id="no such time"),
        pytest.param(("--within", "soon"), 2, "write seconds", id="no length of time"),
        pytest.param(("--events", "a", "--repository", "a/b"), 2, "give one of", id="two histories"),
    ],
)
def test_refusals(arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each names the mend."""
    done = run(*arguments)
    assert (done.exit_code, said in done.stderr.replace("\n", " ")) == (code, True), done.stderr
