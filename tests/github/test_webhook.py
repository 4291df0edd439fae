"""The webhook parser: what real deliveries say, and that nothing else breaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.jobs import JobStatus
from app.github.webhook import BadPayload, BadSignature, Delivery, job_event, parse
from tests.github.deliveries import BODY, RIGHT, SECRET, a_payload, delivered, signed, the_job

SAMPLES = Path(__file__).parent.parent / "samples" / "github-webhooks"
J = JobStatus


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


REAL = {
    "completed.failure": (
        "completed",
        {
            "id": 289782451, "run_id": 2202229078, "run_attempt": 1, "name": "linters", "workflow": "CodeQL",
            "repository": "Codertocat/Hello-World", "organization": True, "private": False,
            "labels": ("ubuntu-latest",), "status": J.COMPLETED, "conclusion": "failure",
            "runner": "GitHub Actions 5", "queued_at": at("2021-08-05T10:33:58"),
            "started_at": at("2021-08-05T10:34:58"), "completed_at": at("2021-08-05T10:38:16"),
        },
    ),
    "completed.success": ("completed", {"status": J.COMPLETED, "conclusion": "success", "name": "linters"}),
    "in_progress.app": (
        "in_progress",
        {"status": J.IN_PROGRESS, "conclusion": None, "name": "Analyze (javascript)", "completed_at": None},
    ),
    "in_progress.legacy-2021": (
        "in_progress",
        {
            "id": 2832853555, "run_id": 940463255, "run_attempt": 1, "workflow": None, "private": True,
            "labels": ("gpu", "db-app", "dc-03"), "runner": "my runner", "status": J.IN_PROGRESS,
            "repository": "octo-org/example-workflow", "queued_at": at("2021-06-15T19:22:27"),
        },
    ),
    "in_progress.steps-queued": (
        "in_progress",
        {
            "id": 14541957942, "run_id": 5373506832, "name": "Do examples need to be regenerated?",
            "repository": "wolfy1339/github-events-schemas", "organization": False, "status": J.IN_PROGRESS,
            "started_at": at("2023-06-26T03:31:36"), "runner": "GitHub Actions 6",
        },
    ),
    "queued.self-hosted-with-deployment": (
        "queued",
        {
            "id": 12877621891, "status": J.WAITING, "labels": ("self-hosted", "k8s"), "runner": None,
            "queued_at": at("2023-04-19T21:12:12"), "completed_at": None, "organization": False,
        },
    ),
    "queued.ubuntu-latest": ("queued", {"id": 289782451, "status": J.QUEUED, "name": "update"}),
    "waiting.self-hosted": ("waiting", {"id": 12877621891, "status": J.WAITING, "runner": None}),
}  # fmt: skip

OTHERS = sorted(path.name for path in SAMPLES.glob("*.json") if not path.name.startswith("workflow_job."))


def sample(name: str) -> Delivery:
    body = (SAMPLES / name).read_bytes()
    return parse(signed(body, event=name.split(".")[0]), body, [SECRET])


def test_every_sample_is_looked_at() -> None:
    """No delivery lies among the samples that the tables leave out."""
    named = {f"workflow_job.{name}.json" for name in REAL} | set(OTHERS)
    assert named == {path.name for path in SAMPLES.glob("*.json")}


@pytest.mark.parametrize("name", REAL)
def test_real_deliveries(name: str) -> None:
    """Real deliveries of every age and shape are read; what the job says, not the action, is its status."""
    delivery = sample(f"workflow_job.{name}.json")
    action, wanted = REAL[name]
    assert (delivery.action, delivery.event) == (action, "workflow_job")
    assert {field: getattr(delivery.job, field) for field in wanted} == wanted


@pytest.mark.parametrize("name", OTHERS)
def test_real_deliveries_of_other_events(name: str) -> None:
    """Pings and what every App is sent besides are authentic, and not for us."""
    delivery = sample(name)
    assert delivery.job is None
    assert delivery.guid == "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def test_hook_id() -> None:
    """The hook is kept where GitHub names it."""
    body = json.dumps(a_payload()).encode()
    assert parse(signed(body, x_github_hook_id="42"), body, [SECRET]).hook_id == "42"
    assert parse(signed(body), body, [SECRET]).hook_id is None


@pytest.mark.parametrize("name", ["x-github-event", "x-github-delivery"])
def test_headers_that_are_required(name: str) -> None:
    """A delivery without its name or its id is none of GitHub's."""
    headers = signed(BODY)
    del headers[name]
    with pytest.raises(BadPayload, match="X-GitHub-Event and X-GitHub-Delivery"):
        parse(headers, BODY, [SECRET])


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded; charset=utf-8"]
)
def test_form(kind: str) -> None:
    """A form holds the JSON in `payload`, the signature being over the form; an App's hook sends it by default."""
    payload = a_payload(name="a+b & ü=%")
    body = b"payload=" + quote_plus(json.dumps(payload, ensure_ascii=False)).encode()
    delivery = parse(signed(body) | {"content-type": kind}, body, [SECRET])
    assert delivery.job is not None
    assert delivery.job.name == "a+b & ü=%"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"payload=", id="an empty field"),
        pytest.param(b"other=%7B%7D", id="another field"),
        pytest.param(b"payload", id="no value"),
        pytest.param(b"payload=%7B", id="half a JSON"),
        pytest.param(b"payload=%5B%5D", id="a list"),
        pytest.param(b"payload=%FF", id="not UTF-8 within"),
        pytest.param(b"\xff=1", id="not UTF-8"),
        pytest.param(b"&".join([b"a=1"] * 11), id="too many fields"),
        pytest.param(BODY, id="JSON that calls itself a form"),
    ],
)
def test_bad_forms(body: bytes) -> None:
    """A form without the JSON in it is a bad payload."""
    with pytest.raises(BadPayload):
        parse(signed(body) | {"content-type": "application/x-www-form-urlencoded"}, body, [SECRET])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe\xfd", id="not text"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="deep nesting that closes"),
        pytest.param(b'{"id": ' + b"9" * 5000 + b"}", id="a number of five thousand digits"),
        pytest.param(b"payload=%7B%7D", id="a form that calls itself JSON"),
    ],
)
def test_bad_json(body: bytes) -> None:
    """A signed body that is no JSON object is a bad payload."""
    with pytest.raises(BadPayload):
        parse(signed(body), body, [SECRET])


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({}, id="an empty object"),
        pytest.param(a_payload() | {"workflow_job": None}, id="a job that is null, as has been seen"),
        pytest.param(a_payload() | {"workflow_job": [1]}, id="a job that is a list"),
        pytest.param(a_payload() | {"repository": None}, id="no repository"),
        pytest.param(a_payload(action="renamed"), id="an action of tomorrow"),
        pytest.param(a_payload(action=None), id="no action"),
        pytest.param(a_payload(action=["queued"]), id="an action that is a list"),
        pytest.param(a_payload(id=None), id="no id"),
        pytest.param(a_payload(id="5"), id="an id as text"),
        pytest.param(a_payload(id=True), id="an id that is a switch"),
        pytest.param(a_payload(id=-1), id="an id below zero"),
        pytest.param(a_payload(id=1.5), id="an id with a fraction"),
        pytest.param(a_payload(id=2**63), id="an id that no database holds"),
        pytest.param(a_payload(repository={"full_name": "acme"}), id="a repository without its owner"),
        pytest.param(a_payload(repository={"full_name": "../../etc"}), id="a path for a name"),
        pytest.param(a_payload(repository={"full_name": "acme/app\n"}), id="a line feed in the name"),
        pytest.param(a_payload(repository={"full_name": 7}), id="a number for a name"),
        pytest.param(a_payload(repository={"name": "app"}), id="no full name"),
    ],
)
def test_not_for_us(payload: object) -> None:
    """What is signed and says nothing of a job is acknowledged: an error would be redelivered for days."""
    assert delivered(payload).job is None


