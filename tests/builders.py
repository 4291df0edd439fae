"""Plain functions that build values, every default visible."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.jobs import Job, JobStatus, WorkflowJobEvent
from app.domain.pools import MACOS_VM, Names, Pool, Target
from app.domain.runners import Runner, RunnerState
from app.domain.world import (
    VM,
    Demand,
    GuestLook,
    Head,
    Host,
    HostLook,
    Registration,
    RegistrationsLook,
    VMState,
    World,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TARGET = Target("acme", "app")


def ago(**span: float) -> datetime:
    """Return the time so long before NOW: ``ago(seconds=5)``."""
    return NOW - timedelta(**span)


def a_pool(**changes: Any) -> Pool:
    values: dict[str, Any] = {
        "name": "mac",
        "labels": ("mac",),
        "image": "sequoia",
        "repositories": ("acme/*",),
        "network": "nat",
    }
    return Pool(**values | changes)


def a_runner(state: RunnerState = RunnerState.READY, **changes: Any) -> Runner:
    registered = state in {RunnerState.REGISTERED, RunnerState.IDLE, RunnerState.BUSY}
    values: dict[str, Any] = {
        "name": "mini-mac-aaaaaaaa",
        "slot": "1",
        "spec": a_pool(),
        "state": state,
        "since": ago(seconds=5),
        "created_at": ago(seconds=30),
        "target": TARGET if registered else None,
        "registration_id": 7 if registered else None,
        "delivered": registered,
    }
    return Runner(**values | changes)


def a_head(**changes: Any) -> Head:
    values: dict[str, Any] = {
        "id": 1,
        "queued_at": ago(seconds=20),
        "received_at": ago(seconds=19),
        "checked_at": ago(seconds=1),
        "fork": None,
    }
    return Head(**values | changes)


def a_demand(count: int = 1, **changes: Any) -> Demand:
    heads = changes.pop("heads", None)
    values: dict[str, Any] = {
        "pool": "mac",
        "repository": "acme/app",
        "organization": False,
        "private": True,
        "count": count,
        "heads": heads or tuple(a_head(id=n + 1) for n in range(min(count, 2))),
    }
    return Demand(**values | changes)


def a_vm(name: str = "mini-mac-aaaaaaaa", state: VMState = VMState.RUNNING, **changes: Any) -> VM:
    values: dict[str, Any] = {"takes": {MACOS_VM: 1} if state is VMState.RUNNING else {}}
    return VM(name=name, state=state, **values | changes)


def a_mac(**changes: Any) -> Host:
    return Host(**{"room": {MACOS_VM: 2}, "most": 2} | changes)


def a_host(*vms: VM, **changes: Any) -> HostLook:
    values: dict[str, Any] = {
        "at": ago(seconds=1),
        "vms": vms,
        "hosts": (a_mac(),),
        "free_disk_gb": 100.0,
        "images": frozenset({"sequoia"}),
    }
    return HostLook(**values | changes)


def a_registration(name: str = "mini-mac-aaaaaaaa", **changes: Any) -> Registration:
    values: dict[str, Any] = {"id": 7, "name": name, "online": True, "busy": False}
    return Registration(**values | changes)


def listing(*registrations: Registration, at: datetime | None = None) -> RegistrationsLook:
    return RegistrationsLook(at=at or ago(seconds=1), registrations=registrations)


def a_guest(**changes: Any) -> GuestLook:
    values: dict[str, Any] = {
        "at": ago(seconds=1),
        "delivered": True,
        "runner_alive": True,
        "worker_alive": False,
    }
    return GuestLook(**values | changes)


def a_world(**changes: Any) -> World:
    """Return a World; ``slots`` is how many VMs of ours its one Mac may run."""
    slots = changes.pop("slots", 2)
    values: dict[str, Any] = {"names": Names("mini"), "pools": (a_pool(),), "host": a_host()}
    world = World(**values | changes)
    if world.host is None or slots == 2:
        return world
    mac = a_mac(room={MACOS_VM: max(2, slots)}, most=slots)
    return replace(world, host=replace(world.host, hosts=(mac,)))


def an_event(status: JobStatus = JobStatus.QUEUED, **changes: Any) -> WorkflowJobEvent:
    values: dict[str, Any] = {
        "id": 1,
        "run_id": 10,
        "name": "build",
        "repository": "acme/app",
        "labels": ("self-hosted", "mac"),
        "status": status,
        "queued_at": ago(seconds=20),
    }
    return WorkflowJobEvent(**values | changes)


def a_job(status: JobStatus = JobStatus.QUEUED, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": 1,
        "run_id": 10,
        "run_attempt": 1,
        "name": "build",
        "workflow": "CI",
        "repository": "acme/app",
        "repository_id": 5,
        "organization": False,
        "private": True,
        "labels": ("self-hosted", "mac"),
        "status": status,
        "conclusion": None,
        "runner": None,
        "url": "https://github.com/acme/app/actions/runs/10/job/1",
        "queued_at": ago(seconds=20),
        "received_at": ago(seconds=19),
        "started_at": None,
        "completed_at": None,
        "pool": "mac",
    }
    return Job(**values | changes)
