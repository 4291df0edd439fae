"""The OpenAPI document is complete and true: schemathesis finds no request that is answered otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection

from app.main import ROUTERS, create_app
from tests.api.conftest import TOKEN, Server, serving
from tests.api.test_composition import some_settings
from tests.conftest import Clock
from tests.databases import new_database

LOCAL = {"Host": "localhost"}
ENDLESS = {
    "/api/v1/events"
}  # an answer that never ends is none to wait for: tests/web/test_events.py reads it
OPERATIONS = [
    pytest.param(method, route.path, mode, id=f"{method} {route.path} {mode.value}")
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.path not in ENDLESS
    for method in sorted(route.methods)
    for mode in GenerationMode
    if not (mode is GenerationMode.NEGATIVE and route.path in {"/healthz", "/readyz"})  # nothing to get wrong
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start an application that holds a job and a runner; requests come on loops of their own."""
    context = serving(new_database(tmp_path_factory.mktemp("openapi") / "cidermill.db"), Clock())
    with asyncio.Runner() as runner:
        server = runner.run(context.__aenter__())
        runner.run(server.busy_runner())
        yield server
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def schema(running: Server) -> BaseSchema:
    # Parameters that nobody documented are ignored, as everywhere on the web: they are no violation.
    config = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
    return schemathesis.openapi.from_asgi("/openapi.json", running.app, config=config, headers=LOCAL)


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_answers_are_documented(schema: BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    """Whatever is asked, status, type and body of the answer are as documented, and no token is no entry."""
    operation = schema[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Case) -> None:
        # What makes a request wrong may be the header that is replaced here, so that it is taken all the same.
        headers = LOCAL | {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(headers=headers, excluded_checks=[negative_data_rejection])

    check()


def test_every_operation_is_in_the_document(schema: BaseSchema) -> None:
    """No route is left out of the document, and each has a summary, a description and a kind."""
    listed = [result.ok() for result in schema.get_all_operations()]
    found = {(op.method.upper(), op.path) for op in listed if op.path not in ENDLESS}
    assert found == {param.values[:2] for param in OPERATIONS}
    for operation in listed:
        raw = operation.definition.raw
        assert raw["summary"]
        assert raw["description"].endswith(".")
        assert raw["tags"]


def test_the_application_that_is_served_has_no_other(running: Server, tmp_path: Path) -> None:
    """What these tests look at is all that there is to look at."""
    served = create_app(some_settings(tmp_path))
    assert served.openapi()["paths"] == running.app.openapi()["paths"]
