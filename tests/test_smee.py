"""The real client of smee, between a stand-in for smee.io and a server in place of ours: what of a delivery arrives."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from threading import Event, Thread

import pytest

SECRET = b"correct-horse-battery"
COMPACT = b'{"action":"queued","workflow_job":{"id":1,"name":"b\xc3\xa4u <1>"}}'


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()


class Channel:
    """A channel of smee.io's: an event stream of what was posted to it; and the server that it is forwarded to."""

    def __init__(self) -> None:
        self.posted: Queue[bytes] = Queue()
        self.arrived: Queue[tuple[str, str, str, bytes]] = Queue()
        self.over = Event()
        channel = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"event: ready\ndata: {}\n\n")
                while not channel.over.is_set():
                    try:
                        self.wfile.write(b"data: " + channel.posted.get(timeout=0.1) + b"\n\n")
                    except Empty:
                        continue

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept = (self.path, self.headers["x-hub-signature-256"], self.headers["x-github-event"], body)
                self.send_response(202)
                self.end_headers()
                channel.arrived.put(kept)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def deliver(self, body: bytes) -> tuple[str, str, str, bytes]:
        """Post a delivery as GitHub does, and return what arrives at the other end."""
        event = {
            "x-github-event": "workflow_job",
            "x-hub-signature-256": signature(body),
            "content-type": "application/json",
            "body": json.loads(body),
            "query": {},
        }
        self.posted.put(json.dumps(event).encode())
        return self.arrived.get(timeout=20)


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    smee = shutil.which("smee")
    if smee is None:
        pytest.skip("no smee on PATH (npm install --global smee-client)")
    channel = Channel()
    thread = Thread(target=channel.server.serve_forever, daemon=True)
    thread.start()
    process = subprocess.Popen(
        [smee, "--url", f"{channel.url}/channel", "--target", f"{channel.url}/webhooks/github"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield channel
    process.terminate()
    process.wait(timeout=10)
    channel.over.set()
    channel.server.shutdown()
    channel.server.server_close()
    thread.join()


def test_a_compact_delivery_arrives(channel: Channel) -> None:
    """What smee writes anew to the same bytes keeps its signature, and goes to the one path."""
    path, signed, event, body = channel.deliver(COMPACT)
    assert (path, event) == ("/webhooks/github", "workflow_job")
    assert signed == signature(body)


def test_another_spelling_breaks_the_signature(channel: Channel) -> None:
    """It parses and writes the body anew: spaces go, and the signature with them, so we would answer 401."""
    _, signed, _, body = channel.deliver(COMPACT.replace(b",", b", "))
    assert body == COMPACT
    assert signed != signature(body)
