"""A picture of how long jobs would wait: for each set-up, the share of jobs that started within a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from html import escape
from math import log10

from app.forecast.outcome import Goal, Outcome

WIDTH, HEIGHT = 720, 400  # units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 48, 56
LETTER = 6.5  # wide, on average
STEPS = 100  # of a line
SHORTEST = 1.0  # s; what is shorter stands there
MARKS = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (86400, "1 d"))
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
)  # told apart by all, in the light and the dark
STYLE = (
    "svg{color:#222;background:#fff}text{font:12px sans-serif;fill:currentColor}.axis{stroke:currentColor;opacity:.25}"
    ".line{fill:none;stroke-width:2}.goal{fill:none;stroke:currentColor;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){svg{color:#ddd;background:#161616}}"
)


def drawing(outcomes: Sequence[Outcome], goal: Goal | None) -> str:
    """Draw *outcomes* as an SVG document that needs nothing else; time goes by powers of ten."""
    longest = max((outcome.wait(1.0).total_seconds() for outcome in outcomes), default=SHORTEST)
    if goal is not None:
        longest = max(longest, goal.within.total_seconds())
    end = log10(max(longest, 60.0)) * 1.02
    lines = [*_axes(end), *(_goal(goal, end) if goal else ())]
    legend = max((len(str(outcome.setup)) for outcome in outcomes), default=0) * LETTER + 26
    for n, outcome in enumerate(outcomes):
        colour, y = COLOURS[n % len(COLOURS)], HEIGHT - BOTTOM - 12 - 18 * (len(outcomes) - 1 - n)
        x = WIDTH - RIGHT - legend
        lines.append(f'<path class="line" stroke="{colour}" d="{_way(outcome, end)}"/>')
        lines.append(f'<path class="line" stroke="{colour}" d="M{x} {y - 4}h20"/>')
        lines.append(f'<text x="{x + 26}" y="{y}">{escape(str(outcome.setup))}</text>')
    title = "Share of jobs that start within a time"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f"<style>{STYLE}</style>"
        f'<text x="{LEFT}" y="24">{title}</text>{"".join(lines)}</svg>\n'
    )


def _x(wait: timedelta, end: float) -> float:
    seconds = max(SHORTEST, wait.total_seconds())
    return round(LEFT + (WIDTH - LEFT - RIGHT) * log10(seconds) / end, 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)


def _way(outcome: Outcome, end: float) -> str:
    points = [(_x(outcome.wait(n / STEPS), end), _y(n / STEPS)) for n in range(1, STEPS + 1)]
    return f"M{points[0][0]} {_y(0)}" + "".join(f"L{x} {y}" for x, y in points)


def _axes(end: float) -> Iterator[str]:
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        yield f'<path class="axis" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10 * tenth} %</text>'
    for seconds, text in MARKS:
        if log10(seconds) <= end:
            x = _x(timedelta(seconds=seconds), end)
            yield f'<path class="axis" d="M{x} {TOP}V{HEIGHT - BOTTOM}"/>'
            yield f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{text}</text>'


def _goal(goal: Goal, end: float) -> Iterator[str]:
    x, y = _x(goal.within, end), _y(goal.share)
    yield f'<path class="goal" d="M{LEFT} {y}H{x}V{HEIGHT - BOTTOM}"/>'
