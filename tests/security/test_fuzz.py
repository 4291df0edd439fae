"""Whatever is sent to the application as composed for real, it answers, and keeps little: no 5xx, no secret, no flood."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.api.bodies import MAX_BODY
from app.api.guard import HEADERS
from tests.api.conftest import SECRET, TOKEN, a_payload, signed
from tests.api.test_composition import is_ready, started, until

EXAMPLES = settings(
    max_examples=50, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
AT_THE_DOOR = {202, 204, 400, 401, 413}
KEPT = 1000  # characters of any text


@dataclass(frozen=True, slots=True)
class Open:
    """An application, and the loop it lives on."""

    client: httpx.AsyncClient
    run: Callable[[Coroutine[Any, Any, httpx.Response]], httpx.Response]
    database: Path

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
        """Send a request, check what every answer must be, and return its status."""
        raw = [(name.encode(), text.encode("latin-1")) for name, text in (headers or {}).items()]
        answer = self.run(self.client.request(method, path, headers=raw, content=body))
        assert answer.status_code < 500, answer.text
        assert HEADERS.items() <= dict(answer.headers).items()
        text = f"{answer.headers} {answer.text}"
        assert not any(secret in text for secret in (SECRET, TOKEN, "token-of-the-tests"))
        return answer.status_code

    def deliver(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Bring a signed body to the door."""
        usual = signed(body, guid=f"{zlib.crc32(body):x}")
        return self.ask("POST", "/webhooks/github", usual | (headers or {}), body)

    def longest(self) -> int:
        """Return the length of the longest text in the database."""
        with closing(sqlite3.connect(self.database)) as database:
            columns = [
                f'SELECT max(length("{column}")) FROM "{table}"'  # noqa: S608  # names of the database's own
                for (table,) in database.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                ).fetchall()
                for _, column, *_ in database.execute(f"PRAGMA table_info('{table}')").fetchall()
            ]
            return max(database.execute(query).fetchone()[0] or 0 for query in columns)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("state")
    with asyncio.Runner() as runner:
        context = started(folder)
        client = runner.run(context.__aenter__())
        runner.run(until(partial(is_ready, client)))
        yield Open(client, runner.run, folder / "cidermill.db")
        runner.run(context.__aexit__(None, None, None))


def numbered(text: str) -> bytes:
    """Return a delivery in which a number is *text*."""
    return json.dumps(a_payload()).replace('"run_id": 10', f'"run_id": {text}').encode()


DEEP = 400_000
JSON = [
    pytest.param(b"[" * DEEP, 400, id="deep and open"),
    pytest.param(b"[" * DEEP + b"]" * DEEP, 400, id="deep"),
    pytest.param(b'{"a":' * (DEEP // 3) + b"1" + b"}" * (DEEP // 3), 400, id="deep objects"),
    pytest.param(b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", 204, id="deep, and allowed"),
    pytest.param(numbered("9" * (MAX_BODY - 1000)), 400, id="a number of a million digits"),
    pytest.param(numbered("1e999999999"), 202, id="a number beyond floats"),
    pytest.param(numbered("NaN"), 202, id="no number"),
    pytest.param(numbered("-1"), 202, id="a negative number"),
    pytest.param(numbered(str(2**64)), 202, id="a number beyond the database's"),
    pytest.param(b"[" + b"1" * 4000 + (b"," + b"1" * 4000) * 240 + b"]", 400, id="many large numbers"),
    pytest.param(b'{"a": 1, ' * 1 + b'"a": 2, ' * 100_000 + b'"a": 3}', 204, id="one key many times"),
    pytest.param(b"{" + b",".join(b'"%d": {}' % n for n in range(80_000)) + b"}", 204, id="many keys"),
    pytest.param(json.dumps(a_payload()).encode("utf-16"), 202, id="UTF-16, which JSON readers guess"),
    pytest.param(json.dumps(a_payload(name="\ud800\udfff\ud800")).encode(), 202, id="half characters"),
    pytest.param(json.dumps(a_payload(name="\0\x1b[2J")).encode(), 202, id="control characters"),
    pytest.param(b'{"action": "\xff\xfe"}', 400, id="no UTF-8"),
    pytest.param(b"\xef\xbb\xbf" + json.dumps(a_payload()).encode(), 202, id="a byte order mark"),
    pytest.param(gzip.compress(json.dumps(a_payload()).encode()), 400, id="compressed"),
    pytest.param(b"", 400, id="nothing"),
    pytest.param(b"null", 400, id="null"),
    pytest.param(b'"workflow_job"', 400, id="a text"),
    pytest.param(json.dumps(a_payload(labels=["x" * 9000] * 90)).encode(), 202, id="long labels"),
    pytest.param(json.dumps(a_payload(labels=list(range(9000)))).encode(), 202, id="labels that are none"),
    pytest.param(json.dumps(a_payload(name="n" * 900_000)).encode(), 202, id="a long name"),
    pytest.param(json.dumps(a_payload(created_at="2026-03-01T12:00:00" + "0" * 900_000)).encode(), 202, id="a long time"),
    pytest.param(json.dumps(a_payload(created_at="9999-12-31T23:59:59-23:59")).encode(), 202, id="a time beyond times"),
    pytest.param(json.dumps(a_payload(created_at="0001-01-01T00:00:00+23:59")).encode(), 202, id="a time before times"),
    pytest.param(json.dumps(a_payload(repository="../../etc")).encode(), 204, id="a path for a repository"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), JSON)
def test_signed_nonsense(app: Open, body: bytes, status: int) -> None:
    """Whoever has the secret can send any JSON: it is refused or understood, and little of it is kept."""
    assert len(body) <= MAX_BODY
    assert app.deliver(body) == status
    assert app.longest() <= 100 * KEPT + 1000  # all labels of a job are one text
    assert app.ask("GET", "/api/v1/jobs") == 200
    assert app.ask("GET", "/api/v1/jobs/1") in {200, 404, 503}


FORMS = [
    pytest.param(b"payload=" + quote(json.dumps(a_payload())).encode(), 202, id="a form, as GitHub may send"),
    pytest.param(b"&".join(b"a%d=1" % n for n in range(100_000)), 400, id="many fields"),
    pytest.param(b"payload=1&" * 20 + b"payload=2", 400, id="one field many times"),
    pytest.param(b"payload", 400, id="no value"),
    pytest.param(b"payload=%ff%fe", 400, id="no UTF-8"),
    pytest.param(b"payload=" + b"%5B" * 300_000, 400, id="deep"),
]


@pytest.mark.parametrize(("body", "status"), FORMS)
def test_forms(app: Open, body: bytes, status: int) -> None:
    """A form is read as tolerantly, and as strictly, as JSON."""
    assert app.deliver(body, {"Content-Type": "application/x-www-form-urlencoded"}) == status


# What HTTP lets through in a header: no control characters but the tab.
header = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=3000)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just("x" * 5000)
anything = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
payload = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["queued", "completed", "in_progress", "waiting"]) | anything,
        "workflow_job": st.dictionaries(st.sampled_from(sorted(a_payload()["workflow_job"])), anything)
        | anything,
        "repository": st.fixed_dictionaries({"full_name": st.just("acme/app") | anything, "owner": anything})
        | anything,
    },
)


