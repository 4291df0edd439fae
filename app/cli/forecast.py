"""``cidermill forecast``: how long jobs would wait with other Macs, slots or times, and how few Macs are enough."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import show
from app.domain.pools import Start
from app.forecast.outcome import SHARES, Goal, Outcome, Setup

if TYPE_CHECKING:
    from app.domain.pools import Pool
    from app.forecast.answer import Answer
    from app.forecast.sources import Access, Read
    from app.settings import Settings

HEADINGS = ("SETUP", "HALF", "90 %", "95 %", "99 %", "LONGEST", "NOT STARTED", "USED", "VM HOURS")
TOKEN = "GITHUB_TOKEN"  # noqa: S105  # the variable's name
FIRST = (1, 2)  # Macs that are tried unasked


def forecast(
    *,
    events: Annotated[
        Path | None, typer.Option(help="Replay a file of workflow_job events or of GitHub's lists of jobs.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(help="Replay the runs of owner/name at GitHub.", show_default="own history")
    ] = None,
    days: Annotated[int, typer.Option(help="How far back, but for --events.", min=1, max=90)] = 14,
    labels: Annotated[
        str | None,
        typer.Option(help="Count jobs with these labels, with commas.", show_default="the configured pools"),
    ] = None,
    macs: Annotated[
        list[int] | None, typer.Option(help="Macs to try; may be repeated.", min=1, show_default="1 and 2")
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(help="VMs at a time on each Mac.", min=1, max=2, show_default="as configured"),
    ] = None,
    start: Annotated[
        Start, typer.Option(help="How VMs start: they boot, or are resumed from a snapshot.")
    ] = Start.COLD,
    min_ready: Annotated[
        int, typer.Option(help="VMs of each pool that are kept booted for the next job.", min=0)
    ] = 0,
    timing: Annotated[
        list[str] | None,
        typer.Option(help="A time to reckon with, as boot=20s; may be repeated.", show_default="measured"),
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="Search the fewest Macs with which jobs start within this, as 60s.")
    ] = None,
    share: Annotated[float, typer.Option(help="How many of them in a hundred.", min=1, max=100)] = 95,
    most_macs: Annotated[int, typer.Option(help="Where the search ends.", min=1, max=64)] = 16,
    svg: Annotated[Path | None, typer.Option(help="Draw the waits into this file.")] = None,
    as_json: show.AsJson = False,
) -> None:
    """Replay the jobs of a time through CiderMill's own plan, to see how many Macs are enough."""
    from app.forecast.answer import Question, answer
    from app.forecast.events import Unreadable

    given = _timings(timing or [])
    goal = _goal(within, share) if within is not None else None
    try:
        settings, state_dir = _configured()
        read = _read(events, repository, days, settings, state_dir)
        pools = _pools(read, settings, labels)
        like = Setup(slots=slots or _slots(settings), start=start, min_ready=min_ready)
        setups = tuple(replace(like, macs=number) for number in sorted(set(macs or FIRST)))
        answered = answer(Question(setups=setups, given=given, goal=goal, most_macs=most_macs), read, pools)
    except Unreadable as error:
        typer.echo(show.clean(error), err=True)
        raise typer.Exit(1) from None
    if not answered.history.jobs:
        typer.echo(show.clean(_nothing(answered)), err=True)
        raise typer.Exit(1)
    if as_json:
        show.print_json(_json(answered))
    else:
        show.show(*_lines(answered), _table(answered), *_verdict(answered))
    if svg is not None:
        _draw(svg, answered)


def _timings(texts: Sequence[str]) -> dict[str, timedelta]:
    from app.forecast.timings import NAMES

    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in NAMES:
            message = f"{text!r}: write NAME=TIME, where NAME is {', '.join(NAMES)}"
            raise typer.BadParameter(message, param_hint="--timing")
        found[name] = _length(value, "--timing")
    return found


def _length(text: str, option: str) -> timedelta:
    from app.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from None


def _goal(within: str, share: float) -> Goal:
    return Goal(within=_length(within, "--within"), share=share / 100)


def _configured() -> tuple[Settings | None, Path]:
    """Return the settings, None where nothing is configured yet, and where the state is kept."""
    from app.configfile import ConfigError, load, sources
    from app.forecast.events import Unreadable

    try:
        found = sources(os.environ, Path.cwd())
        if found.toml_file is None:
            return None, found.state_dir
        settings = load(os.environ, Path.cwd())
    except ConfigError as error:
        raise Unreadable(error.report()) from None
    return settings, settings.state_dir


def _read(
    events: Path | None, repository: str | None, days: int, settings: Settings | None, state_dir: Path
) -> Read:
    from app import logs
    from app.clock import utcnow
    from app.forecast import sources
    from app.forecast.events import read

    if events is not None and repository is not None:
        raise typer.BadParameter("give one of --events and --repository", param_hint="--repository")
    since = utcnow() - timedelta(days=days)
    if events is not None:
        jobs, strange = read(events)
        documents = "1 document" if strange == 1 else f"{strange:,} documents"
        rest = f" ({documents} in it tell of no job)" if strange else ""
        return sources.Read(jobs=jobs, said=f"{len(jobs):,} jobs of {events}{rest}")
    if repository is None:
        return asyncio.run(sources.own(state_dir, since))
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repository):
        raise typer.BadParameter(f"{repository!r}: write owner/name", param_hint="--repository")
    logs.configure("error", "auto", settings.secrets() if settings else ())
    return asyncio.run(sources.at_github(repository, since, _access(settings)))


