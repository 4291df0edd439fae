"""Takes a changed configuration while the server runs: the pools at once, all or nothing; the rest at the next start.

A runner in flight keeps the pool it was launched with, so no job notices. SIGHUP does what the API does, and logs it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import fields
from datetime import timedelta

import structlog

from app.advice import advice
from app.api.context import Health, KeyChange, Reloaded, ReloadRefused
from app.configfile import ConfigError
from app.domain.pools import Pool
from app.reconcile import Reconciler, replace_pools
from app.settings import Settings

log = structlog.get_logger(__name__)


class Reload:
    """What a reload does; ``await`` a call of it. Raises ReloadRefused, and nothing has changed then."""

    def __init__(
        self,
        settings: Settings,
        reconciler: Reconciler,
        health: Health,
        reread: Callable[[], Settings] | None,
    ) -> None:
        self._started_with = self._in_force = settings
        self._reconciler, self._health, self._reread = reconciler, health, reread
        self._asked: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Reloaded:
        """Read the configuration again, and work by its pools from the next pass on."""
        if self._reread is None:
            raise ReloadRefused(["This server was not started from a configuration file."])
        try:
            new = await asyncio.to_thread(self._reread)
        except ConfigError as error:
            raise ReloadRefused(error.problems) from error
        before = {pool.name: pool for pool in self._in_force.pools}
        after = {pool.name: pool for pool in new.pools}
        found = tuple(
            change for name, pool in after.items() if name in before for change in changes(before[name], pool)
        )
        await self._reconciler.configure(replace_pools(self._reconciler.setup, new.pools))
        self._in_force, self._health.warnings = new, advice(new)
        done = Reloaded(
            pools=tuple(after),
            changed=tuple(name for name in after if name not in before or name in {c.pool for c in found}),
            removed=tuple(name for name in before if name not in after),
            added=tuple(name for name in after if name not in before),
            changes=found,
            needs_restart=self._started_with.differing(new),
        )
        _log(done)
        return done

    def on_hangup(self, stack: AsyncExitStack) -> None:
        """Reload at SIGHUP, until *stack* ends. Only the main thread hears of signals."""
        if self._reread is None or threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        stack.callback(loop.remove_signal_handler, signal.SIGHUP)

    def _hung_up(self) -> None:
        task = asyncio.create_task(self._quietly())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _quietly(self) -> None:
        try:
            await self()
        except ReloadRefused as refusal:
            log.error("reload_refused", problems=refusal.problems)  # noqa: TRY400  # the problems say it all


def changes(old: Pool, new: Pool) -> Iterator[KeyChange]:
    """Yield each key in which two pools of one name differ."""
    for field in fields(Pool):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield KeyChange(pool=new.name, key=field.name, old=_text(before), new=_text(after))


def _text(value: object) -> str | None:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return None if value is None else str(value)


def _log(done: Reloaded) -> None:
    for change in done.changes:
        log.info("pool_changed", pool=change.pool, key=change.key, was=change.old, now=change.new)
    log.info("reloaded", added=done.added, removed=done.removed, needs_restart=done.needs_restart)
