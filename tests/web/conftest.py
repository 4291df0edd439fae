"""The application of the API's tests, with its pages, and a browser's requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from app.web import pages
from tests.api.conftest import TOKEN, Server, database_path, server

__all__ = ["browser", "database_path", "server", "stranger"]
HERE = "http://localhost:8000"


@pytest.fixture
async def stranger(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Open a browser that has shown no token."""
    pages.mount(server.app)
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        yield client


@pytest.fixture
async def browser(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    """Show the token once."""
    answer = await stranger.get("/", params={"token": TOKEN})
    assert answer.status_code == 303
    return stranger