def _access(settings: Settings | None) -> Access:
    from app.forecast.events import Unreadable
    from app.forecast.sources import Access, access_of
    from app.github.auth import TokenCredentials

    if settings is not None:
        return access_of(settings)
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        message = (
            f"GitHub is asked with the configured credentials, or with a token in {TOKEN} (one that may read Actions): "
            "set it, or give a file (--events)."
        )
        raise Unreadable(message)
    return Access(credentials=TokenCredentials(token=token))


def _pools(read: Read, settings: Settings | None, labels: str | None) -> tuple[Pool, ...]:
    from app.forecast.history import pool_of_labels

    if settings is not None and labels is None:
        return settings.pools
    wanted = [label.strip() for label in (labels or "").split(",") if label.strip()]
    return (pool_of_labels(read.jobs, wanted),)


def _slots(settings: Settings | None) -> int:
    return settings.slots if settings is not None else 2


def _nothing(answer: Answer) -> str:
    past = answer.history
    if not past.of_no_pool + past.unfinished:
        return (
            f"Read {answer.said}: there is nothing to replay. Go further back with --days, or give workflow_job events "
            "or what GitHub's API lists (--events)."
        )
    return (
        f"Read {answer.said}, and none of them can be replayed: {past.of_no_pool:,} are of no pool and "
        f"{past.unfinished:,} are not over. Say which jobs are meant with --labels, or go further back with --days."
    )


def _draw(svg: Path, answer: Answer) -> None:
    from app.forecast.plot import drawing

    goal = answer.found.goal if answer.found else None
    try:
        svg.write_text(drawing(answer.outcomes, goal), encoding="utf-8")
    except OSError as error:
        typer.echo(f"Cannot write {svg} ({error.strerror}).", err=True)
        raise typer.Exit(1) from None


def _lines(answer: Answer) -> Iterator[str]:
    """Say what was read, what of it is replayed, and with which times."""
    past = answer.history
    yield f"Read {answer.said}."
    first, last = past.jobs[0].job.queued_at, past.jobs[-1].job.queued_at
    left_out = [
        f"{number:,} {why}"
        for number, why in ((past.of_no_pool, "of no pool"), (past.unfinished, "not over"))
        if number
    ]
    rest = f"; left out: {', '.join(left_out)}" if left_out else ""
    yield f"Replayed {len(past.jobs):,} jobs, queued from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC{rest}."
    times = ", ".join(
        f"{name} {getattr(answer.timings, name).total_seconds():g} s ({origin})"
        for name, origin in answer.origins.items()
    )
    yield f"Times: {times}."


def _table(answer: Answer) -> show.Grid:
    return show.Grid(HEADINGS, [_row(outcome) for outcome in answer.outcomes])


def _row(outcome: Outcome) -> list[object]:
    waits = [show.span(outcome.wait(share).total_seconds()) for share in (*SHARES, 1.0)]
    return [
        outcome.setup,
        *waits,
        len(outcome.given_up),
        f"{outcome.utilisation:.0%}",
        f"{outcome.vm_time / timedelta(hours=1):.1f}",
    ]


def _verdict(answer: Answer) -> Iterator[str]:
    if answer.found is None:
        return
    goal, best = answer.found.goal, answer.found.smallest
    what = f"{100 * goal.share:g} % of the jobs start within"
    span = show.span(goal.within.total_seconds())
    if best is None:
        least = answer.timings.least(answer.found.largest)
        why = f": where a slot is free it takes {least.total_seconds():g} s" if least > goal.within else ""
        yield f"Not even with {answer.found.largest} would {what} {span}{why}."
    else:
        yield f"{best.setup} is enough: {what} {span} ({100 * best.started_within(goal.within):.1f} %)."


def _json(answer: Answer) -> dict[str, Any]:
    past, found = answer.history, answer.found
    return {
        "read": answer.said,
        "jobs": len(past.jobs),
        "left_out": {"of_no_pool": past.of_no_pool, "unfinished": past.unfinished},
        "first_queued_at": past.jobs[0].job.queued_at.isoformat(),
        "last_queued_at": past.jobs[-1].job.queued_at.isoformat(),
        "timings": {
            name: {"seconds": getattr(answer.timings, name).total_seconds(), "origin": origin}
            for name, origin in answer.origins.items()
        },
        "setups": [_outcome(outcome) for outcome in answer.outcomes],
        "goal": None
        if found is None
        else {
            "within_seconds": found.goal.within.total_seconds(),
            "share": found.goal.share,
            "met_by": found.smallest
            and {"macs": found.smallest.setup.macs, "slots": found.smallest.setup.slots},
            "largest_tried": {"macs": found.largest.macs, "slots": found.largest.slots},
        },
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "macs": outcome.setup.macs,
        "slots": outcome.setup.slots,
        "start": outcome.setup.start,
        "min_ready": outcome.setup.min_ready,
        "started": len(outcome.waits),
        "not_started": len(outcome.given_up),
        "wait_seconds": {f"p{100 * share:g}": outcome.wait(share).total_seconds() for share in SHARES}
        | {"longest": outcome.wait(1.0).total_seconds()},
        "utilisation": round(outcome.utilisation, 4),
        "vm_hours": round(outcome.vm_time / timedelta(hours=1), 2),
        "job_hours": round(outcome.job_time / timedelta(hours=1), 2),
        "launches": outcome.launches,
    }
