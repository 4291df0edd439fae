"""The checks at GitHub: facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.doctor import github_texts as texts
from app.doctor.finding import Check, Finding
from app.doctor.github import GitHubFacts, Installed
from app.doctor.groups import runner_group
from app.domain.hearing import FLOOR, GLOB
from app.domain.pools import Pool, Scope
from app.github.answers import SUBSCRIPTION
from app.setup.manifest import NO_WEBHOOK, WEBHOOK_PATH

SKEWED, FAR_OFF = 10.0, 60.0  # seconds
NOBODY_THERE = "no webhook has anywhere to go yet (see webhook-url)"
LOOK_FOR_HELP = "wait a while, and ask again; https://www.githubstatus.com tells of outages"
NEEDED = {
    "actions": ("read", "the repository permission Actions: read"),
    "organization_self_hosted_runners": ("write", "the organization permission Self-hosted runners: write"),
    "administration": ("write", "the repository permission Administration: write"),
}
ENOUGH = {"read": {"read", "write", "admin"}, "write": {"write", "admin"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the checks at GitHub go by."""

    github: GitHubFacts
    pools: Sequence[Pool]
    poll_interval: timedelta
    public_url: str | None = None


Looks = Callable[[Asked], Iterator[Finding]]


def credentials(asked: Asked) -> Iterator[Finding]:
    """Want GitHub to know us."""
    github = asked.github
    if github.refused:
        yield texts.CREDENTIALS.wrong("refused", **_split(github.refused, "see what GitHub says above"))
    elif github.unavailable:
        yield texts.CREDENTIALS.wrong("unavailable", **_split(github.unavailable, LOOK_FOR_HELP))
    else:
        yield texts.CREDENTIALS.fine(
            f"we are {github.name}" if github.is_app else f"the token is {github.name}'s"
        )


def permissions(asked: Asked) -> Iterator[Finding]:
    """Want the App to be allowed what the pools need, everywhere."""
    needed = _needed(asked.pools, asked.github.installed)
    lacking = _lacking(asked.github.permissions, needed)
    if lacking:
        yield texts.PERMISSIONS.wrong("lacking", what=" and ".join(lacking))
        return
    refusing = [
        (one.account, missing)
        for one in asked.github.installed
        if not one.suspended and (missing := _lacking(one.permissions, _needed(asked.pools, [one])))
    ]
    for account, missing in refusing:
        yield texts.PERMISSIONS.wrong("not_accepted", account=account, what=" and ".join(missing))
    if not refusing:
        yield texts.PERMISSIONS.fine("they suffice, and every installation has accepted them")


def events(asked: Asked) -> Iterator[Finding]:
    """Want the App to hear of jobs."""
    heard = SUBSCRIPTION in asked.github.events
    yield texts.EVENTS.fine("the App hears of jobs") if heard else texts.EVENTS.wrong("missing")


def installation(asked: Asked) -> Iterator[Finding]:
    """Want the App installed wherever a pool serves, seeing what it names."""
    by_owner = {one.account.casefold(): one for one in asked.github.installed}
    wrong = list(dict.fromkeys(
        finding
        for pool in asked.pools
        for pattern in pool.repositories
        if (finding := _missing(asked, by_owner, pool, pattern)) is not None
    ))  # fmt: skip
    yield from wrong
    if not wrong:
        owners = ", ".join(sorted(one.account for one in asked.github.installed))
        yield texts.INSTALLATION.fine(f"the App is installed on {owners}, and sees what the pools name")


def _missing(asked: Asked, by_owner: dict[str, Installed], pool: Pool, pattern: str) -> Finding | None:
    owner = pattern.partition("/")[0]
    if not GLOB.isdisjoint(owner):
        return None
    found = by_owner.get(owner.casefold())
    if found is None:
        return texts.INSTALLATION.wrong("missing", owner=owner, pool=pool.name, name=asked.github.name)
    if found.suspended:
        return texts.INSTALLATION.wrong("suspended", owner=owner)
    if found.trouble:
        return texts.INSTALLATION.wrong("trouble", **_split(found.trouble, LOOK_FOR_HELP))
    seen = {name.casefold() for name in found.repositories}
    if GLOB.isdisjoint(pattern) and pattern.casefold() not in seen:
        return texts.INSTALLATION.wrong("unseen", owner=owner, pool=pool.name, repository=pattern)
    return None


def group(asked: Asked) -> Iterator[Finding]:
    """Want the runner groups to admit the pools' repositories and no others."""
    usable = [
        one for one in asked.github.installed if one.organization and not one.suspended and not one.trouble
    ]
    wrong = [finding for pool in asked.pools for one in usable for finding in runner_group(pool, one)]
    yield from wrong
    if not wrong:
        yield texts.GROUP.fine("the runner groups admit what the pools serve, and nothing else")


