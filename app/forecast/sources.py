"""Where a history comes from beside a file: CiderMill's own database, or a repository at GitHub."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.db.database import Database, open_to_read
from app.db.reader import Reader
from app.db.trouble import DAMAGED, trouble_of
from app.domain.jobs import Job
from app.forecast.events import Unreadable, fold
from app.forecast.timings import Way
from app.github.auth import AppCredentials, TokenCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics
from app.ports import OutsideError
from app.settings import Settings

MEASURED = 500  # runners; their stages are medians
MOST_RUNS = 500  # of a repository: one question each, out of 1,000 an hour that a workflow's own token has


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a source gave, and in words what was read."""

    jobs: list[Job]
    said: str
    ways: dict[str, Way] = field(default_factory=dict)  # of runners of ours
    resumed: frozenset[str] = frozenset()  # of these, whose VM did not boot


async def own(state_dir: Path, since: datetime) -> Read:
    """Read the database in *state_dir*, whether a server uses it or not. Raises Unreadable."""
    path = state_dir / "cidermill.db"
    if not path.is_file():
        msg = (
            f"There is no history yet: {path} is not there. Ask about a file (--events) or a repository at GitHub "
            "(--repository)."
        )
        raise Unreadable(msg)
    database = Database(open_to_read(path), inline=True)
    try:
        jobs, ways, resumed = await Reader(database).past(since=since, runners=MEASURED)
    except SQLAlchemyError as error:
        msg = (
            f"{path} cannot be read: {trouble_of(error) or DAMAGED}; where it was written by another version, start "
            "the server once."
        )
        raise Unreadable(msg) from error
    finally:
        database.close()
    said = f"{len(jobs):,} jobs of {path} that ended since {since:%Y-%m-%d}"
    return Read(jobs=jobs, said=said, ways={**ways}, resumed=resumed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How GitHub is reached, and as whom."""

    credentials: AppCredentials | TokenCredentials
    api_url: str = "https://api.github.com"
    ca_path: Path | None = None
    api_version: str = "2026-03-10"
    downloads: Path = Path()  # nothing is downloaded


def access_of(settings: Settings) -> Access:
    """Return what is configured."""
    credentials: AppCredentials | TokenCredentials
    if settings.github_token is not None:
        credentials = TokenCredentials(token=settings.github_token.get_secret_value())
    else:
        credentials = AppCredentials(app_id=settings.github_app_id or "", private_key=settings.private_key())
    return Access(
        credentials=credentials,
        api_url=settings.github_api_url,
        ca_path=settings.github_ca_path,
        api_version=settings.github_api_version,
    )


async def at_github(repository: str, since: datetime, access: Access) -> Read:
    """Read the runs of *repository* since then, the newest first, as far as the quota allows. Raises Unreadable."""
    try:
        async with GitHubClient(
            access.credentials,
            api_url=access.api_url,
            ca_path=access.ca_path,
            api_version=access.api_version,
            downloads=access.downloads,
            metrics=Metrics(),
            clock=time.monotonic,
        ) as github:
            past = await github.past_jobs(repository, since=since.date(), most_runs=MOST_RUNS)
    except OutsideError as error:
        msg = f"{error}."
        raise Unreadable(msg) from error
    jobs = fold(past.jobs)
    said = f"{len(jobs):,} jobs of {past.runs:,} runs of {repository} since {since:%Y-%m-%d}"
    rest = "" if past.complete else "; older runs were not read, for want of quota or as they are too many"
    return Read(jobs=jobs, said=said + rest)
