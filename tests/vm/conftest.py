"""A Mac on which things may go wrong, and on which nothing may be left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.vm.faulty import A, Host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    yield host
    host.faults()
    await host.backend.delete(A)
    await host.backend.close()
    assert await host.settled() == []
