"""The proxies in front of us, run with the real Caddy and nginx: one path goes through, unchanged, and nothing else."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.sandbox.server import free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 15.0
CADDY = ("caddy", "run", "--adapter", "caddyfile", "--config")


@dataclass
class Origin:
    """A server in place of ours, which keeps what reaches it."""

    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0


@dataclass
class Proxy:
    """A proxy in front of the origin."""

    port: int
    origin: Origin

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    kept = Origin()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept.seen.append((self.command, self.path, headers, body))
            self.send_response(202)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


def tunnel(home: Path, port: int, origin: int) -> tuple[list[str], dict[str, str]]:
    """Write the configuration of the proxy inside the tunnel's container."""
    text = (ROOT / "deploy/tunnel/Caddyfile").read_text(encoding="utf-8")
    (home / "Caddyfile").write_text(text.replace(":8080 {", f":{port} {{"), encoding="utf-8")
    return [*CADDY, str(home / "Caddyfile")], {"CIDERMILL_ORIGIN": f"http://127.0.0.1:{origin}"}


def caddy(home: Path, port: int, origin: int) -> tuple[list[str], dict[str, str]]:
    """Write that of an operator's Caddy, which imports our site; without TLS, for which it would ask the internet."""
    site = ROOT / "deploy/caddy/Caddyfile"
    (home / "Caddyfile").write_text(
        f"{{\n\tadmin off\n\tauto_https off\n}}\nimport {site}\n", encoding="utf-8"
    )
    environ = {
        "CIDERMILL_SITE": f"http://127.0.0.1:{port}",
        "CIDERMILL_ORIGIN": f"http://127.0.0.1:{origin}",
    }
    return [*CADDY, str(home / "Caddyfile")], environ


def nginx(home: Path, port: int, origin: int) -> tuple[list[str], dict[str, str]]:
    """Write that of an operator's nginx, which includes our server; without TLS, as there is no certificate."""
    site = (ROOT / "deploy/nginx/cidermill.conf").read_text(encoding="utf-8")
    site = re.sub(r"^ *(ssl_certificate|listen \[::\]).*\n", "", site, flags=re.MULTILINE)
    site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};").replace(":8000/", f":{origin}/")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    user = "user root;\n" if os.geteuid() == 0 else ""  # whose folder nobody else may enter
    temporary = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in kinds)
    (home / "nginx.conf").write_text(
        f"{user}daemon off;\npid {home}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
        encoding="utf-8",
    )
    return ["nginx", "-p", str(home), "-e", "stderr", "-c", str(home / "nginx.conf")], {}


@pytest.fixture(scope="module", params=[tunnel, caddy, nginx], ids=lambda make: make.__name__)
def proxy(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    home, port = tmp_path_factory.mktemp("proxy"), free_port()
    command, environ = request.param(home, port, origin.port)
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"no {command[0]} on PATH")
    process = subprocess.Popen(
        [program, *command[1:]],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield Proxy(port, origin)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.05)
    pytest.fail("the proxy did not start")


def test_a_delivery_arrives_unchanged(proxy: Proxy) -> None:
    """The raw body and the signature reach the service as they were sent."""
    body = b'{"action": "queued",  "odd":\t"spacing \xc3\xa4"}'
    proxy.origin.seen.clear()
    signature = {
        "X-Hub-Signature-256": "sha256=ab",
        "X-GitHub-Delivery": "d-1",
        "Content-Type": "application/json",
    }
    assert proxy.ask("POST", "/webhooks/github", body, **signature) == 202
    ((method, path, headers, received),) = proxy.origin.seen
    assert (method, path, received) == ("POST", "/webhooks/github", body)
    assert headers.items() >= {name.lower(): value for name, value in signature.items()}.items()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/webhooks/github", id="another method"),
        pytest.param("OPTIONS", "/webhooks/github", id="yet another"),
        pytest.param("POST", "/webhooks/github/", id="one slash more"),
        pytest.param("POST", "/webhooks/github/x", id="what is below it"),
        pytest.param("POST", "/webhooks/github?token=x", id="a query"),
        pytest.param("POST", "/", id="the root"),
        pytest.param("GET", "/api/v1/status", id="the admin API"),
        pytest.param("POST", "/api/v1/drain", id="an action of the admin API"),
        pytest.param("GET", "/metrics", id="metrics"),
        pytest.param("POST", "/webhooks/github/../../api/v1/drain", id="a way around"),
        pytest.param("POST", "/webhooks/github/%2e%2e/%2e%2e/api/v1/drain", id="a way around, encoded"),
        pytest.param("POST", "//api/v1/drain", id="a doubled slash"),
    ],
)
def test_nothing_else_passes(proxy: Proxy, method: str, path: str) -> None:
    """Everything but the one path is answered by the proxy itself, or never is more than that path."""
    proxy.origin.seen.clear()
    status = proxy.ask(method, path)
    assert status in {400, 404, 405} or {seen[1] for seen in proxy.origin.seen} == {"/webhooks/github"}
    assert {seen[1] for seen in proxy.origin.seen} <= {"/webhooks/github"}


def test_the_largest_body_passes(proxy: Proxy) -> None:
    """As much as the service takes arrives whole."""
    proxy.origin.seen.clear()
    assert proxy.ask("POST", "/webhooks/github", b"x" * 1_000_000) == 202
    assert [len(body) for *_, body in proxy.origin.seen] == [1_000_000]


def test_a_large_body_does_not_pass(proxy: Proxy) -> None:
    """More than 1 MB is cut off with an error."""
    proxy.origin.seen.clear()
    assert proxy.ask("POST", "/webhooks/github", b"x" * 1_100_000) in {413, 502}
    assert all(len(body) <= 1_000_000 for *_, body in proxy.origin.seen)


@pytest.mark.parametrize(("method", "path"), [("POST", "/webhooks/github"), ("GET", "/nothing")])
def test_https_is_asked_for(proxy: Proxy, method: str, path: str) -> None:
    """Every answer has browsers and clients keep to HTTPS."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request(method, path)
    assert connection.getresponse().headers["strict-transport-security"] == "max-age=31536000"
    connection.close()
