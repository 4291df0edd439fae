"""Webhooks of the sandbox's GitHub: what is sent to whom, what goes wrong on the way, and the delivery log.

An event becomes one delivery for each hook that hears it, all under one GUID. A delivery is tried once, never
again by itself; the log keeps what was tried for three days, and redelivery makes a new entry under the old
GUID (docs/contracts/github.md §2). Nothing is sent from here: whoever carries deliveries takes those that are
due and tells what became of them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.sandbox.github_ground import Ground
from app.sandbox.github_shapes import Json
from app.sandbox.github_values import ApiError

RETENTION = timedelta(days=3)
UNASKED = frozenset({"ping", "installation", "installation_repositories"})  # sent without a subscription


class Mishap(StrEnum):
    """What goes wrong with a delivery."""

    VANISH = "vanish"  # never made: the log knows nothing of it
    UNREACHABLE = "unreachable"  # logged as failed, never arrived
    LATE = "late"  # arrives after ``seconds``, throttled
    TWICE = "twice"  # arrives, and again ``seconds`` later under the same GUID
    HELD = "held"  # arrives when released
    CHANGED = "changed"  # arrives with another payload


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFault:
    """One thing that goes wrong with the next event."""

    mishap: Mishap
    seconds: float = 0.0
    change: Callable[[Json], Json] = lambda payload: payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """How often things go wrong by chance; what is left over arrives at once."""

    vanish: float = 0.0
    unreachable: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    longest: float = 300.0  # seconds that a late or second delivery may take


@dataclass(slots=True, kw_only=True)
class Hook:
    """Where deliveries go."""

    id: int
    url: str
    secret: str = field(repr=False)
    target_type: str  # integration | repository | organization
    target_id: int
    owner: str = ""  # of a repository's or organization's hook: "owner/name" or "owner"
    content_type: str = "json"
    events: frozenset[str] = frozenset({"workflow_job"})


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver an event to a hook."""

    id: int = 0  # given when it was tried
    guid: str
    hook: Hook
    event: str
    action: str | None
    payload: Json
    due_at: datetime
    installation_id: int | None = None
    repository_id: int | None = None
    redelivery: bool = False
    throttled_at: datetime | None = None
    delivered_at: datetime | None = None  # tried
    status: str = ""
    status_code: int = 0
    duration: float = 0.0
    request_headers: dict[str, str] = field(default_factory=dict)
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str = ""

    @property
    def body(self) -> bytes:
        """Return the JSON that is sent and signed."""
        return json.dumps(self.payload, separators=(",", ":")).encode()


