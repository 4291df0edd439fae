"""Metrics: counted once, where it happened, and gauges read off the world."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from app.domain.jobs import JobStatus
from app.domain.pools import MACOS_VM
from app.domain.runners import RunnerState
from app.domain.world import Host, HostState, World
from app.metrics import MOST_HOSTS, Metrics, WorldCollector
from tests.builders import NOW, TARGET, a_demand, a_head, a_host, a_job, a_runner, a_world, ago
from tests.conftest import Clock

S = RunnerState


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample exposed, by name and labels."""
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def with_world(world: World | None, clock: Clock) -> Metrics:
    metrics = Metrics()
    metrics.registry.register(WorldCollector(lambda: world, clock))
    return metrics


def test_two_do_not_mix() -> None:
    """Each application counts for itself."""
    one, other = Metrics(), Metrics()
    one.webhooks.labels("recorded").inc()
    assert value(one, "cidermill_webhooks_total", outcome="recorded") == 1
    assert value(other, "cidermill_webhooks_total", outcome="recorded") is None


def test_time_in_a_state() -> None:
    """Leaving a state counts how long it lasted, under the state that was left."""
    metrics = Metrics()
    before, after = a_runner(S.BOOTING, since=ago(seconds=12)), a_runner(S.READY, since=NOW)
    metrics.transition(before, after)
    assert value(metrics, "cidermill_stage_seconds_count", pool="mac", state="booting") == 1
    assert value(metrics, "cidermill_stage_seconds_sum", pool="mac", state="booting") == 12
    assert value(metrics, "cidermill_stage_seconds_count", pool="mac", state="ready") is None


def test_first_state() -> None:
    """A runner that begins leaves nothing: no time is counted."""
    metrics = Metrics()
    metrics.transition(None, a_runner(S.CLAIMED))
    assert value(metrics, "cidermill_stage_seconds_count", pool="mac", state="claimed") is None


def test_clock_set_back() -> None:
    """A clock that was set back makes a stage of no length, never a negative one."""
    metrics = Metrics()
    metrics.transition(a_runner(S.BOOTING, since=NOW + timedelta(hours=1)), a_runner(S.READY, since=NOW))
    assert value(metrics, "cidermill_stage_seconds_sum", pool="mac", state="booting") == 0


def test_ends_by_reason() -> None:
    """A runner that is gone is counted by the reason it ended for."""
    metrics = Metrics()
    metrics.transition(a_runner(S.STOPPING), a_runner(S.GONE, reason="job_done"))
    assert value(metrics, "cidermill_runners_ended_total", pool="mac", reason="job_done") == 1


def test_queue_time() -> None:
    """The wait from queued to picked up is counted for jobs of a pool that did start."""
    metrics = Metrics()
    early = a_job(JobStatus.IN_PROGRESS, queued_at=ago(seconds=1), started_at=ago(seconds=2))
    metrics.picked_up(
        a_job(JobStatus.IN_PROGRESS, queued_at=ago(seconds=40), started_at=ago(seconds=10)),
        "cold",
        [("received", 1.5), ("slot", -0.5)],
    )
    metrics.picked_up(early, "cold", [])
    metrics.picked_up(a_job(started_at=None), "cold", [("received", 1.0)])
    metrics.picked_up(a_job(JobStatus.IN_PROGRESS, started_at=NOW, pool=None), "cold", [])
    assert value(metrics, "cidermill_job_queue_seconds_count", pool="mac", start="cold") == 2
    assert value(metrics, "cidermill_job_queue_seconds_sum", pool="mac", start="cold") == 30
    way = {"pool": "mac", "start": "cold"}
    assert value(metrics, "cidermill_job_way_seconds_sum", **way, stage="received") == 1.5
    assert value(metrics, "cidermill_job_way_seconds_sum", **way, stage="slot") == 0


def test_no_gauges_before_the_first_pass(clock: Clock) -> None:
    """Before anything was seen nothing is claimed about it."""
    metrics = with_world(None, clock)
    assert not any(name.startswith("cidermill_slots") for name, _ in samples(metrics))


def test_gauges(clock: Clock) -> None:
    """The gauges say what the last pass saw: slots by state, the line, draining, and debts."""
    owed = a_runner(S.GONE, name="mini-mac-bbbbbbbb", target=TARGET)
    world = a_world(
        runners=(a_runner(S.BOOTING), owed),
        demand=(
            a_demand(3, heads=(a_head(queued_at=ago(seconds=90)),)),
            a_demand(2, repository="acme/lib", heads=(a_head(queued_at=ago(seconds=300)),)),
        ),
        draining=True,
    )
    metrics = with_world(world, clock)
    assert value(metrics, "cidermill_slots", state="free") == 1
    assert value(metrics, "cidermill_slots", state="booting") == 1
    assert value(metrics, "cidermill_slots", state="busy") == 0
    assert value(metrics, "cidermill_jobs_queued", pool="mac") == 5
    assert value(metrics, "cidermill_oldest_job_seconds") == 300
    assert value(metrics, "cidermill_draining") == 1
    assert value(metrics, "cidermill_registrations_owed") == 1


def test_gauges_of_a_fleet(clock: Clock) -> None:
    """Each Mac of several has its slots, its state and how long it was not heard of; the one we are on has none."""
    room = {MACOS_VM: 2}
    hosts = (
        Host(name="mini1", room=room, seen_at=ago(seconds=5)),
        Host(name="mini2", room=room, state=HostState.PAUSED, closed="it is paused"),
    )
    world = a_world(host=a_host(hosts=hosts), runners=(a_runner(S.BUSY, slot="mini1/2"),))
    metrics = with_world(world, clock)
    for host, used, free, state in (("mini1", 1, 1, "open"), ("mini2", 0, 2, "paused")):
        assert value(metrics, "cidermill_host_slots", host=host, state="used") == used
        assert value(metrics, "cidermill_host_slots", host=host, state="free") == free
        for one in HostState:
            assert value(metrics, "cidermill_host_state", host=host, state=one) == (one == state)
    assert value(metrics, "cidermill_host_silence_seconds", host="mini1") == 5
    assert value(metrics, "cidermill_host_silence_seconds", host="mini2") is None
    assert not any(name.startswith("cidermill_host") for name, _ in samples(with_world(a_world(), clock)))


def test_gauges_of_a_large_fleet(clock: Clock) -> None:
    """However many Macs there are, only so many have samples of their own."""
    hosts = tuple(Host(name=f"mini{n:04}", room={MACOS_VM: 2}) for n in range(MOST_HOSTS + 50))
    metrics = with_world(a_world(host=a_host(hosts=hosts)), clock)
    shown = {dict(labels)["host"] for name, labels in samples(metrics) if name == "cidermill_host_slots"}
    assert len(shown) == MOST_HOSTS


def test_gauges_with_nothing_to_do(clock: Clock) -> None:
    """Without demand the gauges are there, and zero: absence would look like an outage."""
    metrics = with_world(a_world(), clock)
    assert value(metrics, "cidermill_slots", state="free") == 2
    assert value(metrics, "cidermill_jobs_queued", pool="mac") == 0
    assert value(metrics, "cidermill_oldest_job_seconds") == 0