@EXAMPLES
@given(event=header, guid=header, signature=header, kind=header, body=st.binary(max_size=300))
def test_unsigned(app: Open, event: str, guid: str, signature: str, kind: str, body: bytes) -> None:
    """Whoever has no secret is refused, whatever is in the headers."""
    headers = {
        "x-github-event": event,
        "x-github-delivery": guid,
        "x-hub-signature-256": signature,
        "content-type": kind,
        "content-encoding": kind,
    }
    assert app.ask("POST", "/webhooks/github", headers, body) == 401


@EXAMPLES
@given(event=st.just("workflow_job") | header, guid=header, kind=header, body=st.binary(max_size=300))
def test_signed_bytes(app: Open, event: str, guid: str, kind: str, body: bytes) -> None:
    """Signed bytes of any kind are not for us, or refused."""
    headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": guid, "Content-Type": kind}
    assert app.ask("POST", "/webhooks/github", signed(body) | headers, body) in {204, 400}


@EXAMPLES
@given(sent=payload)
def test_signed_payloads(app: Open, sent: dict[str, Any]) -> None:
    """A payload of the right shape with anything in it is recorded, ignored or refused, and can be shown."""
    assert app.deliver(json.dumps(sent).encode()) in {202, 204, 400}
    assert app.ask("GET", "/api/v1/jobs") == 200


name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@EXAMPLES
@example(method="GET", path="jobs/{}", words=("/", ""), token="", origin="http://localhost", body=b"")
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"]),
    path=st.sampled_from(["", "jobs", "jobs/{}", "runners/{}", "runners/{}/logs", "{}", "jobs?{}={}", "jobs?cursor={}",
                          "jobs?limit={}", "runners?limit={}&live={}", "runners/{}?force={}"]),
    words=st.tuples(name, name),
    token=st.just(TOKEN) | header,
    origin=st.just("http://localhost") | header,
    body=st.binary(max_size=100),
)  # fmt: skip
def test_admin_api(
    app: Open, method: str, path: str, words: tuple[str, str], token: str, origin: str, body: bytes
) -> None:
    """Any path, query, token and body is answered; without the token and an origin of ours nothing is let in."""
    filled = path.format(*(quote(word, safe="") for word in words))
    headers = {"authorization": f"Bearer {token}", "origin": origin}
    status = app.ask(method, f"/api/v1/{filled}", headers, body)
    if token.strip() != TOKEN or "localhost" not in origin.lower():
        assert status in {401, 403, 404, 405}


@pytest.mark.parametrize(
    "host", ["", "x", "localhost\\@evil", "[", "[::1]:x", "localhost:99999999", "\xff" * 50, "a" * 9000]
)
def test_hosts(app: Open, host: str) -> None:
    """A host that is none is refused, and one that is ours with a strange port is ours."""
    assert app.ask("GET", "/api/v1/slots", {"host": host}) in {200, 403, 503}
