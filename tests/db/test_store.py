"""The store: what is written is whole, and what must not be is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.boot_session import ClockMark
from app.db.database import Database, open_engine
from app.db.migrate import upgrade
from app.db.reader import LINE, LIVE_OR_OWED, JobFilter, Reader, Records
from app.db.store import Delivery, SlotTaken, Store
from app.db.writing import UnknownRunner
from app.domain.jobs import JobStatus, Source
from app.domain.pools import Target
from app.domain.runners import InvalidTransition, Purpose, RunnerState, StopRequest
from tests.builders import NOW, TARGET, a_pool, a_runner, ago, an_event

S, J = RunnerState, JobStatus
NAME = "mini-mac-aaaaaaaa"


def a_delivery(guid: str = "g1") -> Delivery:
    return Delivery(guid=guid, event="workflow_job", action="queued", hook_id="9")


async def records(reader: Reader, denying: str = "[]", heads: int = 2) -> Records:
    return await reader.records(denying=denying, heads=heads)


async def test_a_delivery_counts_once(store: Store, reader: Reader) -> None:
    """The same GUID twice changes nothing the second time, whatever its body says."""
    assert await store.record(a_delivery(), an_event(), at=NOW)
    assert not await store.record(a_delivery(), an_event(J.COMPLETED), at=NOW)
    job = await reader.job(1)
    assert job is not None
    assert (job.status, job.pool) == (J.QUEUED, "mac")


async def test_a_delivery_and_its_effect_are_one(database: Database, store: Store, reader: Reader) -> None:
    """When the job cannot be written the delivery is not recorded either, so that it can come again."""
    with database.engine.begin() as connection:
        connection.execute(
            text("CREATE TRIGGER full BEFORE INSERT ON job BEGIN SELECT RAISE(ABORT, 'full'); END")
        )
    with pytest.raises(IntegrityError, match="full"):
        await store.record(a_delivery(), an_event(), at=NOW)
    with database.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER full"))
    assert await store.record(a_delivery(), an_event(), at=NOW)
    assert await reader.job(1) is not None


async def test_line_counts_and_heads(store: Store, reader: Reader) -> None:
    """Waiting jobs are counted for each pool and repository, with the oldest at the head."""
    for n in range(5):
        await store.record(a_delivery(f"a{n}"), an_event(id=n + 1, queued_at=ago(minutes=n)), at=NOW)
    await store.record(a_delivery("b"), an_event(id=9, repository="acme/lib"), at=NOW)
    await store.record(a_delivery("c"), an_event(id=10, repository="evil/app"), at=NOW)
    await store.record(a_delivery("d"), an_event(J.WAITING, id=11), at=NOW)
    demand = {d.repository: d for d in (await records(reader)).demand}
    assert {name: d.count for name, d in demand.items()} == {"acme/app": 5, "acme/lib": 1}
    assert [head.id for head in demand["acme/app"].heads] == [5, 4]
    assert demand["acme/app"].oldest == ago(minutes=4)


async def test_forks_are_no_demand_where_denied(store: Store, reader: Reader) -> None:
    """A job known to come from a fork is no demand of a pool that denies forks."""
    await store.record(a_delivery(), an_event(), at=NOW)
    await store.observe(an_event(source=Source.LOOK), at=NOW, fork=True)
    assert (await records(reader, '["mac"]')).demand == ()
    assert len((await records(reader)).demand) == 1


async def test_one_live_runner_a_slot(store: Store) -> None:
    """The database itself refuses a second live runner in a slot, and a name used before."""
    await store.claim(a_runner(S.CLAIMED))
    with pytest.raises(SlotTaken):
        await store.claim(a_runner(S.CLAIMED, name="mini-mac-bbbbbbbb"))
    with pytest.raises(SlotTaken):
        await store.claim(a_runner(S.CLAIMED, slot="2"))


async def test_the_slot_is_held_until_gone(store: Store) -> None:
    """Stopping still holds the slot; gone frees it."""
    await store.claim(a_runner(S.CLAIMED))
    await store.advance(NAME, S.STOPPING, at=NOW, reason="x")
    other = a_runner(S.CLAIMED, name="mini-mac-bbbbbbbb")
    with pytest.raises(SlotTaken):
        await store.claim(other)
    await store.advance(NAME, S.GONE, at=NOW, reason="x")
    await store.claim(other)


async def test_every_transition_is_a_row(store: Store, reader: Reader) -> None:
    """History tells the whole life of a runner, with times and reasons."""
    await store.claim(a_runner(S.CLAIMED, reason="job 1 waits"))
    await store.advance(NAME, S.BOOTING, at=NOW, reason="launch")
    await store.advance(NAME, S.STOPPING, at=NOW + timedelta(seconds=1), reason="boot_timeout")
    found = await reader.runner(NAME)
    assert found is not None
    runner, history = found
    assert [(h.from_state, h.to_state, h.reason) for h in history] == [
        (None, S.CLAIMED, "job 1 waits"),
        (S.CLAIMED, S.BOOTING, "launch"),
        (S.BOOTING, S.STOPPING, "boot_timeout"),
    ]
    assert (runner.state, runner.since) == (S.STOPPING, NOW + timedelta(seconds=1))


async def test_an_illegal_transition_writes_nothing(store: Store, reader: Reader) -> None:
    """A refused transition leaves neither a state nor a history row."""
    await store.claim(a_runner(S.CLAIMED))
    with pytest.raises(InvalidTransition):
        await store.advance(NAME, S.BUSY, at=NOW, reason="x")
    found = await reader.runner(NAME)
    assert found is not None
    assert (found[0].state, len(found[1])) == (S.CLAIMED, 1)


async def test_unknown_runner(store: Store) -> None:
    """A name that was never claimed is an error, not a new row."""
    with pytest.raises(UnknownRunner):
        await store.request_stop("nobody", StopRequest.ASK)


async def test_a_runner_reads_back_as_written(store: Store, reader: Reader) -> None:
    """Every field of a runner survives the database, its specification included."""
    runner = a_runner(
        S.BUSY, job_id=4, stop=StopRequest.ASK, image="img@sha256:1", runner_version="2.336.0", target=Target("acme"),
        spec=a_pool(cpu=8, network_allow=("10.0.0.0/8",), max_per_repository=2),
    )  # fmt: skip
    await store.claim(runner)
    assert (await records(reader)).runners == (runner,)


async def test_which_image_was_where(store: Store, reader: Reader) -> None:
    """It is known of every Mac of a fleet when it fetched an image: for its first VM, or when it was last told to."""
    rows = (
        ("a", "mini2/1", Purpose.JOBS, 9),
        ("b", "mini2/2", Purpose.JOBS, 8),
        ("c", "mini3/1", Purpose.JOBS, 7),
        ("d", "mini3/2", Purpose.PULL, 6),
        ("e", "mini4/1", Purpose.JOBS, 5),
        ("f", "1", Purpose.JOBS, 4),
    )
    for letter, slot, purpose, minutes in rows:
        name = f"mini-mac-{letter * 8}"
        created = ago(minutes=minutes)
        await store.claim(a_runner(S.CLAIMED, name=name, slot=slot, created_at=created, purpose=purpose))
        if letter != "e":  # that one never had a VM
            await store.amend(name, image="sequoia@sha256:model")
    assert await reader.images_at() == {
        ("mini2", "sequoia"): ago(minutes=9),
        ("mini3", "sequoia"): ago(minutes=6),
    }


async def test_debts_stay_in_sight(store: Store, reader: Reader) -> None:
    """A runner that is gone stays in the World until its registration is settled."""
    await store.claim(a_runner(S.CLAIMED))
    await store.advance(NAME, S.STOPPING, at=NOW, reason="x", target=TARGET)
    await store.advance(NAME, S.GONE, at=NOW, reason="x")
    assert [runner.is_owed for runner in (await records(reader)).runners] == [True]
    await store.amend(NAME, deregistered=True)
    assert (await records(reader)).runners == ()
    assert await reader.targets() == {TARGET}


async def test_work_and_unsettled(store: Store, reader: Reader) -> None:
    """A job is found by its live runner, and one whose runner is gone is unsettled."""
    await store.claim(a_runner(S.CLAIMED))
    await store.record(a_delivery(), an_event(J.IN_PROGRESS, runner=NAME), at=NOW)
    seen = await records(reader)
    assert (seen.work[NAME].id, seen.unsettled) == (1, ())
    await store.advance(NAME, S.STOPPING, at=NOW, reason="x")
    await store.advance(NAME, S.GONE, at=NOW, reason="x")
    seen = await records(reader)
    assert (seen.work, [job.id for job in seen.unsettled]) == ({}, [1])


async def test_failures_add_up_and_are_forgotten(store: Store, reader: Reader) -> None:
    """Failures of one kind lengthen the wait; a success clears their scope."""
    for _ in range(3):
        await store.fail("pool:mac", "boot_timeout", "no answer", at=NOW, jitter=0.5)
    (cooldown,) = (await records(reader)).cooldowns
    assert (cooldown.failures, cooldown.until) == (3, NOW + timedelta(seconds=40))
    await store.succeed("host", "pool:mac")
    assert (await records(reader)).cooldowns == ()


async def test_an_old_failure_starts_anew(store: Store, reader: Reader) -> None:
    """A failure long after the last one does not wait as long as its predecessors added up to."""
    await store.fail("host", "x", "x", at=NOW, jitter=0.5)
    await store.fail("host", "x", "x", at=NOW + timedelta(hours=2), jitter=0.5)
    assert [c.failures for c in (await records(reader)).cooldowns] == [1]


async def test_draining_is_stored(store: Store, reader: Reader) -> None:
    """Draining outlives the process."""
    await store.set_draining(True)
    await store.set_draining(True)
    assert (await records(reader)).draining
    await store.set_draining(False)
    assert not (await records(reader)).draining


async def test_configure_routes_open_jobs_again(store: Store, reader: Reader) -> None:
    """A reload gives every job that is not over its pool by the new configuration."""
    await store.record(a_delivery(), an_event(), at=NOW)
    await store.configure([a_pool(name="new")])
    assert [demand.pool for demand in (await records(reader)).demand] == ["new"]
    await store.configure([])
    assert (await records(reader)).demand == ()


async def test_prune_keeps_what_is_open(store: Store, reader: Reader) -> None:
    """Retention forgets what ended, never what is still open or live."""
    await store.record(a_delivery("open"), an_event(id=1), at=ago(days=40))
    await store.record(
        a_delivery("old"), an_event(J.COMPLETED, id=2, completed_at=ago(days=40)), at=ago(days=40)
    )
    await store.record(
        a_delivery("new"), an_event(J.COMPLETED, id=3, completed_at=ago(days=1)), at=ago(days=1)
    )
    await store.claim(a_runner(S.IDLE, since=ago(days=40)))
    await store.claim(a_runner(S.GONE, name="mini-mac-bbbbbbbb", since=ago(days=40), deregistered=True))
    assert await store.prune(before=ago(days=30)) == 4
    assert [job.id for job in await reader.jobs(JobFilter(), limit=10)] == [3, 1]
    assert [runner.name for runner in await reader.runners(live=False, limit=10)] == [NAME]


async def test_jobs_page_by_page(store: Store, reader: Reader) -> None:
    """Pages, newest first, neither repeat nor leave out a job, also of one moment."""
    for n in range(7):
        await store.record(a_delivery(f"g{n}"), an_event(id=n), at=ago(seconds=n // 3))
    seen: list[int] = []
    after = None
    while page := await reader.jobs(JobFilter(), limit=2, after=after):
        seen += [job.id for job in page]
        after = page[-1].received_at, page[-1].id
    assert seen == [2, 1, 0, 5, 4, 3, 6]
    filtered = JobFilter(status=J.QUEUED, repository="ACME/App", pool="mac")
    assert len(await reader.jobs(filtered, limit=10)) == 7


async def test_a_look_ends_a_job(store: Store, reader: Reader) -> None:
    """A job that GitHub no longer knows ends with a note, once."""
    await store.record(a_delivery(), an_event(), at=NOW)
    await store.mark_checked(1, at=NOW)
    await store.end_job(1, at=NOW, note="gone")
    await store.end_job(1, at=NOW, note="again")
    job = await reader.job(1)
    assert job is not None
    assert (job.status, job.note, job.checked_at) == (J.COMPLETED, "gone", NOW)
    assert await reader.counts() == {}


async def test_a_hold_is_kept_and_moves_with_the_clock(store: Store, reader: Reader) -> None:
    """Until when a VM is kept is in its row; a clock that jumps makes it neither longer nor shorter."""
    await store.claim(a_runner(S.BUSY))
    await store.hold(NAME, timedelta(minutes=5), at=NOW)
    await store.amend(NAME, guest_held_until=NOW + timedelta(minutes=5))
    mark = ClockMark("one", NOW)
    await store.shift_times(timedelta(hours=1), mark)
    assert await reader.clock() == mark
    (runner,) = await reader.runners(live=True, limit=1)
    assert runner.held_until == runner.guest_held_until == NOW + timedelta(hours=1, minutes=5)
    with pytest.raises(UnknownRunner):
        await store.hold("nobody", timedelta(minutes=5), at=NOW)


async def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    """Many writers at once, on real threads, lose no update and meet no lock."""
    path = tmp_path / "cidermill.db"
    upgrade(path)
    database = Database(open_engine(path))
    store, reader = Store(database, [a_pool()]), Reader(database)
    try:
        await asyncio.gather(
            *(store.record(a_delivery(f"g{n}"), an_event(id=n % 20), at=NOW) for n in range(200)),
            *(store.fail("host", "x", "x", at=NOW, jitter=0.5) for _ in range(50)),
            *(reader.counts() for _ in range(50)),
        )
        assert await reader.counts() == {J.QUEUED: 20}
        assert [c.failures for c in (await records(reader)).cooldowns] == [50]
    finally:
        database.close()


async def test_one_bad_write_spoils_no_other(tmp_path: Path) -> None:
    """Writes that share a transaction fail alone: the others are kept, and only its own caller hears of the bad one."""
    path = tmp_path / "cidermill.db"
    upgrade(path)
    database = Database(open_engine(path))
    store, reader = Store(database, [a_pool()]), Reader(database)
    try:
        outcomes = await asyncio.gather(
            *(store.record(a_delivery(f"g{n}"), an_event(id=n), at=NOW) for n in range(20)),
            store.request_stop("nobody", StopRequest.ASK),
            *(store.record(a_delivery(f"h{n}"), an_event(id=n + 20), at=NOW) for n in range(20)),
            return_exceptions=True,
        )
        assert [type(o) for o in outcomes if o is not True] == [UnknownRunner]
        assert await reader.counts() == {J.QUEUED: 40}
    finally:
        database.close()


async def test_deep_queue_is_read_by_index(database: Database) -> None:
    """What a pass reads walks partial indexes, never the jobs and runners that ended."""
    with database.engine.begin() as connection:
        for query, index in ((LINE, "ix_job_line"), (LIVE_OR_OWED, "uq_runner_live_slot")):
            values = {"denying": "[]", "heads": 2} if query is LINE else {}
            steps = connection.execute(text(f"EXPLAIN QUERY PLAN {query.element}"), values).all()
            assert any(index in str(step) for step in steps), steps


def test_replaced_runner_is_frozen() -> None:
    """Values of the domain are copied, not changed."""
    runner = a_runner()
    assert replace(runner, slot="2").slot == "2"
    assert runner.slot == "1"
