"""A small GitHub for the sandbox's tests: an organization with two repositories, a user with one."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

import jwt

from app.domain.pools import Target
from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Delivery
from app.sandbox.github_values import Job, Session

LABELS = ("self-hosted", "macOS")
ACME = Target("acme")
APP = Target("acme", "app")


def a_github(clock: Callable[[], datetime], seed: int = 1) -> ModelGitHub:
    """Return acme (app, private; site, public) and ada (tool), the App installed on both."""
    model = ModelGitHub(clock, random.Random(seed))  # a simulation's chance
    model.accounts.add_organization("acme")
    model.accounts.add_repository("acme/app")
    model.accounts.add_repository("acme/site", visibility="public")
    model.accounts.add_user("ada")
    model.accounts.add_repository("ada/tool")
    model.accounts.install("acme")
    model.accounts.install("ada")
    return model


def a_blob(
    model: ModelGitHub, name: str = "mini-1", target: Target = ACME, labels: tuple[str, ...] = LABELS
) -> str:
    return model.runners.mint(target, name=name, labels=labels, group_id=1)[1]


def connected(
    model: ModelGitHub, name: str = "mini-1", target: Target = ACME, labels: tuple[str, ...] = LABELS
) -> Session:
    """Register a runner and connect it."""
    return model.runners.connect(a_blob(model, name, target, labels))


def running(model: ModelGitHub, name: str = "mini-1") -> tuple[Session, Job]:
    """Return a runner that runs a job of acme/app."""
    model.queue("acme/app", labels=LABELS)
    session = connected(model, name)
    return session, model.runners.start(session)


def app_jwt(model: ModelGitHub, **claims: object) -> str:
    """Return the App's JWT, good unless *claims* say otherwise."""
    now = int(model.now().timestamp())
    good: dict[str, object] = {"iss": str(model.accounts.app.id), "iat": now - 60, "exp": now + 540}
    return jwt.encode(good | claims, model.accounts.app.key, algorithm="RS256")


def told(model: ModelGitHub) -> list[Delivery]:
    """Take what is due, as delivered."""
    taken = model.hooks.take()
    for delivery in taken:
        model.hooks.record(delivery, status_code=202)
    return taken


def actions(model: ModelGitHub) -> list[tuple[str, str]]:
    """Take what is due, as (action, status of the job)."""
    return [(d.payload["action"], d.payload["workflow_job"]["status"]) for d in told(model)]
