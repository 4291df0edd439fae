"""The sandbox's GitHub: who gets which job, and how runners and jobs end."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import timedelta

import pytest

from app.domain.pools import Target
from app.sandbox.github_jit import BadBlob
from app.sandbox.github_runners import SessionRefused
from app.sandbox.github_values import ApiError
from tests.conftest import Clock
from tests.sandbox.github_world import ACME, APP, LABELS, a_blob, a_github, connected, running


@pytest.mark.parametrize(
    ("repository", "target", "labels", "given"),
    [
        pytest.param(
            "acme/app", ACME, LABELS, True, id="an organization's runner serves a private repository"
        ),
        pytest.param("acme/app", APP, LABELS, True, id="a repository's runner serves it"),
        pytest.param("acme/site", ACME, LABELS, False, id="the default group admits no public repository"),
        pytest.param("acme/site", Target("acme", "site"), LABELS, True, id="but its own runner does"),
        pytest.param("ada/tool", ACME, LABELS, False, id="another owner's jobs are none of its business"),
        pytest.param("acme/app", Target("ada", "tool"), LABELS, False, id="nor another repository's"),
        pytest.param("acme/app", ACME, ("SELF-HOSTED", "macos", "more"), True, id="a superset, in any case"),
        pytest.param("acme/app", ACME, ("self-hosted",), False, id="a label is missing"),
    ],
)
def test_matching(
    clock: Clock, repository: str, target: Target, labels: tuple[str, ...], given: bool
) -> None:
    """A job goes to a runner of its target whose labels suffice and whose group admits the repository."""
    model = a_github(clock)
    model.queue(repository, labels=LABELS)
    session = connected(model, target=target, labels=labels)
    assert (model.runners.next_job(session) is not None) is given


def test_a_job_that_names_a_group_waits_for_that_group(clock: Clock) -> None:
    """A job without labels runs only where its group is, and one with neither nowhere."""
    model = a_github(clock)
    group = model.accounts.add_group("acme", "macs")
    wanted, nothing = (model.queue("acme/app", labels=(), group=g) for g in ("macs", None))
    _, blob = model.runners.mint(ACME, name="a", labels=("x",), group_id=group.id)
    assert model.runners.next_job(model.runners.connect(blob)) is wanted
    assert nothing.runner is None
    assert model.runners.next_job(connected(model, "b")) is None


def test_a_selected_group_admits_only_its_repositories(clock: Clock) -> None:
    """A group with visibility *selected* and the public flag admits a public repository on its list, no other."""
    model = a_github(clock)
    site = model.accounts.repository("acme/site")
    model.accounts.add_group("acme", "few", visibility="selected", allows_public=True, repositories=[site])
    model.queue("acme/app", labels=LABELS)
    job = model.queue("acme/site", labels=LABELS)
    _, blob = model.runners.mint(ACME, name="a", labels=LABELS, group_id=2)
    assert model.runners.next_job(model.runners.connect(blob)) is job


def test_jobs_are_stolen(clock: Clock) -> None:
    """Whatever a runner was booted for, it may get any fitting job: over many seeds each of them."""
    drawn: Counter[str] = Counter()
    for seed in range(30):
        model = a_github(clock, seed)
        for name in ("a", "b", "c"):
            model.queue("acme/app", name, labels=LABELS)
        job = model.runners.next_job(connected(model))
        drawn[job.name if job else "none"] += 1
    assert set(drawn) == {"a", "b", "c"}


def test_a_life(clock: Clock) -> None:
    """A runner is offline and unknown, then online, then busy; with its job its registration ends."""
    model = a_github(clock)
    runner, blob = model.runners.mint(ACME, name="mini-1", labels=LABELS, group_id=1)
    assert (runner.online, runner.os, runner.version) == (False, "unknown", None)
    session = model.runners.connect(blob, version="2.337.0")
    assert (runner.online, runner.os, runner.version, runner.busy) == (True, "macOS", "2.337.0", False)
    job = model.queue("acme/app", labels=LABELS)
    assert runner.busy
    assert job.status == "queued"
    model.runners.start(session)
    assert (job.status, job.runner_name) == ("in_progress", "mini-1")
    model.runners.finish(session, log="hello")
    assert (job.status, job.conclusion, job.log) == ("completed", "success", "hello")
    assert model.runners.at(ACME) == []
    with pytest.raises(SessionRefused, match="deleted"):
        model.runners.connect(blob)


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        pytest.param({"name": "MINI-1"}, 409, "Already exists", id="the name is taken, in another case"),
        pytest.param({"name": ""}, 422, "name", id="no name"),
        pytest.param({"name": "x" * 65}, 422, "64", id="a name that is too long"),
        pytest.param({"labels": ()}, 422, "labels", id="no labels"),
        pytest.param({"labels": ("x",) * 101}, 422, "100", id="too many labels"),
        pytest.param({"labels": ("x" * 257,)}, 422, "256", id="a label that is too long"),
        pytest.param({"group_id": 9}, 404, "Not Found", id="no such group"),
        pytest.param(
            {"target": Target("acme", "app"), "group_id": 2}, 422, "group", id="a repository has no groups"
        ),
        pytest.param({"target": Target("acme", "nope")}, 404, "Not Found", id="no such repository"),
        pytest.param({"target": Target("ada")}, 404, "Not Found", id="a user is no organization"),
    ],
)
def test_a_mint_is_refused(clock: Clock, changes: dict[str, object], status: int, text: str) -> None:
    """What GitHub would not register answers with its status, and registers nothing."""
    model = a_github(clock)
    a_blob(model, "mini-1")
    arguments = {"target": ACME, "name": "mini-2", "labels": LABELS, "group_id": 1} | changes
    target = arguments.pop("target")
    with pytest.raises(ApiError, match=text) as caught:
        model.runners.mint(target, **arguments)  # type: ignore[arg-type]
    assert caught.value.status == status
    assert len(model.runners.registrations) == 1


def test_a_full_group_and_a_policy_refuse(clock: Clock) -> None:
    """A group at its limit answers 422, an organization that forbids repository runners 403."""
    model = a_github(clock)
    model.accounts.group("acme", 1).limit = 0
    with pytest.raises(ApiError, match="max limit of 0") as full:
        a_blob(model)
    model.accounts.account("acme").repository_runners = False
    with pytest.raises(ApiError, match="disabled") as forbidden:
        a_blob(model, target=APP)
    assert (full.value.status, forbidden.value.status) == (422, 403)


def test_the_blob_is_shaped_as_github_s(clock: Clock) -> None:
    """Base64 of JSON of base64: three files, a private key of its own in each, and the model remembers it."""
    model = a_github(clock)
    model.runners.service_url = "http://127.0.0.1:1/_runner"
    blobs = [a_blob(model, name) for name in ("a", "b")]
    files = [
        {
            name: json.loads(base64.b64decode(text))
            for name, text in json.loads(base64.b64decode(blob)).items()
        }
        for blob in blobs
    ]
    assert [set(f) for f in files] == [{".runner", ".credentials", ".credentials_rsaparams"}] * 2
    assert files[0][".runner"]["AgentName"] == "a"
    assert files[0][".runner"]["ServerUrl"] == "http://127.0.0.1:1/_runner"
    assert files[0][".runner"]["Ephemeral"] == "True"
    assert files[0][".credentials"]["Scheme"] == "OAuth"
    keys = [f[".credentials_rsaparams"]["d"] for f in files]
    assert len(set(keys)) == 2
    assert {*keys, *blobs, model.accounts.app.pem, model.app_hook.secret} <= set(model.secrets())
    with pytest.raises(BadBlob):
        model.runners.connect("bm9uc2Vuc2U=")


def test_deregistering_answers_what_the_runner_does(clock: Clock) -> None:
    """Idle: removed. With a job, assigned or running: 422. Gone: 404. A removed runner's listener is told."""
    model = a_github(clock)
    idle = connected(model, "idle", labels=("other",))
    model.runners.deregister(ACME, idle.registration.id)
    with pytest.raises(SessionRefused):
        model.runners.next_job(idle)
    session, _ = running(model)
    with pytest.raises(ApiError, match="running a job") as busy:
        model.runners.deregister(ACME, session.registration.id)
    with pytest.raises(ApiError) as gone:
        model.runners.deregister(ACME, idle.registration.id)
    assert (busy.value.status, gone.value.status) == (422, 404)


