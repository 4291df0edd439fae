"""Fixtures of the GitHub client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina


@pytest.fixture(autouse=True)
def no_waiting_between_tries() -> Iterator[None]:
    """Let the client try again as often as it would, at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
