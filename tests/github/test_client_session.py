"""Tokens, installations, and the one connection: where githubkit by itself would do too much or too little."""

from __future__ import annotations

import asyncio
import contextvars
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from githubkit.cache import DEFAULT_CACHE_STRATEGY

from app.clock import utcnow
from app.domain.pools import Target
from app.github.auth import AppCredentials, TokenCredentials
from app.ports import GitHubRefused, GitHubUnavailable
from tests.github.stub import PAT, StubGitHub, a_client, connected, key, pem, problem

ORGANIZATION, REPOSITORY = Target("acme"), Target("acme", "app")
MINT = {"name": "mini-mac-1", "labels": ("mac",), "group_id": 1}


async def test_calls_that_start_together_share_a_token() -> None:
    """Twenty first calls look the installation up once and ask for one token."""
    stub = StubGitHub()
    async with connected(stub) as client:
        await asyncio.gather(*(client.registrations(ORGANIZATION) for _ in range(20)))
    assert stub.minted == 1
    assert len(stub.seen("GET .*installation")) == 1
    assert len(stub.seen("GET .*runners")) == 20


async def test_an_installation_serves_its_whole_owner() -> None:
    """An owner is looked up once, for its repositories and itself, however it is spelled."""
    stub = StubGitHub()
    async with connected(stub) as client:
        for target in (REPOSITORY, Target("acme", "other"), Target("Acme"), ORGANIZATION):
            await client.registrations(target)
    assert [one.url.path for one in stub.seen("GET .*installation")] == ["/repos/acme/app/installation"]


async def test_each_owner_has_its_own_token() -> None:
    """Never is one owner asked with the token of another."""
    stub = StubGitHub(installations={"acme": 11, "other": 12})
    async with connected(stub) as client:
        await asyncio.gather(
            *(client.registrations(Target(name)) for name in ("acme", "other", "acme", "other"))
        )
    for one in stub.seen("GET .*runners"):
        assert stub.tokens[one.headers["authorization"].removeprefix("token ")] == one.url.path.split("/")[2]


@pytest.mark.parametrize("verb", ["registrations", "mint"])
async def test_a_token_that_was_revoked(verb: str) -> None:
    """A token that GitHub no longer takes is replaced once, for a mint too, since nothing was done with it."""
    stub = StubGitHub()
    async with connected(stub) as client:
        await client.registrations(ORGANIZATION)
        stub.tokens.clear()
        if verb == "mint":
            assert (await client.mint(ORGANIZATION, **MINT)).registration_id == 1
        else:
            await asyncio.gather(*(client.registrations(ORGANIZATION) for _ in range(8)))
    assert stub.minted == 2


async def test_a_refusal_that_comes_late() -> None:
    """A call whose old token is refused after another call saw to a new one does not throw the new one away."""
    stub, held, let_go = StubGitHub(), asyncio.Event(), asyncio.Event()

    async def hold_one(request: httpx.Request) -> httpx.Response:
        response = await stub(request)
        if response.status_code == 401 and not held.is_set():
            held.set()
            await let_go.wait()
        return response

    async with connected(stub, transport=httpx.MockTransport(hold_one)) as client:
        await client.registrations(ORGANIZATION)
        stub.tokens.clear()
        late = asyncio.create_task(client.registrations(ORGANIZATION))
        await held.wait()
        await client.registrations(ORGANIZATION)
        let_go.set()
        await late
    assert stub.minted == 2


async def test_a_token_that_is_never_taken() -> None:
    """When the new token is refused too, that is the answer, with the mend."""
    stub = StubGitHub()
    stub.force("GET .*runners", problem(401, "Bad credentials"), problem(401, "Bad credentials"))
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match="github_private_key_path"):
            await client.registrations(ORGANIZATION)
    assert stub.minted == 2


async def test_a_permission_granted_later_counts_at_once() -> None:
    """After a 403 the next call has a new token: the old one keeps the permissions it was made with."""
    stub = StubGitHub()
    stub.force("POST .*generate-jitconfig", problem(403, "Resource not accessible by integration"))
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused):
            await client.mint(ORGANIZATION, **MINT)
        await client.mint(ORGANIZATION, **MINT)
    assert stub.minted == 2


async def test_an_app_that_was_installed_anew() -> None:
    """The id of an installation that is gone is looked up again, once, and even a mint goes on."""
    stub = StubGitHub()
    async with connected(stub) as client:
        await client.registrations(ORGANIZATION)
        stub.tokens.clear()
        stub.installations["acme"] = 99
        # Its token is refused first, then the installation that a new one is asked of.
        assert (await client.mint(ORGANIZATION, **MINT)).registration_id == 1
    assert len(stub.seen("GET .*installation")) == 2
    assert len(stub.seen("POST .*access_tokens")) == 3
    assert len(stub.seen("POST .*generate-jitconfig")) == 2