def test_an_assignment_that_is_not_taken_up_goes_back(clock: Clock) -> None:
    """After 60 s the job waits again, for another runner too; the third time it is cancelled."""
    model = a_github(clock)
    job = model.queue("acme/app", labels=LABELS)
    dead = connected(model)
    assert job.runner is dead.registration
    model.runners.disconnect(dead)
    clock.pass_(seconds=61)
    model.tick()
    assert job.runner is None
    assert (job.status, job.misses) == ("queued", 1)
    for name in ("x", "y"):
        model.runners.disconnect(connected(model, name))
        clock.pass_(seconds=61)
        model.tick()
    assert (job.status, job.conclusion) == ("completed", "cancelled")


def test_a_queued_job_expires_after_a_day(clock: Clock) -> None:
    """24 hours in the queue end a job."""
    model = a_github(clock)
    job = model.queue("acme/app", labels=LABELS)
    clock.pass_(hours=23, minutes=59)
    model.tick()
    assert job.status == "queued"
    clock.pass_(minutes=1)
    model.tick()
    assert (job.status, job.conclusion) == ("completed", "cancelled")


def test_the_reaper_takes_runners_that_stay_offline(clock: Clock) -> None:
    """A registration nobody connected with is gone after a day; one that is online is not."""
    model = a_github(clock)
    a_blob(model, "never")
    connected(model, "online")
    clock.pass_(days=1)
    model.tick()
    assert [runner.name for runner in model.runners.at(ACME)] == ["online"]