def webhook_url(asked: Asked) -> Iterator[Finding]:
    """Want webhooks to come to our door, as JSON."""
    github, public = asked.github, asked.public_url
    if not github.hook_url:
        yield texts.HOOK.wrong("none")
    elif github.hook_url == NO_WEBHOOK:
        yield texts.HOOK.wrong("unreached", every=f"{asked.poll_interval.total_seconds():.0f}")
    elif not github.hook_url.rstrip("/").endswith(WEBHOOK_PATH):
        yield texts.HOOK.wrong("elsewhere", url=github.hook_url)
    elif github.hook_type != "json":
        yield texts.HOOK.wrong("form")
    elif public is not None and github.hook_url != public + WEBHOOK_PATH:
        yield texts.HOOK.wrong("drifted", url=github.hook_url, public=public)
    elif github.hook_insecure:
        yield texts.HOOK.wrong("insecure")
    else:
        yield texts.HOOK.fine(f"it is {github.hook_url}")


def deliveries(asked: Asked) -> Iterator[Finding]:
    """Want webhooks to have arrived lately."""
    log = asked.github.log
    if asked.github.hook_url == NO_WEBHOOK:
        yield texts.DELIVERIES.skipped(NOBODY_THERE)
        return
    if log is None:
        yield texts.DELIVERIES.wrong("unseen", **_split(asked.github.trouble, LOOK_FOR_HELP))
        return
    failed = [one for one in log if not one.arrived]
    newest = failed[0] if failed else None
    if not log:
        yield texts.DELIVERIES.wrong("none")
    elif newest is None:
        yield texts.DELIVERIES.fine(f"the last {len(log)} arrived")
    elif newest is log[0]:
        yield texts.DELIVERIES.wrong(
            "last_failed", event=newest.event, at=f"{newest.at:%Y-%m-%d %H:%M}", status=newest.status
        )
    else:
        yield texts.DELIVERIES.wrong(
            "some_failed",
            failed=len(failed),
            count=len(log),
            at=f"{newest.at:%Y-%m-%d %H:%M}",
            status=newest.status,
        )


def redelivery(asked: Asked) -> Iterator[Finding]:
    """Want a delivery that is sent again to arrive."""
    github = asked.github
    if github.hook_url == NO_WEBHOOK:
        yield texts.PING.skipped(NOBODY_THERE)
    elif not github.ping_sent:
        yield texts.PING.skipped("GitHub keeps no delivery that could be sent again")
    elif github.pinged is None:
        yield texts.PING.wrong("late")
    elif not github.pinged.arrived:
        yield texts.PING.wrong("failed", status=github.pinged.status)
    else:
        yield texts.PING.fine(f"the {github.pinged.event} that GitHub sent again arrived")


def quota(asked: Asked) -> Iterator[Finding]:
    """Want enough questions left."""
    wrong = []
    for name, left in sorted(asked.github.quota.items()):
        limit, remaining = int(left["limit"]), int(left["remaining"])
        if remaining < limit * FLOOR:
            values = {"left": remaining, "limit": limit, "name": name, "reset": left["reset"]}
            wrong.append(texts.QUOTA.wrong("low" if remaining else "gone", **values))
    yield from wrong
    if not wrong:
        yield texts.QUOTA.fine("more than a fifth is left")


def github_clock(asked: Asked) -> Iterator[Finding]:
    """Want our clock to be GitHub's."""
    ahead = asked.github.clock_ahead
    seconds = round(abs(ahead))
    if abs(ahead) < SKEWED:
        yield texts.CLOCK.fine("it agrees with GitHub's")
        return
    direction = "ahead of" if ahead > 0 else "behind"
    yield texts.CLOCK.wrong(
        "far_off" if abs(ahead) >= FAR_OFF else "skewed", seconds=seconds, direction=direction
    )


CHECKS: tuple[tuple[Check, Looks], ...] = (
    (texts.CREDENTIALS, credentials),
    (texts.PERMISSIONS, permissions),
    (texts.EVENTS, events),
    (texts.INSTALLATION, installation),
    (texts.GROUP, group),
    (texts.HOOK, webhook_url),
    (texts.DELIVERIES, deliveries),
    (texts.PING, redelivery),
    (texts.QUOTA, quota),
    (texts.CLOCK, github_clock),
)
WITHOUT_APP = frozenset({texts.CREDENTIALS.name, texts.QUOTA.name, texts.CLOCK.name})  # what a token has too


def _needed(pools: Sequence[Pool], installed: Sequence[Installed]) -> set[str]:
    """Return the permissions that the pools need on those accounts."""
    needed = {"actions"}
    for pool in pools:
        owners = {pattern.partition("/")[0].casefold() for pattern in pool.repositories}
        kinds = {one.organization for one in installed if one.account.casefold() in owners}
        if pool.effective_scope is Scope.REPOSITORY or False in kinds:
            needed.add("administration")
        if pool.effective_scope is not Scope.REPOSITORY and True in kinds:
            needed.add("organization_self_hosted_runners")
    return needed


def _lacking(granted: object, needed: set[str]) -> list[str]:
    held = granted if isinstance(granted, dict) else {}
    return [
        text for key, (level, text) in NEEDED.items() if key in needed and held.get(key) not in ENOUGH[level]
    ]


def _split(said: str, mend: str) -> dict[str, str]:
    """Return what an error of the GitHub adapter says apart from its mend, which stands behind a semicolon."""
    what, _, rest = said.partition("; ")
    return {"said": what, "mend": rest or mend}
