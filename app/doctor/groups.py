"""Whom a runner group admits against whom a pool serves: the drift that nobody notices (docs/contracts/github.md §5.5)."""

from __future__ import annotations

from collections.abc import Iterator

from app.doctor import github_texts as texts
from app.doctor.finding import Finding
from app.doctor.github import Installed
from app.domain.pools import Pool, Scope
from app.domain.targets import admits_only
from app.domain.world import RunnerGroup

SHOWN = 3  # repositories that are named


def runner_group(pool: Pool, installed: Installed) -> Iterator[Finding]:
    """Yield what is wrong between *pool* and its group in one organization; nothing where it registers elsewhere."""
    served = {name: private for name, private in installed.repositories.items() if pool.serves(name)}
    if pool.effective_scope is Scope.REPOSITORY or not served:
        return
    group = _group(pool, installed)
    told = {"pool": pool.name, "owner": installed.account}
    if group is None:
        yield texts.GROUP.wrong("missing", group=pool.runner_group or "that is the default", **told)
        return
    told["group"] = group.name
    is_auto = pool.effective_scope is Scope.AUTO
    if not admits_only(group, pool, installed.account):
        code = "falls_back" if is_auto else "too_open"
        yield texts.GROUP.wrong(code, others=_others(group, pool, installed), **told)
        if is_auto:
            return  # it registers at the repositories then, whomever the group admits
    for name, private in served.items():
        if not private and not group.allows_public:
            yield texts.GROUP.wrong("no_public", repository=name, **told)
        elif not _admits(group, name, private=private):
            yield texts.GROUP.wrong("not_admitted", repository=name, **told)


def _group(pool: Pool, installed: Installed) -> RunnerGroup | None:
    if pool.runner_group is None:
        return next((group for group in installed.groups if group.id == 1), None)
    wanted = pool.runner_group.casefold()
    return next((group for group in installed.groups if group.name.casefold() == wanted), None)


def _others(group: RunnerGroup, pool: Pool, installed: Installed) -> str:
    if group.visibility != "selected":
        return f"every repository of {installed.account}"
    others = [name for name in group.repositories if not pool.serves(name)]
    more = [f"{len(others) - SHOWN} more"] if len(others) > SHOWN else []
    return " and ".join([*others[:SHOWN], *more])


def _admits(group: RunnerGroup, repository: str, *, private: bool) -> bool:
    if group.visibility == "private" and not private:
        return False
    return group.visibility != "selected" or repository.casefold() in {
        n.casefold() for n in group.repositories
    }
