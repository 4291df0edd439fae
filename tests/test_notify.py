"""The webhook that tells an operator: what is sent, and that a bad receiver costs nothing but the message."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from app.db.reader import Reader
from app.db.store import Delivery, Store
from app.domain.world import Cooldown, World
from app.logs import Redactor
from app.main import create_app
from app.metrics import Metrics
from app.notify import WAITING, Notifier, Receiver
from tests.api.conftest import HostWithLogs, SmallGitHub
from tests.api.test_composition import RunningClock, some_settings
from tests.builders import NOW, a_demand, a_head, a_world, ago, an_event
from tests.configuring import problems
from tests.conftest import Clock

SECRET = "correct-horse-battery"
URL = "https://hooks.example.org/T0KEN-in-the-path"


def held(number: int = 1, detail: str = "It did not boot.") -> Cooldown:
    return Cooldown(scope=f"pool:p{number}", reason="boot_timeout", detail=detail, failures=3, until=NOW)


@dataclass(slots=True)
class Outside:
    """The receiver, the World, and what the notifier made of them."""

    notifier: Notifier
    metrics: Metrics
    clock: Clock
    received: list[httpx.Request] = field(default_factory=list)
    world: World | None = None
    answers: list[int | type[Exception]] = field(default_factory=list)  # before it answers 204

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.received.append(request)
        said = self.answers.pop(0) if self.answers else 204
        if isinstance(said, int):
            return httpx.Response(said, headers={"location": "https://elsewhere.example.org/"})
        raise said(f"cannot connect to {URL}")

    async def look(self, **world: Any) -> None:
        self.world = a_world(**world)
        await self.notifier.look()

    async def quiet(self) -> list[dict[str, Any]]:
        """Wait until all is sent or given up, and return what arrived."""
        await asyncio.sleep(600)
        return [json.loads(request.content) for request in self.received]

    def count(self, outcome: str, event: str = "launches_held") -> float:
        labels = {"event": event, "outcome": outcome}
        return self.metrics.registry.get_sample_value("cidermill_notifications_total", labels) or 0.0


@pytest.fixture
async def outside(reader: Reader, clock: Clock) -> AsyncIterator[Outside]:
    metrics = Metrics()
    kept: list[Outside] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda r: kept[0].answer(r))) as client:
        notifier = Notifier(
            Receiver(
                url=URL,
                secret=SECRET,
                host_name="mini",
                after=timedelta(minutes=30),
                redactor=Redactor([URL, SECRET]),
            ),
            world=lambda: kept[0].world,
            reader=reader,
            metrics=metrics,
            clock=clock,
            client=client,
        )
        kept.append(Outside(notifier, metrics, clock))
        yield kept[0]
        await notifier.close()


pytestmark = pytest.mark.looptime


async def test_what_is_sent(outside: Outside) -> None:
    """A beginning and an end are told, in order, as documented JSON."""
    await outside.look(cooldowns=(held(),))
    await outside.look()
    first, second = await outside.quiet()
    assert first.pop("id") != second.pop("id")
    assert first == {
        "event": "launches_held", "at": "2026-03-01T12:00:00Z", "host": "mini", "scope": "pool:p1",
        "text": "Launches wait (pool:p1): It did not boot.", "reason": "boot_timeout", "failures": 3,
        "until": "2026-03-01T12:00:00Z",
    }  # fmt: skip
    assert (second["event"], second["text"]) == ("launches_resumed", "Launches go on (pool:p1).")


async def test_an_old_queue_is_explained(outside: Outside, store: Store) -> None:
    """The oldest job is named, with the same sentence as everywhere else, and the end is told too."""
    event = an_event(queued_at=ago(minutes=45), url="https://github.com/acme/app/actions/runs/10/job/1")
    await store.record(Delivery(guid="d", event="workflow_job", action="queued", hook_id=None), event, at=NOW)
    await outside.look(demand=(a_demand(heads=(a_head(queued_at=ago(minutes=45)),)),), draining=True)
    await outside.look()
    first, second = await outside.quiet()
    assert (first["event"], first["repository"], first["job"], first["queued_jobs"]) == (
        "queue_old", "acme/app", 1, 1,
    )  # fmt: skip
    assert "draining" in first["explanation"]
    assert first["text"] == f"A job of acme/app has waited 45 min. {first['explanation']}"
    assert (first["url"], first["queued_at"]) == (event.url, "2026-03-01T11:15:00Z")
    assert second["event"] == "queue_served"


async def test_it_is_signed(outside: Outside) -> None:
    """With a secret each message carries the HMAC of its bytes, as GitHub's do."""
    await outside.look(cooldowns=(held(),))
    await outside.quiet()
    (request,) = outside.received
    digest = hmac.new(SECRET.encode(), request.content, hashlib.sha256).hexdigest()
    assert request.headers["x-cidermill-signature-256"] == f"sha256={digest}"
    assert request.headers["x-cidermill-event"] == "launches_held"
    assert request.headers["x-cidermill-delivery"] == json.loads(request.content)["id"]
    assert request.headers["content-type"] == "application/json"