async def test_an_installation_without_tokens() -> None:
    """Where no installation gives a token, not even looked up anew, that is the answer."""
    stub = StubGitHub()
    stub.force("POST .*access_tokens", *[problem(404, "Not Found")] * 2)
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match="no token for the App's installation"):
            await client.registrations(ORGANIZATION)
        assert await client.registrations(ORGANIZATION) == ()


async def test_an_app_that_is_not_installed() -> None:
    """Where the App is not installed it says so, and looks again the next time."""
    stub = StubGitHub(installations={})
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match="install the App on acme"):
            await client.job("acme/app", 1)
        stub.installations["acme"] = 11
        assert await client.registrations(ORGANIZATION) == ()


@pytest.mark.parametrize(
    ("route", "elsewhere"),
    [
        pytest.param("GET .*runners", "https://evil.test/x", id="another host"),
        pytest.param("GET .*installation", "http://api.github.test/x", id="without TLS"),
        pytest.param("POST .*access_tokens", "https://api.github.test:8443/x", id="another port"),
        pytest.param("DELETE .*runners", "https://evil.test/x", id="a removal"),
    ],
)
async def test_a_way_that_leads_elsewhere(route: str, elsewhere: str) -> None:
    """A redirect to another host, port or scheme is not followed: whoever is there would learn our token."""
    stub = StubGitHub(runners={1: {"id": 1, "name": "mini-mac-1"}})
    stub.force(route, *[httpx.Response(307, headers={"location": elsewhere})] * 3)
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match="github_api_url"):
            await client.deregister(ORGANIZATION, name="mini-mac-1", registration_id=None)
    assert not [one for one in stub.requests if str(one.url) == elsewhere]


async def test_a_page_that_lies_elsewhere() -> None:
    """Nor is a link to a next page that is not where GitHub is."""
    stub = StubGitHub()
    link = {"link": '<https://evil.test/orgs/acme/actions/runners?page=2>; rel="next"'}
    page = {"total_count": 1, "runners": [{"id": 1, "name": "x"}]}
    stub.force("GET .*runners", httpx.Response(200, json=page, headers=link))
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match=r"points to https://evil\.test"):
            await client.registrations(ORGANIZATION)
    assert {one.url.host for one in stub.requests} == {"api.github.test"}


@pytest.mark.parametrize("version", ["2026-03-10", "2022-11-28"])
@pytest.mark.parametrize("base", ["https://api.github.test", "https://ghes.test/api/v3"])
async def test_every_request_is_marked(version: str, base: str) -> None:
    """Version, name and time limit are on every request: tokens, look-ups and later pages too."""
    runners = {n: {"id": n, "name": f"mini-mac-{n}"} for n in range(4, 7)}
    stub = StubGitHub(base=base, runners=runners, page=2)
    async with connected(stub, api_version=version) as client:
        assert len(await client.registrations(ORGANIZATION)) == 3
        await client.mint(REPOSITORY, **MINT)
    assert len(stub.requests) == 5
    for one in stub.requests:
        assert str(one.url).startswith(base)
        assert one.headers.get_list("x-github-api-version") == [version]
        assert one.headers["user-agent"].startswith("cidermill/")
        minting = one.url.path.endswith("/generate-jitconfig")
        assert one.extensions["timeout"]["connect"] == 5
        assert one.extensions["timeout"]["read"] == (15 if minting else 10)


async def test_hosts_do_not_share_tokens() -> None:
    """Two clients keep their tokens apart, and none is in githubkit's cache for the whole process."""
    first, second = StubGitHub(), StubGitHub(base="https://ghes.test/api/v3")
    async with connected(first) as one, connected(second) as other:
        await one.registrations(ORGANIZATION)
        await other.registrations(ORGANIZATION)
    assert (first.minted, second.minted) == (1, 1)
    assert not DEFAULT_CACHE_STRATEGY.get_cache_storage()._cache


async def test_answers_are_not_kept() -> None:
    """No answer is revalidated or remembered by the HTTP layer."""
    stub = StubGitHub()
    async with connected(stub) as client:
        for _ in range(3):
            await client.registrations(ORGANIZATION)
    assert not [one for one in stub.requests if "if-none-match" in one.headers]