def test_a_dead_runner_is_busy_until_its_lock_expires(clock: Clock) -> None:
    """The VM died under a job: offline and busy for ten minutes, then the job fails and the runner is gone."""
    model = a_github(clock)
    session, job = running(model)
    model.runners.disconnect(session)
    assert (session.registration.online, session.registration.busy) == (False, True)
    clock.pass_(minutes=10)
    model.tick()
    assert (job.status, job.conclusion) == ("completed", "failure")
    assert model.runners.at(ACME) == []


def test_a_session_that_falls_silent_is_offline(clock: Clock) -> None:
    """A session that sends heartbeats is lost a minute after the last one."""
    model = a_github(clock)
    session = model.runners.connect(a_blob(model), heartbeats=True)
    clock.pass_(seconds=50)
    model.runners.beat(session)
    clock.pass_(seconds=50)
    model.tick()
    assert session.open
    clock.pass_(seconds=11)
    model.tick()
    assert not session.registration.online


@pytest.mark.parametrize(
    ("moment", "conclusion", "runner"),
    [
        pytest.param("queued", "cancelled", None, id="while it waits"),
        pytest.param("assigned", "cancelled", None, id="after it was assigned"),
        pytest.param("running", "cancelled", "mini-1", id="while it runs"),
    ],
)
def test_cancelling(clock: Clock, moment: str, conclusion: str, runner: str | None) -> None:
    """A cancelled job ends as such whenever it comes; before it started it ends without a runner."""
    model = a_github(clock)
    job = model.queue("acme/app", labels=LABELS)
    session = connected(model) if moment != "queued" else None
    if session and moment == "running":
        model.runners.start(session)
    model.cancel(job)
    if session and moment == "running":
        model.runners.finish(session, "success")
    assert (job.status, job.conclusion, job.runner_name) == ("completed", conclusion, runner)
    if session and moment == "assigned":
        assert not session.registration.busy
        with pytest.raises(SessionRefused, match="cancelled"):
            model.runners.start(session)


def test_a_runner_that_ignores_a_cancellation_loses_its_job(clock: Clock) -> None:
    """Five minutes after the request the job is cancelled, whatever its runner does."""
    model = a_github(clock)
    _, job = running(model)
    model.cancel(job)
    assert job.status == "in_progress"
    clock.pass_(minutes=5)
    model.tick()
    assert (job.status, job.conclusion) == ("completed", "cancelled")


def test_refused_sessions(clock: Clock) -> None:
    """A second session conflicts, an old version is refused, and an injected refusal is met once."""
    model = a_github(clock)
    blob = a_blob(model)
    model.runners.refusals.append(
        SessionRefused("version_deprecated", "Runner version v2.300.0 is deprecated.")
    )
    with pytest.raises(SessionRefused) as injected:
        model.runners.connect(blob)
    with pytest.raises(SessionRefused) as old:
        model.runners.connect(blob, version="2.328.9")
    model.runners.connect(blob)
    with pytest.raises(SessionRefused) as second:
        model.runners.connect(blob)
    codes = [caught.value.code for caught in (injected, old, second)]
    assert codes == ["version_deprecated", "version_deprecated", "session_conflict"]


def test_a_ghost_listens_for_ever(clock: Clock) -> None:
    """A ghost's registration is gone, it gets no job, and nothing tells it."""
    model = a_github(clock)
    model.runners.ghosts = 1
    ghost = connected(model)
    model.queue("acme/app", labels=LABELS)
    assert model.runners.at(ACME) == []
    assert model.runners.next_job(ghost) is None
    assert ghost.open


def test_an_idle_runner_can_be_dropped(clock: Clock) -> None:
    """With the idle reaper on, a runner without a job loses its registration minutes after it connected."""
    model = a_github(clock)
    model.runners.idle_life = timedelta(minutes=4)
    idle, (busy, _) = connected(model, "idle", labels=("other",)), running(model, "busy")
    clock.pass_(minutes=4)
    model.tick()
    assert model.runners.at(ACME) == [busy.registration]
    with pytest.raises(SessionRefused):
        model.runners.next_job(idle)
