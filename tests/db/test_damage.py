"""A database that is damaged, locked, full or not ours to write: told at the start with the mend, outlived in a run."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app.db.database import Database, open_engine
from app.db.migrate import DatabaseUnusable, upgrade
from app.db.reader import Reader
from app.db.store import Delivery, Store
from app.db.trouble import FULL, LOCKED, trouble_of
from tests.api.conftest import serving
from tests.builders import NOW, a_pool, an_event
from tests.conftest import Clock

JOBS = 300
START = """
import sys
from pathlib import Path
from app.db.migrate import DatabaseUnusable, upgrade
try:
    upgrade(Path(sys.argv[1]))
except DatabaseUnusable as error:
    sys.exit(f"told: {error}")
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a database with some hundred jobs, closed in good order; every test works on a copy."""
    path = tmp_path_factory.mktemp("template") / "cidermill.db"

    async def make() -> None:
        async with opened(path) as (store, _):
            await record(store, *range(JOBS))

    upgrade(path)
    asyncio.run(make())
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, template: bytes) -> Path:
    path = tmp_path / "state" / "cidermill.db"
    path.parent.mkdir()
    path.write_bytes(template)
    return path


@asynccontextmanager
async def opened(path: Path, **pragmas: int) -> AsyncIterator[tuple[Store, Reader]]:
    """Open the database as the service does; but nothing need survive a power cut."""
    engine = open_engine(path)

    @event.listens_for(engine, "connect")
    def on_connect(dbapi: sqlite3.Connection, _record: object) -> None:
        for pragma, value in {"synchronous": 0, **pragmas}.items():
            dbapi.execute(f"PRAGMA {pragma} = {value}")

    database = Database(engine)
    try:
        yield Store(database, [a_pool()]), Reader(database)
    finally:
        database.close()


async def record(store: Store, *numbers: int) -> None:
    for n in numbers:
        delivery = Delivery(guid=f"guid-{n}", event="workflow_job", action="queued")
        await store.record(delivery, an_event(id=n + 1, name="build " * 20), at=NOW)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of whoever writes, as another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# -- at the start --------------------------------------------------------------------------------------


def flip_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 6000 : middle + 6000] = bytes(b ^ 0x5A for b in content[middle - 6000 : middle + 6000])
    path.write_bytes(content)


def flip_the_head(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(b ^ 0x5A for b in content[:100]) + content[100:])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_short(path: Path) -> None:
    os.truncate(path, 50)


def write_notes(path: Path) -> None:
    path.write_text("somebody's notes\n" * 500, encoding="ascii")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def take_a_revision_of_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


@pytest.mark.parametrize(
    ("damage", "mend"),
    [
        pytest.param(flip_the_middle, "restore a backup", id="bytes flipped in the middle"),
        pytest.param(flip_the_head, "restore a backup", id="bytes flipped at the beginning"),
        pytest.param(cut, "restore a backup", id="cut in half"),
        pytest.param(cut_short, "restore a backup", id="cut to almost nothing"),
        pytest.param(write_notes, "restore a backup", id="no database at all"),
        pytest.param(make_a_folder, "let this user write", id="a directory"),
        pytest.param(take_a_revision_of_the_future, "upgrade CiderMill", id="of a newer version"),
    ],
)
def test_damage_stops_the_start(path: Path, damage: Callable[[Path], None], mend: str) -> None:
    """A damaged file stops the start with a sentence that names the mend, and is left as it was found."""
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=mend) as told:
            upgrade(path)
    assert str(path) in str(told.value)
    assert before is None or path.read_bytes() == before
    assert not [file for file in path.parent.iterdir() if "before" in file.name]


def test_a_lock_stops_the_start(path: Path) -> None:
    """While another program holds the lock nothing starts, and then it does."""
    with locked(path), pytest.raises(DatabaseUnusable, match="end that program"):
        upgrade(path)
    upgrade(path)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_may_only_be_read_stops_the_start(path: Path, what: str) -> None:
    """A file, or a directory, that this user may only read is told, without a traceback."""
    (path if what == "file" else path.parent).chmod(0o400 if what == "file" else 0o500)
    plain = [sys.executable, "-c", START, str(path)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anything here")
        plain = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *plain]
    said = subprocess.run(plain, capture_output=True, text=True, timeout=30, check=False)
    path.parent.chmod(0o700)
    assert said.stderr.startswith("told: ")
    assert "let this user write the file" in said.stderr


async def test_garbage_beside_it_is_ignored(path: Path) -> None:
    """A write-ahead log that is not one of this file's is no damage: what was committed to the file is there."""
    beside(path).write_bytes(b"\x37\x7f\x06\x82" + os.urandom(8000))
    upgrade(path)
    async with opened(path) as (_, reader):
        assert sum((await reader.counts()).values()) == JOBS


