"""The real server as a process of its own, configured for the sandbox in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.sandbox.github import ModelGitHub
from app.vm.locks import owner_of

START_SECONDS = 45.0  # the machine may be busy with much else
STOP_SECONDS = 10.0
LARGEST = 100_000_000  # bytes; above are disks, with nothing in them


class Server:
    """``cidermill serve``, started and stopped."""

    def __init__(
        self,
        place: Path,
        api_url: str,
        model: ModelGitHub,
        config: str,
        *,
        backend: Mapping[str, str] | None = None,
    ) -> None:
        """Configure it in *place*; *backend* are the settings of what runs its VMs, if not the sandbox's tart."""
        self._place = place
        self.url = f"http://127.0.0.1:{free_port()}"
        key = place / "app.pem"
        key.touch(mode=0o600)
        key.write_text(model.accounts.app.pem, encoding="ascii")
        (place / "cidermill.toml").write_text(config, encoding="utf-8")
        self._env = {
            "PATH": f"{place / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(place),
            "CIDERMILL_STATE_DIR": str(place / "state"),
            "CIDERMILL_LISTEN": self.url.removeprefix("http://"),
            "CIDERMILL_GITHUB_API_URL": api_url,
            "CIDERMILL_GITHUB_APP_ID": str(model.accounts.app.id),
            "CIDERMILL_GITHUB_PRIVATE_KEY_PATH": str(key),
            "CIDERMILL_GITHUB_WEBHOOK_SECRET": model.app_hook.secret,
            "CIDERMILL_LOG_FORMAT": "json",
        }
        self._env |= backend or {
            "CIDERMILL_TART_PATH": str(place / "bin" / "tart"),
            "CIDERMILL_TART_HOME": str(place / "tart"),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._client = httpx.AsyncClient(
            base_url=self.url,
            timeout=10.0,
            limits=httpx.Limits(
                max_keepalive_connections=0
            ),  # one that the server closes meanwhile would fail
        )

    async def __aenter__(self) -> Self:
        """Start the server, and wait until it can do its work. Raises RuntimeError with its log where it cannot."""
        with (self._place / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.cli.program", "serve",
                cwd=self._place, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._is_ready():  # noqa: ASYNC110  # another process: there is no event
                    await asyncio.sleep(0.1)
        except TimeoutError:
            await self._stop()
            msg = f"the server did not get ready:\n{self.log()}"
            raise RuntimeError(msg) from None
        except asyncio.CancelledError:
            await self._stop()
            raise
        token = (self._place / "state" / "admin-token").read_text(encoding="ascii").strip()
        self._client.headers["authorization"] = f"Bearer {token}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server, and whatever VM runs."""
        await self._stop()

    @property
    def link(self) -> str:
        """The dashboard's address, with the token that lets its reader in."""
        token = (self._place / "state" / "admin-token").read_text(encoding="ascii").strip()
        return f"{self.url}/?token={token}"

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid if self._process else 0

    @property
    def env(self) -> dict[str, str]:
        """The environment that it runs in, for commands that are run beside it."""
        return dict(self._env)

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self.url.rpartition(":")[2])

    async def text(self, path: str) -> str:
        """Return an answer that is text."""
        answer = await self._client.get(path)
        answer.raise_for_status()
        return answer.text

    async def get(self, path: str) -> Any:
        """Return an answer of the admin API, as JSON."""
        answer = await self._client.get(path)
        answer.raise_for_status()
        return answer.json()

    async def _is_ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            msg = f"the server ended:\n{self.log()}"
            raise RuntimeError(msg)
        try:
            return (await self._client.get("/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def _stop(self) -> None:
        await self._client.aclose()
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        for vm in self._place.glob("tart/vms/*"):
            pid = owner_of(vm)
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)

    def log(self) -> str:
        """Return the end of what the server wrote."""
        return (self._place / "server.log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def vms(self) -> list[str]:
        """Return the names of the VMs there are."""
        return sorted(vm.name for home in self._homes() for vm in home.glob("vms/*"))

    def violations(self) -> list[str]:
        """Return how tart was used against its contract; what the workers of a shelf do with theirs is their matter."""
        file = self._place / "tart" / "violations.log"
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    def _homes(self) -> list[Path]:
        """Return the directories of tart: this Mac's, or those of a shelf."""
        return [self._place / "tart", *sorted(self._place.glob("workers/*"))]

    def leaks(self, secrets: tuple[str, ...]) -> list[str]:
        """Return the files, of all that was written, that hold a secret beside the one that was given its own."""
        needles = [secret.encode() for secret in secrets]
        files = (
            f
            for f in self._place.rglob("*")
            if f.is_file() and f.name != "app.pem" and f.stat().st_size < LARGEST
        )
        return sorted(
            {str(f.relative_to(self._place)) for f in files for needle in needles if needle in f.read_bytes()}
        )


def free_port() -> int:
    """Return a port of loopback that nobody else is given for a minute, until its server listens on it.

    A connection that was closed on its side keeps it: only who asks for this very port, as a server that may be
    restarted does (``SO_REUSEADDR``), still gets it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
        return int(listener.getsockname()[1])
