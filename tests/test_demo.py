"""The demo as a program: however it is told to end, it takes its server and its VMs along."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT

import psutil
import pytest

LINK = re.compile(rb"http://127\.0\.0\.1:(\d+)/\?token=")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
async def test_it_ends(number: signal.Signals) -> None:
    """Ctrl-C, a `kill` and a terminal that is closed all leave nothing that runs."""
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.program", "demo", "--keep", stdout=PIPE, stderr=STDOUT
    )
    assert demo.stdout is not None
    told = b""
    async with asyncio.timeout(50):
        while (link := LINK.search(told)) is None or b" on demo-" not in told:  # the first job has its VM
            told += await demo.stdout.readline()
        family = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        rest = await demo.stdout.read()
        assert await demo.wait() == 130, (told + rest).decode()
    assert family
    _, living = psutil.wait_procs(family, timeout=5)
    assert living == []
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", int(link[1]))) != 0
