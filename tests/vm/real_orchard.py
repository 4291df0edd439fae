"""A real Orchard on loopback, where there is one: its controller, and workers whose hypervisor is a stand-in.

``ORCHARD_BIN`` names the program, or it is on PATH. A worker on Linux calls ``vetu``, and always reaches a guest at port
22 of the address it is told: so each VM has a loopback address of its own, where an SSH server leads into the
sandbox's guest (docs/contracts/orchard.md §7.5).
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from app.domain.pools import MACOS_VM, Kind
from app.sandbox.image import install
from app.sandbox.server import free_port
from app.vm.orchard.execute import Access
from app.vm.process import spawn

ADMIN = "the-administrator-of-this-test"
TOKENS = {"cidermill": "the-token-of-this-test", "worker": "the-token-of-a-worker"}
KIND = Kind(os="linux", arch="amd64", runtime="vetu", resources=((MACOS_VM, 1),))
ADDRESSES = 6  # VMs of a worker at a time, with those that are just being removed, or were lost track of
START = 20.0  # s

VETU = """#!/bin/sh
# Stands in for vetu: the sandbox's tart, with an address for every VM that runs.
verb=$1
shift
for last; do :; done
export TART_HOME="@HOME@"
case $verb in
ip)
  grep -lx "$last" "@HOME@"/addresses/* | head -n 1 | xargs basename
  exit
  ;;
run)
  for address in @ADDRESSES@; do
    if (set -C && echo "$last" >"@HOME@/addresses/$address") 2>/dev/null; then break; fi
  done
  exec "@TART@" run --no-graphics "$last"
  ;;
stop) exec "@TART@" stop "$last" --timeout 5 ;;
delete)
  grep -lx "$last" "@HOME@"/addresses/* | xargs -r rm
  exec "@TART@" delete "$last"
  ;;
list) exec "@TART@" list --source local --format json ;;
*) exec "@TART@" "$verb" "$@" ;;
esac
"""


def located() -> str:
    """Return the program. Skips the test where there is none."""
    found = os.environ.get("ORCHARD_BIN") or shutil.which("orchard")
    if found is None:
        pytest.skip("there is no orchard on PATH, and ORCHARD_BIN names none")
    return found


def program() -> str:
    """Return the program. Skips the test where there is none, or where its VMs cannot be played."""
    found = located()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a stand-in for the hypervisor needs Linux, and root for port 22")
    return found


@dataclass(slots=True)
class RealShelf:
    """A controller with its workers, and what is told of them."""

    place: Path
    url: str
    certificate: Path
    program: str
    env: dict[str, str]
    controller: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def settings(self, url: str | None = None) -> dict[str, str]:
        """Return what a CiderMill is to be told to work with it, where it is at *url* for the asker."""
        return {
            "CIDERMILL_BACKEND": "orchard",
            "CIDERMILL_ORCHARD_URL": url or self.url,
            "CIDERMILL_ORCHARD_ACCOUNT": "cidermill",
            "CIDERMILL_ORCHARD_TOKEN": TOKENS["cidermill"],
            "CIDERMILL_ORCHARD_CA_PATH": str(self.certificate),
            "CIDERMILL_ORCHARD_SERVER_NAME": "orchard-controller",
        }

    def access(self) -> Access:
        """Return what a backend works with."""
        return Access(
            url=f"{self.url}/v1",
            account="cidermill",
            token=TOKENS["cidermill"],
            tls=ssl.create_default_context(cafile=str(self.certificate)),
            server_name="orchard-controller",
            agent="cidermill/test",
        )

    async def start(self) -> None:
        """Start the controller, and wait until it answers; what it stores can be searched."""
        listen = self.url.rpartition("/")[2]
        arguments = ("controller", "run", "--listen", listen, "--experimental-disable-db-compression")
        self.controller = self._spawn("controller", arguments, self.env)
        async with asyncio.timeout(START):
            while not await self._answers():
                await asyncio.sleep(0.1)

    async def work(self, name: str) -> None:
        """Start a worker, and wait until the controller knows it."""
        path = {"PATH": f"{self.place / 'bin' / name}:{os.environ['PATH']}"}
        arguments = (
            "worker", "run", "--name", name, "--resources", "org.cirruslabs.tart-vms=2",
            "--labels", f"host={name}", "--bootstrap-token", bootstrap_token(self.certificate), self.url,
        )  # fmt: skip
        self.workers[name] = self._spawn(name, arguments, self.env | path)
        async with asyncio.timeout(START):
            while (await self.ask("GET", f"/workers/{name}")).status_code != 200:
                await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        if not self.certificate.exists():
            return False
        try:
            return (await self.ask("GET", "/controller/info")).status_code == 200
        except httpx.TransportError:
            return False

    async def ask(self, verb: str, path: str, body: Any = None) -> httpx.Response:
        """Ask as the administrator."""
        tls = ssl.create_default_context(cafile=str(self.certificate))
        async with httpx.AsyncClient(verify=tls, auth=("bootstrap-admin", ADMIN)) as client:
            return await client.request(
                verb, f"{self.url}/v1{path}", json=body, extensions={"sni_hostname": "orchard-controller"}
            )

    def _spawn(self, name: str, arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.place / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [self.program, *arguments], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End the controller at once."""
        if self.controller is not None:
            self.controller.kill()
            self.controller.wait()
            self.controller = None

    def kill_worker(self, name: str) -> None:
        """End a worker at once; its VMs go on."""
        process = self.workers.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all: the workers first, so that they remove their VMs."""
        for process in self.workers.values():
            process.send_signal(signal.SIGINT)
        for process in self.workers.values():
            ended(process)
        self.kill()

    def pids(self) -> set[int]:
        """Return the processes of the controller and its workers."""
        running = [*self.workers.values(), *([self.controller] if self.controller else [])]
        return {process.pid for process in running}

    def written(self) -> dict[str, bytes]:
        """Return what the controller and its workers have written, by file; the stretches alone that hold anything."""
        files = [*(self.place / "orchard").rglob("*"), *self.place.glob("*.log")]
        return {str(file.relative_to(self.place)): _data(file) for file in files if file.is_file()}


def _data(file: Path) -> bytes:
    """Read a file that may be gigabytes by its size, and nearly all of it a hole."""
    found = bytearray()
    with file.open("rb") as source:
        at = 0
        while True:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing more
                return bytes(found)
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            found += os.pread(source.fileno(), end - at, at)
            at = end


@asynccontextmanager
async def real_shelf(place: Path, *, workers: tuple[str, ...] = ("mini1",)) -> AsyncIterator[RealShelf]:
    """Run a controller with accounts and TLS, and workers, all in the directory *place*."""
    found = program()
    (place / "orchard").mkdir()
    made = RealShelf(
        place=place,
        url=f"https://127.0.0.1:{free_port()}",
        certificate=place / "orchard" / ".orchard" / "controller" / "controller.crt",
        program=found,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "ORCHARD_HOME": str(place / "orchard"),
            "ORCHARD_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
        },
    )
    tart = install(place / "bin")
    async with AsyncExitStack() as stack:
        for number, name in enumerate(workers):
            await stack.enter_async_context(_hypervisor(place, name, tart, f"127.{77 + number}"))
        stack.callback(made.close)
        await made.start()
        for name, token in TOKENS.items():
            account = {"name": name, "token": token, "roles": ["compute:read", "compute:write"]}
            answer = await made.ask("POST", "/service-accounts", account)
            assert answer.status_code == 200, answer.text
        for name in workers:
            await made.work(name)
        yield made


@asynccontextmanager
async def _hypervisor(place: Path, worker: str, tart: Path, network: str) -> AsyncIterator[None]:
    """Make the ``vetu`` of a worker, and let into the guests at the addresses that it gives."""
    home, vetu = place / "workers" / worker, place / "bin" / worker / "vetu"
    (home / "addresses").mkdir(parents=True)
    vetu.parent.mkdir()
    addresses = [f"{network}.{os.getpid() % 250}.{n + 1}" for n in range(ADDRESSES)]
    text = VETU.replace("@HOME@", str(home)).replace("@TART@", str(tart))
    vetu.write_text(text.replace("@ADDRESSES@", " ".join(addresses)), encoding="ascii")
    vetu.chmod(0o755)
    async with AsyncExitStack() as stack:
        for address in addresses:
            await stack.enter_async_context(ssh_server(address, home, tart))
        yield


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait until a worker that was told to end has removed its VMs; if that takes long, end it at once."""
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def bootstrap_token(certificate: Path | None) -> str:
    """Pack a worker's credentials, and the certificate that it is to trust."""
    pinned = [] if certificate is None else [certificate.read_text(encoding="ascii")]
    parts = ("worker", TOKENS["worker"], *pinned)
    packed = (base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    return "orchard-bootstrap-token-v0." + ".".join(packed)


async def feed(process: asyncssh.SSHServerProcess[bytes], stdin: asyncio.StreamWriter | None) -> None:
    """Pass on what a client sends, and the end of it."""
    assert stdin is not None
    with suppress(asyncssh.Error, ConnectionError):
        while data := await process.stdin.read(65536):
            stdin.write(data)
            await stdin.drain()
        stdin.close()


async def relay(source: asyncio.StreamReader | None, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Pass on what a guest says."""
    assert source is not None
    while data := await source.read(65536):
        sink.write(data)


@asynccontextmanager
async def ssh_server(address: str, home: Path, tart: Path) -> AsyncIterator[None]:
    """Let ``admin`` into the guest that has this address now, once its agent answers."""
    env = {"TART_HOME": str(home), "PATH": "/usr/bin:/bin"}
    owner = home / "addresses" / address

    class Server(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        async def validate_password(self, username: str, password: str) -> bool:
            if not owner.exists():
                return False
            child = await spawn([str(tart), "exec", owner.read_text().strip(), "true"], env=env)
            await child.process.communicate()
            await child.end(signal.SIGKILL)
            return child.process.returncode == 0 and (username, password) == ("admin", "admin")

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/bash", "-l"]
        child = await spawn(
            [str(tart), "exec", "-i", owner.read_text().strip(), *command], env=env, stdin=PIPE
        )
        guest = child.process
        feeding = asyncio.create_task(feed(process, guest.stdin))
        try:
            await asyncio.gather(relay(guest.stdout, process.stdout), relay(guest.stderr, process.stderr))
            process.exit(await guest.wait())
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await child.end(signal.SIGKILL)

    acceptor = await asyncssh.listen(
        address, 22,
        server_factory=Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=serve,
        encoding=None,
    )  # fmt: skip
    try:
        yield
    finally:
        acceptor.close()
        await acceptor.wait_closed()
