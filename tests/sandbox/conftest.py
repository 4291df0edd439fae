"""A simulated Mac for the tests of the stand-in tart; nothing of it may be left running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.tart_mac import Mac


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Mac]:
    """Provide a Mac with tart and one image, ``golden``; whatever runs on it is ended, and must then be gone."""
    mac = Mac(tmp_path)
    try:
        yield mac
    finally:
        mac.shut_down()
    assert mac.left_running() == []
