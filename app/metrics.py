"""What is counted, under which names; docs/metrics.md lists them for people.

One registry for each application, so that two in one process (tests) never mix. Gauges that describe the present
are read off the World when asked, so that they cannot drift.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.domain.jobs import Job
from app.domain.pools import host_of
from app.domain.runners import Runner, RunnerState
from app.domain.versions import time_left
from app.domain.world import HostState, World
from app.ports import OutsideError

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 900, 3600)
MOST_HOSTS = 200  # that have samples of their own, by name: the others are not shown
MILLISECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The service's counters and histograms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_for_the_outside(self.registry)
        self._make_for_the_loop(self.registry)

    def _make_for_the_outside(self, registry: CollectorRegistry) -> None:
        """Make those of what comes from GitHub and what is told to others."""
        self.webhooks = Counter(
            "cidermill_webhooks",
            "Webhook deliveries, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.webhook_seconds = Histogram(
            "cidermill_webhook_seconds",
            "Time to verify, store and answer a webhook delivery.",
            buckets=MILLISECONDS,
            registry=registry,
        )
        self.github_calls = Counter(
            "cidermill_github_calls", "Calls to GitHub's API.", ["call", "outcome"], registry=registry
        )
        self.github_seconds = Histogram(
            "cidermill_github_call_seconds", "Time of calls to GitHub's API.", ["call"], registry=registry
        )
        self.github_quota = Gauge(
            "cidermill_github_quota_remaining",
            "Requests that GitHub's rate limit leaves, as its last answer told.",
            ["installation", "resource"],
            registry=registry,
        )
        self.recovered = Counter(
            "cidermill_deliveries_recovered",
            "Webhooks that failed to arrive and were fetched from GitHub's delivery log.",
            registry=registry,
        )
        self.found = Counter(
            "cidermill_jobs_found",
            "Jobs that no webhook had told of and that were found by asking GitHub.",
            registry=registry,
        )
        self.notifications = Counter(
            "cidermill_notifications",
            "Messages for notify_url, by what became of them.",
            ["event", "outcome"],
            registry=registry,
        )

    def _make_for_the_loop(self, registry: CollectorRegistry) -> None:
        """Make those of runners, jobs and passes."""
        self.stage_seconds = Histogram(
            "cidermill_stage_seconds",
            "Time a runner spent in a state before it left it.",
            ["pool", "state"],
            buckets=SECONDS,
            registry=registry,
        )
        self.runners_ended = Counter(
            "cidermill_runners_ended", "Runners that ended, by reason.", ["pool", "reason"], registry=registry
        )
        self.queue_seconds = Histogram(
            "cidermill_job_queue_seconds",
            "Time from queued at GitHub to picked up by one of our runners.",
            ["pool", "start"],
            buckets=SECONDS,
            registry=registry,
        )
        self.way_seconds = Histogram(
            "cidermill_job_way_seconds",
            "Time that jobs spent on their way to a runner before they reached a stage, since the one before.",
            ["pool", "start", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.timed_out = Counter(
            "cidermill_jobs_timed_out",
            "Jobs that are being ended because they ran longer than the pool's job_timeout.",
            ["pool"],
            registry=registry,
        )
        self.preparations = Counter(
            "cidermill_preparations",
            "Bases that were prepared, or were not: ok, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.pulls = Counter(
            "cidermill_image_pulls",
            "Images that Macs of a fleet were had fetch beforehand, or were not: ok, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.starts = Counter(
            "cidermill_starts",
            "VMs that came up, by how: cold (booted) or snapshot (resumed).",
            ["pool", "start"],
            registry=registry,
        )
        self.goldens = Counter(
            "cidermill_goldens",
            "Suspended VMs that were made for snapshot starts, or were not: ok, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.failures = Counter(
            "cidermill_failures",
            "Failures, by what waits for them: a scope of launches, or nothing (again).",
            ["scope", "reason"],
            registry=registry,
        )
        self.actions = Counter(
            "cidermill_actions", "Actions carried out.", ["action", "outcome"], registry=registry
        )
        self.pass_seconds = Histogram(
            "cidermill_pass_seconds", "Time of one pass.", buckets=MILLISECONDS, registry=registry
        )
        self.passes_failed = Counter(
            "cidermill_passes_failed", "Passes that ended with a bug of ours.", registry=registry
        )

    @contextmanager
    def github_call(self, call: str) -> Iterator[None]:
        """Count and time a call to GitHub by its outcome: ok, or the code of the error it raises."""
        outcome = "interrupted"
        try:
            with self.github_seconds.labels(call).time():
                yield
            outcome = "ok"
        except OutsideError as error:
            outcome = error.code
            raise
        finally:
            self.github_calls.labels(call, outcome).inc()

    def transition(self, before: Runner | None, after: Runner) -> None:
        """Count a runner's change of state, and how long the state before lasted; a preparation is no runner's life."""
        if not after.serves_jobs:
            return
        if before is not None:
            span = (after.since - before.since).total_seconds()
            self.stage_seconds.labels(after.pool, before.state).observe(max(0.0, span))
        if after.reason == "job_timeout" and after.state is RunnerState.STOPPING:
            self.timed_out.labels(after.pool).inc()
        if after.state is RunnerState.GONE:
            self.runners_ended.labels(after.pool, after.reason).inc()

    def picked_up(self, job: Job, start: str, way: Iterable[tuple[str, float]]) -> None:
        """Count how long a job waited before one of our runners took it, in all and for each stage on its way."""
        if job.started_at is None or job.pool is None:
            return
        waited = (job.started_at - job.queued_at).total_seconds()
        self.queue_seconds.labels(job.pool, start).observe(max(0.0, waited))
        for stage, seconds in way:
            self.way_seconds.labels(job.pool, start, stage).observe(max(0.0, seconds))

    def expose(self) -> bytes:
        """Return everything as Prometheus text."""
        return generate_latest(self.registry)


class WorldCollector(Collector):
    """Reads the gauges off the last World."""

    def __init__(self, world: Callable[[], World | None], clock: Callable[[], datetime]) -> None:
        self._world, self._clock = world, clock

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; none before the first pass."""
        world = self._world()
        if world is None:
            return
        slots = GaugeMetricFamily(
            "cidermill_slots", "Slots configured, and in use by state.", labels=["state"]
        )
        states = [runner.state for runner in world.live if runner.serves_jobs]
        slots.add_metric(["free"], len(world.open_slots))
        slots.add_metric(["preparing"], len(world.live) - len(states))
        for state in RunnerState:
            if state is not RunnerState.GONE:
                slots.add_metric([state], states.count(state))
        yield slots
        queued = GaugeMetricFamily("cidermill_jobs_queued", "Jobs that wait for a runner.", labels=["pool"])
        for pool in world.pools:
            queued.add_metric([pool.name], sum(d.count for d in world.demand if d.pool == pool.name))
        yield queued
        oldest = min((demand.oldest for demand in world.demand), default=None)
        waited = (self._clock() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily(
            "cidermill_oldest_job_seconds", "How long the oldest unserved job has waited.", value=waited
        )
        yield GaugeMetricFamily(
            "cidermill_draining", "Whether nothing new starts.", value=float(world.draining)
        )
        days_left = GaugeMetricFamily(
            "cidermill_runner_days_left",
            "Days until GitHub gives no more jobs to the actions runner in a pool's image, where it is outdated.",
            labels=["pool"],
        )
        for pool_name, left in time_left(world, self._clock()).items():
            days_left.add_metric([pool_name], left / timedelta(days=1))
        yield days_left
        yield GaugeMetricFamily(
            "cidermill_registrations_owed",
            "Registrations of ended runners that GitHub has not given up yet.",
            value=float(sum(runner.is_owed for runner in world.runners)),
        )
        yield from _of_hosts(world, self._clock())


def _of_hosts(world: World, now: datetime) -> Iterator[Metric]:
    """Yield the gauges of each Mac of several; none where there is but one, which has no name.

    Those of a Mac that is not listed any more end with it.
    """
    slots = GaugeMetricFamily(
        "cidermill_host_slots",
        "Slots of a Mac, those of ours in use and those that nothing of ours holds.",
        labels=["host", "state"],
    )
    states = GaugeMetricFamily(
        "cidermill_host_state", "1 for the state that a Mac is in.", labels=["host", "state"]
    )
    silence = GaugeMetricFamily(
        "cidermill_host_silence_seconds", "How long ago a Mac was last heard of.", labels=["host"]
    )
    used = Count(host_of(runner.slot) for runner in world.live)
    hosts = sorted(world.host.hosts if world.host else (), key=lambda host: host.name)
    for host in [host for host in hosts if host.name][:MOST_HOSTS]:
        slots.add_metric([host.name, "used"], used[host.name])
        slots.add_metric([host.name, "free"], max(0, len(host.slots) - used[host.name]))
        for state in HostState:
            states.add_metric([host.name, state], float(host.state is state))
        if host.seen_at is not None:
            silence.add_metric([host.name], max(0.0, (now - host.seen_at).total_seconds()))
    yield from (slots, states, silence)
