"""Logs: one form for all, and no secret in any of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from app import logs
from app.logs import HIDDEN, Redactor

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail(text: str) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SECRET, id="a secret of the configuration"),
        pytest.param("ghs_" + "a1" * 18, id="an installation token"),
        pytest.param("ghs_123_eyJ0.eyJpc3Mi-x_y." + "Z" * 500, id="an installation token of the new form"),
        pytest.param("ghp_" + "a1" * 18, id="a classic token"),
        pytest.param("github_pat_" + "a_1" * 20, id="a fine-grained token"),
        pytest.param("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMiJ9.c2ln-_x", id="a JWT"),
        pytest.param("eyIucnVubmVyIjoi" * 30 + "/+==", id="a JIT config"),
        pytest.param("ewogICIucnVubmVyIjoi" * 20, id="a JIT config written over several lines"),
        pytest.param(
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", id="a private key"
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\nMIIE\nAAAA", id="half a private key"),
    ],
)
def test_secrets_go(text: str) -> None:
    """Known secrets and what looks like one are replaced, and the text around them stays."""
    before, after = "before ", "" if "BEGIN" in text else " after"
    assert Redactor([SECRET]).redact(before + text + after) == before + HIDDEN + after


@pytest.mark.parametrize(
    "text",
    ["mini-mac-abcdefgh", "pyca/cryptography", "ghs_short", "eyJ", "https://x/y", "sha256:" + "0f" * 32],
)
def test_the_rest_stays(text: str) -> None:
    """What is no secret is left alone, short secrets included: hiding them would garble every line."""
    assert Redactor(["pyca", ""]).redact(text) == text


def test_longer_secret_first() -> None:
    """A secret that begins with another leaves no rest."""
    redactor = Redactor(["longsecret", "longsecret-and-more"])
    assert redactor.redact("longsecret-and-more") == HIDDEN


@dataclass
class Thing:
    """An object that shows what it holds."""

    held: str


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(
            {"a": [SECRET, {"b": (SECRET, 1)}]}, {"a": [HIDDEN, {"b": [HIDDEN, 1]}]}, id="containers"
        ),
        pytest.param({SECRET: 1}, {HIDDEN: 1}, id="a key"),
        pytest.param(Thing(SECRET), f"Thing(held={HIDDEN!r})", id="an object"),
        pytest.param(ValueError(f"no {SECRET}"), f"no {HIDDEN}", id="an exception"),
        pytest.param(SECRET.encode(), f"b'{HIDDEN}'", id="bytes"),
        pytest.param(frozenset({SECRET}), [HIDDEN], id="a set"),
        pytest.param(datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01 00:00:00+00:00", id="a time"),
        pytest.param(1.5, 1.5, id="a number"),
        pytest.param(None, None, id="nothing"),
        pytest.param(True, True, id="a switch"),
    ],
)
def test_where_secrets_hide(value: object, shown: object) -> None:
    """Secrets go wherever they are: in containers, in keys, and in the text of objects."""
    assert Redactor([SECRET]).redact(value) == shown


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Away from a terminal each event is one line of JSON with level, logger, time and its fields."""
    logs.configure("info", "auto", [SECRET])
    structlog.get_logger("app.x").info(
        "runner", runner="mini-mac-a", count=2, token=SECRET, why=Thing(SECRET)
    )
    (line,) = lines(capsys)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "event": "runner",
        "level": "info",
        "logger": "app.x",
        "runner": "mini-mac-a",
        "count": 2,
        "token": HIDDEN,
        "why": f"Thing(held={HIDDEN!r})",
    }


def test_foreign_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries' records come out in the same form, their arguments and tracebacks without secrets."""
    logs.configure("info", "json", [SECRET])
    try:
        fail(SECRET)
    except RuntimeError:
        logging.getLogger("lib").exception("failed with %s", SECRET)
    text = capsys.readouterr().err
    line = json.loads(text)
    assert (line["event"], line["logger"], line["level"]) == (f"failed with {HIDDEN}", "lib", "error")
    assert f"RuntimeError: {HIDDEN}" in line["exception"]
    assert SECRET not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """An exception is shown with its traceback in either form, and neither shows locals or secrets."""
    logs.configure("info", form, [SECRET])
    try:
        fail(f"it was {SECRET}")
    except RuntimeError:
        structlog.get_logger("app.x").exception("pass_failed")
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert f"it was {HIDDEN}" in text
    assert SECRET not in text


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    """The readable form is no JSON, and has no colour codes where there is no terminal."""
    logs.configure("info", "console", [])
    structlog.get_logger("app.x").info("runner", runner="mini")
    text = capsys.readouterr().err
    assert "runner=mini" in text
    assert "\x1b" not in text
    assert not text.startswith("{")


HOSTILE = "x\n2026-01-01 [info] forged\r\x1b[2J\x1b]0;title\x07\x00\x9b31m\u202egnp.exe\u2028next"


@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_text(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Strangers' text in any place begins no line, and holds nothing that a terminal would obey."""
    logs.configure("info", form, [])
    log = structlog.get_logger("app.x")
    log.warning("failure", detail=HOSTILE, short="\x1b[31m", among=[HOSTILE], by={HOSTILE: HOSTILE})
    logging.getLogger("lib").warning("it said %s", HOSTILE)
    try:
        fail(HOSTILE)
    except RuntimeError:
        log.exception("action_failed")
    text = capsys.readouterr().err
    assert not any(char in text for char in "\r\x1b\x07\x00\x9b\u202e\u2028")
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]
    heads = [line for line in text.split("\n") if line and not line.startswith("    ")]
    assert len(heads) == 3


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", ["d", "i", "w"]), ("info", ["i", "w"]), ("warning", ["w"]), ("error", [])],
)
def test_levels(capsys: pytest.CaptureFixture[str], level: str, shown: list[str]) -> None:
    """Events below the configured level are left out."""
    logs.configure(level, "json", [])
    log = structlog.get_logger("app.x")
    log.debug("d")
    log.info("i")
    log.warning("w")
    assert [line["event"] for line in lines(capsys)] == shown


def test_quiet_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries that log every request are heard from warnings on."""
    logs.configure("debug", "json", [])
    for name in ("httpx", "uvicorn.access"):
        logging.getLogger(name).info("a request")
        logging.getLogger(name).warning("a problem")
    assert [(line["logger"], line["event"]) for line in lines(capsys)] == [
        ("httpx", "a problem"),
        ("uvicorn.access", "a problem"),
    ]


def test_once_configured_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """Configuring again replaces what was: no line is written twice."""
    logs.configure("info", "json", [])
    logs.configure("info", "json", [])
    structlog.get_logger("app.x").info("one")
    assert len(lines(capsys)) == 1