async def test_a_cut_log_keeps_whole_transactions(path: Path, tmp_path: Path) -> None:
    """Of a write-ahead log that was cut, all whole transactions count, and no half of one."""
    copy = tmp_path / "cidermill.db"
    async with opened(path) as (store, _):
        await record(store, *range(JOBS, JOBS + 20))
        for kept in (path, beside(path)):
            shutil.copyfile(kept, copy.with_name(kept.name))
    os.truncate(beside(copy), beside(copy).stat().st_size - 5000)
    upgrade(copy)
    async with opened(copy) as (_, reader):
        jobs = sum((await reader.counts()).values())
        unknown = await reader.unknown_deliveries(f"guid-{n}" for n in range(JOBS + 20))
    assert JOBS < jobs < JOBS + 20
    assert len(unknown) == JOBS + 20 - jobs


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


# -- during a run --------------------------------------------------------------------------------------


async def fill(store: Store, first: int) -> int:
    """Record until no more is taken, which must be for want of space; return the first number that was not."""
    for n in range(first, first + 5000):
        try:
            await record(store, n)
        except OperationalError as error:
            assert trouble_of(error) == FULL  # noqa: PT017  # the loop needs the error's moment
            return n
    pytest.fail("it was never full")


async def test_a_lock_in_a_run(path: Path) -> None:
    """While another program holds the lock, writes fail together and not one after the other; then all goes on."""
    async with opened(path, busy_timeout=300) as (store, reader):
        with locked(path):
            async with asyncio.timeout(2.0):
                outcomes = await asyncio.gather(
                    *(record(store, n) for n in range(JOBS, JOBS + 20)), return_exceptions=True
                )
            assert {type(outcome) for outcome in outcomes} == {OperationalError}
            assert "end that program" in (await store.trouble() or "")
            assert sum((await reader.counts()).values()) == JOBS
        assert await store.trouble() is None
        await record(store, *range(JOBS, JOBS + 20))
        assert sum((await reader.counts()).values()) == JOBS + 20


def pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])


async def test_a_full_database_in_a_run(path: Path) -> None:
    """What is refused for want of space leaves nothing half-done, and is taken once there is space."""
    async with opened(path, max_page_count=pages(path) + 8) as (store, _):
        refused = await fill(store, JOBS)
    async with opened(path) as (store, reader):
        assert sum((await reader.counts()).values()) == refused
        assert await reader.unknown_deliveries([f"guid-{refused}"]) == {f"guid-{refused}"}
        await record(store, refused)
        assert sum((await reader.counts()).values()) == refused + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MB, where this user may."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield place
    subprocess.run(["/bin/umount", str(place)], check=True)


async def test_a_full_disk(small_disk: Path) -> None:
    """A disk that fills up in a run is told, and over by itself when there is space again; nothing is lost."""
    path, ballast = small_disk / "cidermill.db", small_disk / "ballast"
    upgrade(path)
    ballast.write_bytes(bytes(400_000))
    async with opened(path) as (store, reader):
        taken = await fill(store, 0)
        assert sum((await reader.counts()).values()) == taken
        ballast.unlink()
        assert await store.trouble() is None
        await record(store, taken)
        assert sum((await reader.counts()).values()) == taken + 1


async def test_the_door_while_the_database_is_locked(path: Path, clock: Clock) -> None:
    """A delivery that cannot be stored is answered 503, readiness says why, and both are over with the lock."""
    async with serving(path, clock) as server:
        event.listen(server.engine, "checkout", lambda dbapi, *_: dbapi.execute("PRAGMA busy_timeout = 200"))
        await server.passes()
        with locked(path):
            assert (await server.deliver(guid="g1", id=JOBS + 1)).status_code == 503
            told = await server.get("/readyz", 503)
            assert told["problems"] == [f"The database takes nothing: {LOCKED}."]
            assert server.rows("job") == JOBS
        assert (await server.get("/readyz"))["ready"]
        assert (await server.deliver(guid="g1", id=JOBS + 1)).status_code == 202
        assert server.rows("job") == JOBS + 1