async def test_no_more_than_four_at_a_time() -> None:
    """GitHub is asked four things at a time at most, whoever asks."""
    stub = StubGitHub(installations={"acme": 11, "other": 12})
    running, most = 0, 0

    async def slowly(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        response = await stub(request)
        running -= 1
        return response

    async with connected(stub, transport=httpx.MockTransport(slowly)) as client:
        names = ["acme", "other"] * 10
        await asyncio.gather(*(client.registrations(Target(name)) for name in names))
    assert most == 4


async def test_a_cancelled_call_lets_the_others_on() -> None:
    """A call cancelled while it asks for the token leaves the way free for the next."""
    stub, asked = StubGitHub(), asyncio.Event()

    async def hang_once(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/access_tokens") and not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return await stub(request)

    async with connected(stub, transport=httpx.MockTransport(hang_once)) as client:
        first = asyncio.create_task(client.registrations(ORGANIZATION))
        await asked.wait()
        second = asyncio.create_task(client.registrations(ORGANIZATION))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == ()


class Endless(httpx.AsyncByteStream):
    """A body that comes byte by byte, each within the time that httpx allows for a byte."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(9)
            yield b" "


@pytest.mark.looptime
async def test_a_body_that_never_ends() -> None:
    """A call ends at its deadline even if GitHub goes on answering, byte by byte."""
    stub = StubGitHub()
    stub.force("POST .*generate-jitconfig", httpx.Response(201, stream=Endless()))
    async with connected(stub) as client:
        with pytest.raises(GitHubUnavailable, match="within 45 s"):
            await client.mint(ORGANIZATION, **MINT)
    assert asyncio.get_running_loop().time() < 60


@asynccontextmanager
async def a_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[object]]]:
    """Serve an empty list of runners on loopback, keeping connections open and counting them."""
    connections: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        body = b'{"total_count": 0, "runners": []}'
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], connections


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.mark.usefixtures("no_proxy")
async def test_tasks_of_any_context_share_the_connection() -> None:
    """Tasks that were not started inside the client's context use its one connection all the same."""
    foreign = contextvars.Context()  # as a server's, which began before the client was entered
    async with a_server() as (port, connections):
        client = a_client(StubGitHub(), token=PAT, api_url=f"http://127.0.0.1:{port}", transport=None)
        async with client:
            for _ in range(10):
                task = asyncio.get_running_loop().create_task(
                    client.registrations(ORGANIZATION), context=foreign
                )
                assert await task == ()
    assert len(connections) == 1


async def test_a_client_that_was_not_entered() -> None:
    """Asking before entering is a bug of the caller's, and said so."""
    with pytest.raises(RuntimeError, match="enter"):
        await a_client(StubGitHub(), token=PAT).whoami()


@pytest.mark.usefixtures("no_proxy")
async def test_a_server_that_is_not_there() -> None:
    """A port nobody listens on is an outage."""
    async with a_client(StubGitHub(), token=PAT, api_url="http://127.0.0.1:9", transport=None) as client:
        with pytest.raises(GitHubUnavailable, match="cannot be reached"):
            await client.whoami()


def an_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the certificate of a host that signs for itself, and the context it serves with."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(utcnow() - timedelta(days=1))
        .not_valid_after(utcnow() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key(), SHA256())
    )
    certificate, private = folder / "ca.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_text(pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private)
    return certificate, context


@pytest.mark.usefixtures("no_proxy")
async def test_a_private_authority(tmp_path: Path) -> None:
    """A GitHub with a certificate of its own is trusted by github_ca_path alone, and the error says so."""
    ca_path, tls = an_authority(tmp_path)
    async with a_server(tls) as (port, _):
        url = f"https://localhost:{port}"
        async with a_client(StubGitHub(), token=PAT, api_url=url, transport=None) as client:
            with pytest.raises(GitHubUnavailable, match="github_ca_path"):
                await client.registrations(ORGANIZATION)
        async with a_client(StubGitHub(), token=PAT, api_url=url, transport=None, ca_path=ca_path) as client:
            assert await client.registrations(ORGANIZATION) == ()


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    """A file that holds no certificate is named, with its setting."""
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(GitHubRefused, match="github_ca_path"):
        a_client(StubGitHub(), transport=None, ca_path=tmp_path / "ca.pem")


def test_credentials_do_not_show() -> None:
    """Credentials do not show their secrets."""
    shown = repr([AppCredentials(app_id="42", private_key=pem()), TokenCredentials(token=PAT)])
    assert "PRIVATE KEY" not in shown
    assert PAT not in shown


def test_importing_costs_little() -> None:
    """The client is imported without githubkit's webhooks, or any of its models."""
    code = (
        "import sys, app.github.client\n"
        "print([m for m in sys.modules if m == 'githubkit.webhooks' or 'schemas' in m and '.models' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
