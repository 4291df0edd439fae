"""A real Orchard on loopback, where there is one: its controller, and a worker whose hypervisor is a stand-in.

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
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
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
ADDRESSES = 6  # VMs of a worker in the life of a test, each with its own
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
list) exec "@TART@" list --source local --format json ;;
*) exec "@TART@" "$verb" "$@" ;;
esac
"""


def program() -> str:
    """Return the program. Skips the test where there is none, or where it cannot be driven."""
    found = os.environ.get("ORCHARD_BIN") or shutil.which("orchard")
    if found is None:
        pytest.skip("there is no orchard on PATH, and ORCHARD_BIN names none")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a stand-in for the hypervisor needs Linux, and root for port 22")
    return found


@dataclass(slots=True)
class RealShelf:
    """A controller and what is told of it."""

    place: Path
    url: str
    certificate: Path
    program: str
    env: dict[str, str]
    log: Path
    controller: subprocess.Popen[bytes] | None = None

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
        """Start the controller, and wait until it answers."""
        self.controller = self.spawn("controller", "run", "--listen", self.url.removeprefix("https://"))
        async with asyncio.timeout(START):
            while not await self._answers():
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

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run the program, with its output in the log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self.program, *arguments], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End the controller at once."""
        if self.controller is not None:
            self.controller.kill()
            self.controller.wait()
            self.controller = None


@asynccontextmanager
async def real_shelf(place: Path, *, worker: str = "mini1") -> AsyncIterator[RealShelf]:
    """Run a controller with accounts and TLS, and one worker, all in the directory *place*."""
    found = program()
    home = place / "workers" / worker
    (home / "addresses").mkdir(parents=True)
    tart = install(place / "bin")
    addresses = [f"127.77.{os.getpid() % 250}.{n + 1}" for n in range(ADDRESSES)]
    vetu = place / "bin" / "vetu"
    text = VETU.replace("@HOME@", str(home)).replace("@TART@", str(tart))
    vetu.write_text(text.replace("@ADDRESSES@", " ".join(addresses)), encoding="ascii")
    vetu.chmod(0o755)
    env = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "HOME": str(place),
        "ORCHARD_HOME": str(place / "orchard"),
        "ORCHARD_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
    }
    (place / "orchard").mkdir()
    made = RealShelf(
        place=place,
        url=f"https://127.0.0.1:{free_port()}",
        certificate=place / "orchard" / ".orchard" / "controller" / "controller.crt",
        program=found,
        env=env,
        log=place / "orchard.log",
    )
    async with AsyncExitStack() as stack:
        stack.callback(made.kill)
        await made.start()
        for name, token in TOKENS.items():
            roles = ["compute:read", "compute:write"]
            answer = await made.ask(
                "POST", "/service-accounts", {"name": name, "token": token, "roles": roles}
            )
            assert answer.status_code == 200, answer.text
        for address in addresses:
            await stack.enter_async_context(ssh_server(address, home, tart))
        process = made.spawn(
            "worker", "run", "--name", worker, "--resources", "org.cirruslabs.tart-vms=2", "--labels", f"host={worker}",
            "--bootstrap-token", bootstrap_token(made.certificate), made.url,
        )  # fmt: skip
        stack.callback(ended, process)
        async with asyncio.timeout(START):
            while not (await made.ask("GET", "/workers")).json():
                await asyncio.sleep(0.1)
        yield made


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a worker as an operator does, so that it removes its VMs; and if that takes long, at once."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def bootstrap_token(certificate: Path) -> str:
    """Pack a worker's credentials."""
    parts = ("worker", TOKENS["worker"], certificate.read_text(encoding="ascii"))
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
