"""CiderMill's own files, and the server that may run beside the command."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.configfile import ConfigError
from app.db.migrate import upgrade
from app.doctor import server
from app.doctor.finding import Finding
from app.doctor.server import Running
from app.settings import Settings
from tests.doctor.seen import expect


def a_settings(**changes: object) -> Settings:
    values: dict[str, object] = {
        "host_name": "mini",
        "github_token": "github_pat_0123456789",
        "github_webhook_secret": "0123456789abcdef0123456789abcdef",
        "pool": [{"name": "mac", "labels": ["mac"], "image": "sequoia", "repositories": ["acme/*"]}],
    }
    return Settings.model_validate(values | changes)


def of_a_newer_version(folder: Path) -> Iterable[Finding]:
    path = folder / "cidermill.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    return server.database(path)


def damaged(folder: Path) -> Iterable[Finding]:
    path = folder / "cidermill.db"
    path.write_bytes(b"no database" * 1000)
    return server.database(path)


def of_today(folder: Path) -> Iterable[Finding]:
    upgrade(folder / "cidermill.db")
    return server.database(folder / "cidermill.db")


def open_to_others(folder: Path) -> Iterable[Finding]:
    folder.chmod(0o700)
    (folder / "admin-token").write_text("secret\n")
    (folder / "admin-token").chmod(0o644)
    return server.admin_token(folder)


def private(folder: Path) -> Iterable[Finding]:
    folder.chmod(0o700)
    return server.admin_token(folder)


TABLE = [
    pytest.param("configuration", "invalid", lambda _: server.configuration(ConfigError(["[[pool]]: none"])), id="no pool"),
    pytest.param("configuration", "warned", lambda _: server.configuration(a_settings(github_webhook_secret="short")), id="a short secret"),
    pytest.param("configuration", "ok", lambda _: server.configuration(a_settings()), id="a good configuration"),
    pytest.param("database", "unusable", damaged, id="a damaged database"),
    pytest.param("database", "newer", of_a_newer_version, id="a database of a newer version"),
    pytest.param("database", "ok", lambda folder: server.database(folder / "cidermill.db"), id="no database yet"),
    pytest.param("database", "ok", of_today, id="a good database"),
    pytest.param("admin-token", "exposed", open_to_others, id="a token that others may read"),
    pytest.param("admin-token", "ok", private, id="no token yet"),
    pytest.param("server", "down", lambda _: server.server(Running(said="nobody listens"), "1"), id="no server"),
    pytest.param("server", "other_version", lambda _: server.server(Running(version="0"), "1"), id="a server of before the upgrade"),
    pytest.param("server", "refuses", lambda _: server.server(Running(refused=True, said="401"), "1"), id="another token"),
    pytest.param("server", "ok", lambda _: server.server(Running(version="1"), "1"), id="a good server"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "code", "look"), TABLE)
def test_what_is_wrong_is_found(check: str, code: str, look: object, tmp_path: Path) -> None:
    """Each trouble is found, with its mend."""
    assert callable(look)
    (found,) = look(tmp_path)
    assert found.check == check
    expect(found, code)


def test_a_secret_is_in_no_finding() -> None:
    """What is wrong with a secret is told without it."""
    (found,) = server.configuration(a_settings(github_webhook_secret="short-secret"))
    assert "short-secret" not in repr(found)