def test_largest_id() -> None:
    """The largest number the database holds is an id."""
    assert the_job(a_payload(id=2**63 - 1)).id == 2**63 - 1


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        pytest.param({"status": "pending"}, {"status": J.WAITING}, id="held by a concurrency group"),
        pytest.param({"status": "requested"}, {"status": J.WAITING}, id="requested"),
        pytest.param({"status": "tomorrow"}, {"status": J.WAITING}, id="a status of tomorrow is no demand"),
        pytest.param({"status": None}, {"status": J.WAITING}, id="no status is no demand"),
        pytest.param({"status": 5}, {"status": J.WAITING}, id="a number for a status is no demand"),
        pytest.param(
            {"conclusion": "startup_failure"}, {"conclusion": "startup_failure"}, id="any conclusion"
        ),
        pytest.param({"runner_name": None, "runner_id": None}, {"runner": None}, id="no runner: null"),
        pytest.param({"runner_name": "", "runner_id": 0}, {"runner": None}, id="no runner: empty"),
        pytest.param({"runner_name": 0}, {"runner": None}, id="no runner: zero"),
        pytest.param({"runner_name": "mini-mac-a"}, {"runner": "mini-mac-a"}, id="a runner"),
        pytest.param({"run_id": 10**30}, {"run_id": 0}, id="a run id that no database holds"),
        pytest.param({"run_attempt": "2"}, {"run_attempt": 1}, id="an attempt as text"),
        pytest.param({"run_attempt": 3}, {"run_attempt": 3}, id="a third attempt"),
        pytest.param({"name": "a\0b"}, {"name": "a b"}, id="a NUL in a name"),
        pytest.param({"name": "a\ud800b"}, {"name": "a?b"}, id="half a surrogate pair in a name"),
        pytest.param({"name": "🍏" * 2000}, {"name": "🍏" * 1000}, id="an endless name"),
        pytest.param({"name": {"a": 1}}, {"name": ""}, id="an object for a name"),
        pytest.param({"labels": None}, {"labels": ()}, id="labels that are null"),
        pytest.param({"labels": "mac"}, {"labels": ()}, id="labels that are text"),
        pytest.param(
            {"labels": ["Mac OS=1", 7, None, ""]}, {"labels": ("Mac OS=1",)}, id="labels of all sorts"
        ),
        pytest.param(
            {"labels": ["x"] * 500}, {"labels": ("x",) * 100}, id="more labels than a runner may have"
        ),
        pytest.param({"created_at": "yesterday"}, {"queued_at": None}, id="a time in words"),
        pytest.param({"created_at": 5}, {"queued_at": None}, id="a time as a number"),
        pytest.param({"created_at": "0001-01-01T00:00:00+14:00"}, {"queued_at": None}, id="before all time"),
        pytest.param(
            {"created_at": "2026-03-01T14:00:00+02:00"},
            {"queued_at": at("2026-03-01T12:00:00")},
            id="elsewhere",
        ),
        pytest.param(
            {"created_at": "2026-03-01T12:00:00"}, {"queued_at": at("2026-03-01T12:00:00")}, id="a naive time"
        ),
        pytest.param(
            {"completed_at": "2026-03-01T12:00:00.250Z"},
            {"completed_at": at("2026-03-01T12:00:00") + timedelta(milliseconds=250)},
            id="milliseconds",
        ),
        pytest.param(
            {"started_at": "2026-03-01T12:00:00Z"},
            {"queued_at": at("2026-03-01T12:00:00")},
            id="no created_at",
        ),
    ],
)
def test_fields(change: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Each field is read for what it is worth, and one that makes no sense costs nothing but itself."""
    job = the_job(a_payload(**change))
    assert {name: getattr(job, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("repository", "wanted"),
    [
        pytest.param({"owner": {"type": "User"}}, {"organization": False}, id="of a person"),
        pytest.param({"owner": None}, {"organization": False}, id="of nobody"),
        pytest.param({"private": False}, {"private": False}, id="public"),
        pytest.param({}, {"private": True}, id="not said: private"),
        pytest.param({"private": "false"}, {"private": True}, id="said in text: private"),
        pytest.param({"id": "x"}, {"repository_id": 0}, id="no id"),
    ],
)
def test_repositories(repository: dict[str, Any], wanted: dict[str, Any]) -> None:
    """What is not said of a repository is taken to be the more careful of the two."""
    job = the_job(a_payload(repository={"full_name": "acme/app"} | repository))
    assert {name: getattr(job, name) for name in wanted} == wanted


OPTIONAL = sorted(
    set(json.loads((SAMPLES / "workflow_job.completed.success.json").read_text())["workflow_job"]) - {"id"}
)


@pytest.mark.parametrize("key", OPTIONAL)
def test_missing_keys(key: str) -> None:
    """Any one key of a real job but its id may be missing."""
    payload = json.loads((SAMPLES / "workflow_job.completed.success.json").read_text())
    del payload["workflow_job"][key]
    assert the_job(payload).id == 289782451


def test_rest_answers_are_read_alike() -> None:
    """The job object of the REST API is the same, and read by the same code."""
    payload = a_payload(status="in_progress", runner_name="mini-mac-a")
    job = job_event(payload["workflow_job"], payload["repository"])
    assert job == the_job(payload)


def test_secrets_stay_out_of_errors() -> None:
    """No refusal shows the secret, the right signature or the body."""
    for headers, body in (({}, BODY), (signed(BODY, secret="x"), BODY), (signed(b"[]"), b"[]")):
        with pytest.raises((BadSignature, BadPayload)) as refused:
            parse(headers, body, [SECRET])
        assert SECRET not in str(refused.value)
        assert RIGHT not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)

KEYS = [
    "run_id",
    "run_attempt",
    "name",
    "labels",
    "status",
    "runner_name",
    "created_at",
    "completed_at",
]

PAYLOAD = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["queued", "waiting", "in_progress", "completed"]) | JSON,
        "workflow_job": st.fixed_dictionaries(
            {"id": st.integers(-1, 2**64) | JSON}, optional=dict.fromkeys(KEYS, JSON)
        )
        | JSON,
        "repository": JSON | st.just({"full_name": "acme/app"}),
    }
)

BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | PAYLOAD.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=150, deadline=None)
@given(body=BODIES, form=st.booleans())
def test_no_body_breaks_it(body: bytes, form: bool) -> None:
    """Whatever a signed body holds, the answer is a delivery or BadPayload, and what is read can be stored."""
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    try:
        delivery = parse(signed(body) | {"content-type": kind}, body, [SECRET])
    except BadPayload:
        return
    if delivery.job is not None:
        assert 0 <= delivery.job.id < 2**63
        delivery.job.name.encode()
        "".join(delivery.job.labels).encode()


HEADERS = st.dictionaries(
    st.sampled_from(["x-hub-signature-256", "x-github-event", "x-github-delivery", "content-type"]),
    st.text(max_size=80) | st.from_regex(r"sha256=[0-9a-f]{64}", fullmatch=True),
)


@settings(max_examples=40, deadline=None)
@given(headers=HEADERS, body=st.binary(max_size=100))
def test_no_headers_break_it(headers: Mapping[str, str], body: bytes) -> None:
    """Whatever stands in the headers, what is not signed by us is a BadSignature."""
    with pytest.raises(BadSignature):
        parse(headers, body, [SECRET])