class Hooks:
    """The hooks, what is on its way to them, and what was tried."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.hooks: dict[int, Hook] = {}
        self.log: deque[Delivery] = deque()  # tried, oldest first
        self.faults: deque[HookFault] = deque()  # each is used up by one event
        self.chaos = Chaos()
        self.holding = False  # everything new waits for release()
        self.held: list[Delivery] = []
        self._outbox: list[Delivery] = []

    def add(self, url: str, **values: str | int | frozenset[str]) -> Hook:
        """Add a hook and return it, its secret made up."""
        secret = self._ground.keep(self._ground.hex(40))
        hook_id = self._ground.number("hook")
        # The keywords are those of Hook; a wrong one is a TypeError there.
        hook = Hook(id=hook_id, url=url, secret=secret, **values)  # type: ignore[arg-type]
        self.hooks[hook_id] = hook
        return hook

    def emit(
        self,
        hooks: Iterable[tuple[Hook, Json, int | None]],
        *,
        event: str,
        repository_id: int | None = None,
    ) -> None:
        """Send an event to *hooks*, each with its payload and installation id, minding what goes wrong."""
        guid = self._ground.guid()
        fault = self.faults.popleft() if self.faults else self._by_chance()
        for hook, payload, installation_id in hooks:
            if not hook.url or (event not in hook.events and event not in UNASKED):
                continue
            changed = fault.change(payload) if fault else payload
            action = changed.get("action")
            delivery = Delivery(
                guid=guid,
                hook=hook,
                event=event,
                action=action if isinstance(action, str) else None,
                payload=changed,
                due_at=self._ground.now(),
                installation_id=installation_id,
                repository_id=repository_id,
            )
            self._send(delivery, fault)
        self._ground.changed()

    def _by_chance(self) -> HookFault | None:
        chaos, throw = self.chaos, self._ground.rng.random()
        seconds = self._ground.rng.uniform(0, chaos.longest)
        for mishap in (Mishap.VANISH, Mishap.UNREACHABLE, Mishap.LATE, Mishap.TWICE):
            share: float = getattr(chaos, mishap)
            if throw < share:
                return HookFault(mishap=mishap, seconds=seconds)
            throw -= share
        return None

    def _send(self, delivery: Delivery, fault: HookFault | None) -> None:
        mishap = fault.mishap if fault else None
        later = delivery.due_at + timedelta(seconds=fault.seconds if fault else 0)
        match mishap:
            case Mishap.VANISH:
                return
            case Mishap.UNREACHABLE:
                self.record(delivery, status="failed to connect to host", status_code=502)
                return
            case Mishap.LATE:
                delivery.throttled_at, delivery.due_at = delivery.due_at, later
            case Mishap.TWICE:
                self._outbox.append(self._again(delivery, later))
            case _:
                pass
        waits = self.holding or mishap is Mishap.HELD
        (self.held if waits else self._outbox).append(delivery)

    def _again(self, delivery: Delivery, due_at: datetime) -> Delivery:
        return Delivery(
            guid=delivery.guid,
            hook=delivery.hook,
            event=delivery.event,
            action=delivery.action,
            payload=delivery.payload,
            due_at=due_at,
            installation_id=delivery.installation_id,
            repository_id=delivery.repository_id,
            redelivery=True,
        )

    def release(self, order: Iterable[int] | None = None) -> None:
        """Let go of what is held, in the given order of positions; without one, shuffled."""
        held, self.held, self.holding = self.held, [], False
        if order is None:
            self._ground.rng.shuffle(held)
        else:
            held = [held[position] for position in order]
        for delivery in held:
            delivery.due_at = self._ground.now()
        self._outbox += held
        self._ground.changed()

    def take(self) -> list[Delivery]:
        """Take the deliveries that are due, in the order in which they fell due; tell each one's fate after."""
        now = self._ground.now()
        due = [delivery for delivery in self._outbox if delivery.due_at <= now]
        self._outbox = [delivery for delivery in self._outbox if delivery.due_at > now]
        return sorted(due, key=lambda delivery: delivery.due_at)

    def next_due(self) -> datetime | None:
        """Return when the next delivery falls due."""
        return min((delivery.due_at for delivery in self._outbox), default=None)

    def record(
        self,
        delivery: Delivery,
        *,
        status: str = "OK",
        status_code: int = 0,
        duration: float = 0.0,
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> None:
        """Note what became of a delivery."""
        delivery.id, delivery.delivered_at = self._ground.number("delivery"), self._ground.now()
        delivery.status, delivery.status_code = status, status_code
        delivery.duration = round(duration, 2)
        delivery.response_headers, delivery.response_body = dict(headers or {}), body
        self.log.append(delivery)
        horizon = self._ground.now() - RETENTION
        while self.log and (self.log[0].delivered_at or horizon) < horizon:
            self.log.popleft()

    def page(
        self, hook: Hook, *, per_page: int, cursor: int | None, status: str | None
    ) -> tuple[list[Delivery], int | None]:
        """Return tried deliveries of *hook*, newest first, from *cursor* on, and the next page's cursor."""
        codes = {"success": range(200, 400), "failure": range(400, 600)}.get(status or "")
        horizon = self._ground.now() - RETENTION
        found = [
            delivery
            for delivery in reversed(self.log)
            if delivery.hook is hook
            and (delivery.delivered_at or horizon) >= horizon
            and (cursor is None or delivery.id <= cursor)
            and (codes is None or delivery.status_code in codes)
        ]
        rest = found[per_page : per_page + 1]
        return found[:per_page], rest[0].id if rest else None

    def delivery(self, hook: Hook, delivery_id: int) -> Delivery:
        """Return a tried delivery, or answer 404."""
        for delivery in self.log:
            if delivery.id == delivery_id and delivery.hook is hook:
                return delivery
        raise ApiError(404, "Not Found")

    def redeliver(self, hook: Hook, delivery_id: int) -> None:
        """Try a logged delivery once more, under its GUID."""
        self._outbox.append(self._again(self.delivery(hook, delivery_id), self._ground.now()))
        self._ground.changed()
