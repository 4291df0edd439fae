"""A webhook delivery without any I/O: headers and bytes in, a Delivery or a typed error out.

The signature is checked over the raw bytes before anything is read, and only ``X-Hub-Signature-256`` counts.
The body is read tolerantly: the dozen fields we need, from plain JSON. A strict model of GitHub's payload would
lose jobs to the next new status or a missing optional key (docs/contracts/github.md §1.6).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from app.domain.jobs import JobStatus, WorkflowJobEvent

ACTIONS = frozenset({"queued", "waiting", "in_progress", "completed"})
SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)
REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}", re.ASCII)
# What moves a cursor, forges a line or turns text round: the C0 and C1 sets, and what Unicode has for directions.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MAX_TEXT = 1000  # characters of any text we keep
MAX_ID = 2**63 - 1  # what SQLite's integers hold
MAX_LABELS = 100  # as many as GitHub lets a runner have


class BadSignature(ValueError):
    """The delivery does not prove that it comes from GitHub."""


class BadPayload(ValueError):
    """The body is not the JSON object that GitHub sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An authentic delivery; ``job`` is None where it is not for us."""

    guid: str
    event: str
    action: str | None
    hook_id: str | None
    job: WorkflowJobEvent | None


def parse(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> Delivery:
    """Verify and read a delivery. Any of *secrets* may have signed it, so that they can be rotated.

    Header names are looked up in lower case: *headers* must fold case, as Starlette's do, or be in lower case.
    Raises BadSignature and BadPayload.
    """
    _verify(claimed_signature(headers), body, secrets)
    event = _header(headers, "x-github-event")
    guid = _header(headers, "x-github-delivery")
    if not guid or not event:
        msg = "The headers X-GitHub-Event and X-GitHub-Delivery are required."
        raise BadPayload(msg)
    payload = _load(_json_of(headers, body)) if event == "workflow_job" else {}
    action = payload.get("action")
    action = action if isinstance(action, str) else None
    job = event_of(payload)
    hook_id = _header(headers, "x-github-hook-id")
    return Delivery(guid=guid, event=event, action=action, hook_id=hook_id or None, job=job)


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "")[:200]


def claimed_signature(headers: Mapping[str, str]) -> str:
    """Return the digest that a delivery claims to be signed with. Raises BadSignature where it claims none."""
    match = SIGNATURE.fullmatch(headers.get("x-hub-signature-256", ""))
    if match is None:
        msg = (
            "The delivery is not signed: set the same webhook secret at GitHub and in github_webhook_secret."
        )
        raise BadSignature(msg)
    return match[1]


def _verify(signature: str, body: bytes, secrets: Sequence[str]) -> None:
    if not secrets or not all(secrets):
        msg = "a webhook secret is required"
        raise ValueError(msg)
    valid = [
        hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), signature)
        for secret in secrets
    ]
    if not any(valid):
        msg = "The signature does not fit: github_webhook_secret differs from the secret at GitHub."
        raise BadSignature(msg)


def _json_of(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the JSON of a body that may be a form, the default content type of an App's hook."""
    if not headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        return body
    try:
        return parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"][0].encode()
    except (ValueError, KeyError) as error:
        msg = "The form has no field `payload`."
        raise BadPayload(msg) from error


def _load(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = "The body is not JSON."
        raise BadPayload(msg) from error
    if not isinstance(payload, dict):
        msg = "The body is not a JSON object."
        raise BadPayload(msg)
    return payload


def event_of(payload: dict[str, Any]) -> WorkflowJobEvent | None:
    """Read the payload of a ``workflow_job``; None where it is of no action that we know, or lacks its job."""
    action = payload.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        return None
    return job_event(payload.get("workflow_job"), payload.get("repository"))


def job_event(job: object, repository: object) -> WorkflowJobEvent | None:
    """Read a job object of a webhook or of the REST API; None where it lacks what makes it a job at all."""
    if not isinstance(job, dict) or not isinstance(repository, dict):
        return None
    job_id, name = _integer(job.get("id")), repository.get("full_name")
    if job_id is None or not isinstance(name, str) or REPOSITORY.fullmatch(name) is None:
        return None
    owner = repository.get("owner")
    return WorkflowJobEvent(
        id=job_id,
        run_id=_integer(job.get("run_id")) or 0,
        run_attempt=_integer(job.get("run_attempt")) or 1,
        name=_text(job.get("name")) or "",
        workflow=_text(job.get("workflow_name")),
        repository=name,
        repository_id=_integer(repository.get("id")) or 0,
        organization=isinstance(owner, dict) and owner.get("type") == "Organization",
        private=repository.get("private") is not False,
        labels=_labels(job.get("labels")),
        status=JobStatus.from_github(_text(job.get("status"))),
        conclusion=_text(job.get("conclusion")),
        # Of a job that never had a runner GitHub says null, 0 or "", depending on where one looks.
        runner=_text(job.get("runner_name")) or None,
        url=_text(job.get("html_url")) or "",
        queued_at=_time(job.get("created_at")) or _time(job.get("started_at")),
        started_at=_time(job.get("started_at")),
        completed_at=_time(job.get("completed_at")),
    )


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        return None
    return value


def _text(value: object) -> str | None:
    """Return text that can be stored and shown anywhere: no control character, no lone surrogate, of bounded length."""
    if not isinstance(value, str):
        return None
    return CONTROLS.sub(" ", value[:MAX_TEXT]).encode(errors="replace").decode()


def _labels(value: object) -> tuple[str, ...]:
    found = value if isinstance(value, list) else []
    return tuple(text for label in found[:MAX_LABELS] if (text := _text(label)))


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
