"""A history from a file: webhooks of jobs, or lists of jobs as GitHub's API answers with.

The file holds any number of JSON documents, one a line or not, each of them a ``workflow_job`` event, an answer of
``/repos/O/R/actions/runs/ID/jobs`` (so what ``gh api --paginate`` prints), a job of one, or a list of these. Events of one
job are folded in any order, as the service folds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.domain.jobs import Job, WorkflowJobEvent, merge
from app.github.webhook import event_of, job_event

RUN_URL = re.compile(r"/repos/([^/]+/[^/]+)/actions/runs/")
DEEPEST = 4  # lists of answers that hold lists of jobs


class Unreadable(Exception):
    """The history cannot be read; the text names the mend."""


def read(path: Path) -> tuple[list[Job], int]:
    """Return the jobs of a file, and how many of its documents tell of none. Raises Unreadable."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        msg = f"Cannot read {path} ({error.strerror})."
        raise Unreadable(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path} is not UTF-8 text: give JSON, such as `gh api` prints."
        raise Unreadable(msg) from error
    events: list[WorkflowJobEvent] = []
    strange = 0
    for document in _documents(text, path):
        found = list(_events(document, DEEPEST))
        events += found
        strange += not found
    return fold(events), strange


def fold(events: Iterable[WorkflowJobEvent]) -> list[Job]:
    """Return the jobs that *events* tell of; those without any time are left out."""
    jobs: dict[int, Job] = {}
    for event in events:
        at = event.queued_at or event.started_at or event.completed_at
        if at is not None:
            jobs[event.id] = merge(jobs.get(event.id), event, at=at)
    return list(jobs.values())


def _documents(text: str, path: Path) -> Iterator[object]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, at) + 1
            msg = f"{path}, line {line}: this is not JSON: give one document a line, or what `gh api` prints."
            raise Unreadable(msg) from error
        yield document


def _events(document: object, depth: int) -> Iterator[WorkflowJobEvent]:
    if isinstance(document, list) and depth:
        for one in document:
            yield from _events(one, depth - 1)
    if not isinstance(document, dict):
        return
    if "workflow_job" in document:
        event = event_of(document)
    elif isinstance(document.get("jobs"), list) and depth:
        yield from _events(document["jobs"], depth - 1)
        return
    else:
        event = _listed(document)
    if event is not None:
        yield event


def _listed(row: dict[str, object]) -> WorkflowJobEvent | None:
    """Read a job of a list; it names its repository only in its links."""
    match = RUN_URL.search(str(row.get("run_url") or row.get("url") or ""))
    return job_event(row, {"full_name": match[1]}) if match else None
