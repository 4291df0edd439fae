"""Webhook deliveries as GitHub signs them."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from app.domain.jobs import WorkflowJobEvent
from app.github.webhook import Delivery, parse

SECRET = "it's a secret to everybody"


def signed(body: bytes, *, secret: str = SECRET, event: str = "workflow_job", **more: str) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = {
        "x-github-event": event,
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={digest}",
        "content-type": "application/json",
    }
    return given | {name.replace("_", "-"): text for name, text in more.items()}


def delivered(payload: object, *, event: str = "workflow_job") -> Delivery:
    body = json.dumps(payload).encode()
    return parse(signed(body, event=event), body, [SECRET])


def a_payload(*, action: object = "queued", repository: object = None, **job: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"id": 5, "run_id": 6, "status": "queued", "labels": ["mac"]}
    return {
        "action": action,
        "workflow_job": values | job,
        "repository": repository or {"id": 9, "full_name": "acme/app", "owner": {"type": "Organization"}},
    }


def the_job(payload: object) -> WorkflowJobEvent:
    job = delivered(payload).job
    assert job is not None
    return job


BODY = json.dumps(a_payload()).encode()
RIGHT = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
