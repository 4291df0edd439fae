"""The program against a real server on loopback, whose world the test drives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from click.testing import Result
from typer.testing import CliRunner

from app.cli.program import program
from tests.api.conftest import TOKEN, Server, serving
from tests.conftest import Clock
from tests.databases import new_database


@dataclass(slots=True, kw_only=True)
class Desk:
    """Where an operator sits: a shell in a directory, and a server that runs."""

    server: Server
    url: str
    token_file: Path
    runner: CliRunner = field(default_factory=CliRunner)

    async def run(self, *arguments: str, stdin: str = "") -> Result:
        """Run the program with where the server is."""
        return await self.bare(
            "--url", self.url, "--token-file", str(self.token_file), *arguments, stdin=stdin
        )

    async def bare(self, *arguments: str, stdin: str = "", **environ: str) -> Result:
        """Run the program with nothing but *arguments*."""
        return await asyncio.to_thread(self.runner.invoke, program, arguments, input=stdin, env=environ)

    async def says(self, *arguments: str, stdin: str = "") -> str:
        """Run the program, which must succeed, and return what it prints."""
        done = await self.run(*arguments, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
async def desk(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Start a server on loopback; the directory and the home are empty ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text(TOKEN + "\n")
    async with serving(new_database(tmp_path / "cidermill.db"), clock) as server:
        listening = uvicorn.Server(
            uvicorn.Config(server.app, port=0, lifespan="off", ws="none", log_config=None, access_log=False)
        )
        task = asyncio.create_task(listening.serve())
        while not listening.started:
            await asyncio.sleep(0)
        port = listening.servers[0].sockets[0].getsockname()[1]
        yield Desk(server=server, url=f"http://127.0.0.1:{port}", token_file=tmp_path / "token")
        listening.should_exit = True
        await task
