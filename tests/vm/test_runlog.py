"""What the kept output of a runner tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.vm.runlog import turned_away, worked

SAID = "cidermill: run.sh ended with 7\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"Runner listener exit with deprecated version\n{SAID}", True, id="the last line"),
        pytest.param(SAID, True, id="the only line"),
        pytest.param("cidermill: run.sh ended with 0\n", False, id="another end"),
        pytest.param("cidermill: run.sh ended with 77\n", False, id="a longer number"),
        pytest.param(f"{SAID}cidermill: run.sh ended with 0\n", False, id="said before the end"),
        pytest.param(f"echo {SAID}", False, id="in the middle of a line"),
        pytest.param("", False, id="nothing"),
        pytest.param(None, False, id="no log"),
    ],
)
def test_turned_away(tmp_path: Path, text: str | None, expected: bool) -> None:
    """Only the supervisor's own last line says that GitHub takes the runner's version no longer."""
    log = tmp_path / "runner.log"
    if text is not None:
        log.write_text(text, encoding="utf-8")
    assert turned_away(log) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2026-11-25 10:00:01Z: Running job: build\n", True, id="a job began"),
        pytest.param("2026-11-25 10:00:01Z: Listening for Jobs\n", False, id="none did"),
        pytest.param("echo 2026-11-25 10:00:01Z: Running job: build\n", False, id="in the middle of a line"),
        pytest.param(None, False, id="no log"),
    ],
)
def test_worked(tmp_path: Path, text: str | None, expected: bool) -> None:
    """The listener's own line says that a job began."""
    log = tmp_path / "runner.log"
    if text is not None:
        log.write_text(f"Current runner version: '2.336.0'\n{text}", encoding="utf-8")
    assert worked(log) is expected
