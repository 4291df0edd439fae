"""Small charts of how it went lately, as columns; the numbers stand beside them in words."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.board import Statistics
from app.web.words import clock, span

HEIGHT = 40.0  # units of the drawing
STEP = 10  # units from one column to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One interval as it is drawn: a column, and for waits a darker one before it."""

    x: int
    height: float
    inner: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Two rows of columns over one span of time: how many jobs ended, and how long they had waited."""

    title: str
    text: str
    width: int
    jobs: list[Column]
    waits: list[Column]


def chart(title: str, statistics: Statistics) -> Chart:
    """Draw *statistics*."""
    intervals, whole = statistics.intervals, statistics.whole
    most_jobs = max((each.jobs for each in intervals), default=0) or 1
    longest = max((each.most for each in intervals), default=0.0) or 1.0
    jobs, waits = [], []
    for n, each in enumerate(intervals):
        x, since = n * STEP, clock(statistics.since + n * statistics.width)
        text = f"from {since}: {in_words(each.jobs, each.half, each.most)}"
        jobs.append(Column(x=x, height=_height(each.jobs, most_jobs), inner=0.0, text=text))
        most, half = _height(each.most, longest), _height(each.half, longest)
        waits.append(Column(x=x, height=most, inner=half, text=text))
    text = in_words(whole.jobs, whole.half, whole.most)
    return Chart(title=title, text=text, width=len(intervals) * STEP, jobs=jobs, waits=waits)


def in_words(jobs: int, half: float, most: float) -> str:
    """Say how many jobs ended and how long they had waited."""
    if not jobs:
        return "no job ended"
    count = "1 job" if jobs == 1 else f"{jobs} jobs"
    return f"{count}; half of them started within {span(half)}, nine in ten within {span(most)}"


def _height(value: float, largest: float) -> float:
    return round(HEIGHT * value / largest, 1)
