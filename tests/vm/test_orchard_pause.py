"""A worker that writes its old state over what it was told, as a beat does that had read just before."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import pytest

from app.ports import VMError
from app.vm.orchard.controller import Controller
from app.vm.orchard.execute import Access

pytestmark = pytest.mark.looptime
ACCESS = Access(
    url="http://127.0.0.1/v1", account="cidermill", token="made-up", tls=None, server_name=None, agent="tests"
)


@dataclass
class Beating(httpx.AsyncBaseTransport):
    """A controller with one worker, whose next beats undo what it is told."""

    beats: int
    paused: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/workers/mini1":
            return httpx.Response(404)
        if request.method == "PUT":
            told = json.loads(await request.aread())["scheduling_paused"]
            self.paused, self.beats = (told, 0) if not self.beats else (self.paused, self.beats - 1)
        return httpx.Response(
            200, json={"name": "mini1"} | ({"scheduling_paused": True} if self.paused else {})
        )


@pytest.mark.parametrize("beats", [0, 1, 2])
async def test_it_is_told_again(beats: int) -> None:
    """What a beat undid is said again, and holds."""
    outside = Beating(beats)
    controller = Controller(ACCESS, transport=outside)
    assert await controller.pause("mini1", paused=True)
    assert outside.paused
    assert await controller.pause("mini1", paused=False)
    assert not outside.paused
    await controller.close()


async def test_it_will_not_hear() -> None:
    """After three times the operator is told; a worker that is not there is none."""
    controller = Controller(ACCESS, transport=Beating(beats=9))
    with pytest.raises(VMError, match="orchard pause worker mini1"):
        await controller.pause("mini1", paused=True)
    assert not await controller.pause("mini9", paused=True)
    await controller.close()