async def test_no_secret_is_sent(outside: Outside) -> None:
    """A failure's text may quote what a command said: secrets in it are taken out."""
    await outside.look(cooldowns=(held(detail=f"{SECRET} ghs_{'a1' * 18} eyJhbGciOiJSUzI1NiJ9.e30.x"),))
    (message,) = await outside.quiet()
    assert message["text"].count("[redacted]") == 3


async def test_nothing_before_the_first_pass(outside: Outside) -> None:
    """Where nothing is known yet, nothing is told."""
    await outside.notifier.look()
    assert await outside.quiet() == []


@pytest.mark.parametrize(
    ("answers", "tries", "outcome"),
    [
        pytest.param([503, 503], 3, "sent", id="busy twice"),
        pytest.param([429], 2, "sent", id="too fast"),
        pytest.param([httpx.ConnectError, httpx.ReadTimeout], 3, "sent", id="away twice"),
        pytest.param([503] * 9, 4, "failed", id="busy for long"),
        pytest.param([httpx.ConnectError] * 9, 4, "failed", id="gone"),
        pytest.param([404], 1, "failed", id="a wrong URL: asking again would not help"),
        pytest.param([302], 1, "failed", id="elsewhere: not followed, and nothing is sent there"),
    ],
)
async def test_a_receiver_in_trouble(
    outside: Outside, answers: list[int | type[Exception]], tries: int, outcome: str,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is tried a few times and given up; the next message goes out, and no line shows the URL."""
    outside.answers = answers
    await outside.look(cooldowns=(held(),))
    await outside.quiet()
    assert len(outside.received) == tries
    assert outside.count(outcome) == 1
    outside.answers.clear()
    await outside.look(cooldowns=(held(), held(2)))
    await outside.quiet()
    assert outside.count("sent") == (2 if outcome == "sent" else 1)
    assert "T0KEN" not in caplog.text + "".join(capsys.readouterr())


async def test_too_many_for_a_slow_receiver(outside: Outside) -> None:
    """What waits is bounded: more is dropped and counted, and looking never waits for the receiver."""
    outside.answers = [503] * 10_000
    many = WAITING + 20
    await outside.look(cooldowns=tuple(held(n) for n in range(many)))
    assert outside.count("dropped") == many - WAITING
    assert outside.received == []


async def test_closing_while_a_receiver_hangs(outside: Outside) -> None:
    """A stop waits for no receiver."""
    outside.answers = [503] * 9
    await outside.look(cooldowns=(held(),))
    await asyncio.sleep(1)
    before = asyncio.get_running_loop().time()
    await outside.notifier.close()
    assert asyncio.get_running_loop().time() == before


@pytest.mark.looptime(False)
async def test_over_a_real_connection(tmp_path: Path) -> None:
    """The whole server tells a real receiver on loopback that a job waits too long."""
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    clock = RunningClock()
    github = SmallGitHub()
    settings = some_settings(tmp_path, notify_url=f"http://127.0.0.1:{server.server_address[1]}/hook")
    app = create_app(settings, github=github, vms=HostWithLogs(clock), clock=clock)
    async with app.router.lifespan_context(app), asyncio.timeout(20):
        store = app.state.context.store
        for _ in range(3):
            await store.fail("pool:mac", "boot_timeout", "It did not boot.", at=clock(), jitter=0.5)
        app.state.context.reconciler.wake()
        while not received:
            await asyncio.sleep(0.02)
    server.shutdown()
    server.server_close()
    thread.join()
    assert (received[0]["event"], received[0]["scope"]) == ("launches_held", "pool:mac")


@pytest.mark.looptime(False)
@pytest.mark.parametrize(
    ("change", "mend"),
    [
        pytest.param(
            {"notify_url": "http://hooks.example.org/x"}, "plain http only on loopback", id="no TLS"
        ),
        pytest.param({"notify_url": "not a URL"}, "write an https URL", id="no URL"),
        pytest.param({"notify_secret": SECRET}, "notify_url, which is not set", id="a secret for nothing"),
        pytest.param({"notify_after": 5}, "from 1 minute to 7 days", id="too soon"),
        pytest.param({"log_path": "/no/such/place/x.log"}, "there is no directory", id="a log nowhere"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, change: dict[str, Any], mend: str) -> None:
    """Each stops the start with its mend, and shows no secret."""
    found = " ".join(problems(tmp_path, **change))
    assert mend in found
    assert SECRET not in found
    assert "hooks.example.org" not in found
