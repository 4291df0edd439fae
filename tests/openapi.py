"""GitHub's OpenAPI description as a check on an httpx transport: whatever passes through must keep to it.

Wrap any transport in :class:`CheckedTransport`; a request or an answer that GitHub's description does not allow
raises :class:`Violation`, with what is wrong and where. ``checked`` tells what was seen, and ``violations`` what was
wrong, for clients that turn any exception of a transport into one of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import jsonschema_rs

SAMPLE = Path(__file__).parent / "samples" / "github-openapi" / "api.github.com.json"
FREE_OF_SCHEMA = frozenset({304, 401, 403, 404, 410, 429})  # any endpoint may answer these, documented or not
A_RANGE = re.compile(r"(>=?|<=?)?\d{4}-\d\d-\d\d|\d{4}-\d\d-\d\d\.\.\d{4}-\d\d-\d\d")
RANGES = frozenset(
    {"created"}
)  # described as ranges in the syntax of GitHub's search, and written down as date-times
NULL_ALL_THE_SAME = (("workflow-run", "head_repository"),)  # null once a fork is deleted, whatever is written

Schema = dict[str, Any]  # JSON schemas are as deep as GitHub makes them


class Violation(AssertionError):
    """A request or an answer is not what GitHub's description allows."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One documented operation."""

    method: str
    template: str
    pattern: re.Pattern[str]
    spec: Schema

    @property
    def specificity(self) -> int:
        """Sort before templates with more parameters: ``runners/downloads`` before ``runners/{runner_id}``."""
        return self.template.count("{")


class Description:
    """The description, ready to check with."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        for schema, key in NULL_ALL_THE_SAME:
            known = document["components"]["schemas"][schema]["properties"]
            known[key] = {"nullable": True, "allOf": [known[key]]}
        components = {"components": _converted(document["components"])}
        self._components: Schema = components
        self.operations = sorted(self._read(), key=lambda operation: operation.specificity)

    def _read(self) -> Iterator[Operation]:
        for template, methods in self._document["paths"].items():
            pattern = re.compile(re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(template)))
            for method, spec in methods.items():
                yield Operation(method.upper(), template, pattern, spec)

    def find(self, method: str, path: str) -> Operation:
        """Return the operation that a request means."""
        for operation in self.operations:
            if operation.method == method and operation.pattern.fullmatch(path):
                return operation
        msg = f"{method} {path} is no documented operation"
        raise Violation(msg)

    def check_request(self, operation: Operation, request: httpx.Request, path: str) -> None:
        """Check path, query and body."""
        where = f"{operation.method} {operation.template}"
        values = operation.pattern.fullmatch(path)
        in_path = re.findall(r"\{(\w+)\}", operation.template)
        given = dict(zip(in_path, values.groups() if values else (), strict=True))
        given |= dict(parse_qsl(request.url.query.decode(), keep_blank_values=True))
        known = {spec["name"]: spec for spec in map(self._resolve, operation.spec.get("parameters", []))}
        for name, text in given.items():
            if name not in known:
                msg = f"{where}: the parameter {name} is not documented"
                raise Violation(msg)
            if name in RANGES and A_RANGE.fullmatch(text):
                continue
            self._check(known[name]["schema"], _as_json(text, known[name]["schema"]), f"{where} ?{name}")
        self._check_body(operation, request, where)

    def _check_body(self, operation: Operation, request: httpx.Request, where: str) -> None:
        documented = operation.spec.get("requestBody")
        content = request.content
        if documented is None or (not content and not documented.get("required")):
            if documented is None and content not in {b"", b"{}"}:
                msg = f"{where}: a body is not documented"
                raise Violation(msg)
            return
        schema = documented["content"]["application/json"]["schema"]
        self._check(schema, json.loads(content), f"{where} body")

    def check_response(self, operation: Operation, status: int, content: bytes) -> None:
        """Check the status and the body of an answer."""
        where = f"{operation.method} {operation.template} → {status}"
        documented = operation.spec["responses"].get(str(status))
        if documented is None:
            if status not in FREE_OF_SCHEMA and status < 500:
                msg = f"{where}: the status is not documented"
                raise Violation(msg)
            schema: Schema = {"$ref": "#/components/schemas/basic-error"}
            if content and status < 500:
                self._check(schema, json.loads(content), where)
            return
        kinds = self._resolve(documented).get("content", {})
        if "application/json" not in kinds:
            if content:
                msg = f"{where}: there should be no body"
                raise Violation(msg)
            return
        self._check(kinds["application/json"]["schema"], json.loads(content), where)

    def _resolve(self, thing: Schema) -> Schema:
        reference = thing.get("$ref")
        if reference is None:
            return thing
        _, kind, name = reference.removeprefix("#/").split("/")
        found: Schema = self._document["components"][kind][name]
        return found

    def _check(self, schema: Schema, value: object, where: str) -> None:
        key = json.dumps(schema, sort_keys=True)
        errors = [
            f"{'/'.join(map(str, error.instance_path)) or 'the whole'}: {error.message[:300]}"
            for error in self._validator(key).iter_errors(value)
        ]
        if errors:
            raise Violation(f"{where}: " + "; ".join(errors[:5]))

    @cache  # noqa: B019  # a description lives as long as the tests
    def _validator(self, key: str) -> jsonschema_rs.Draft7Validator:
        # Draft 7 ignores what stands beside a $ref, so the schema is wrapped.
        schema = self._components | {"allOf": [_converted(json.loads(key))]}
        return jsonschema_rs.Draft7Validator(schema, validate_formats=True)


def _converted(schema: Any) -> Any:
    """Return an OpenAPI 3.0 schema as JSON schema: ``nullable`` becomes a type."""
    if isinstance(schema, list):
        return [_converted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _converted(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [result, {"type": "null"}]}
    return result


def _as_json(text: str, schema: Schema) -> object:
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


@cache
def github() -> Description:
    """Return the description of api.github.com."""
    return Description(json.loads(SAMPLE.read_text(encoding="utf-8")))


class CheckedTransport(httpx.AsyncBaseTransport):
    """A transport that lets nothing pass that GitHub's description does not allow."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, base_path: str = "") -> None:
        self._inner = inner
        self._base_path = base_path
        self.checked: list[tuple[str, str, int]] = []  # method, path template, status
        self.violations: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check, pass on, and check what comes back."""
        try:
            return await self._pass(request)
        except Violation as error:
            self.violations.append(str(error))
            raise

    async def _pass(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        path = request.url.path
        if not path.startswith(self._base_path):
            msg = f"{path} is not below {self._base_path}"
            raise Violation(msg)
        path = path.removeprefix(self._base_path)
        operation = github().find(request.method, path)
        github().check_request(operation, request, path)
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        await response.aclose()
        github().check_response(operation, response.status_code, content)
        self.checked.append((request.method, operation.template, response.status_code))
        return _replayed(response, content)

    async def aclose(self) -> None:
        """Close what is wrapped."""
        await self._inner.aclose()


def _replayed(response: httpx.Response, content: bytes) -> httpx.Response:
    """Return the answer with the body that was read, no longer encoded."""
    headers: Mapping[str, str] = response.headers
    kept = [(k, v) for k, v in headers.items() if k.lower() not in {"content-encoding", "transfer-encoding"}]
    return httpx.Response(
        response.status_code, headers=kept, content=content, extensions={"http_version": b"HTTP/1.1"}
    )
