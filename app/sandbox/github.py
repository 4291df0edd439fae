"""A GitHub that keeps state: the one model behind the demo, the tests and the simulation.

It is pure state: no sockets, no threads, no clock but the one it is given. :mod:`app.sandbox.http` puts it
behind HTTP, :mod:`app.sandbox.direct` behind ``ports.GitHub``. Its parts are public, each with its own verbs:
``accounts`` (who is there, the App, tokens), ``workflows`` (runs and jobs), ``runners`` (registrations and
sessions), ``hooks`` (deliveries) and ``faults`` (what goes wrong). The verbs here are the ones that need several
parts, and the ones everybody needs. What time brings about happens in :meth:`ModelGitHub.tick`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from app.domain.pools import Target
from app.sandbox.github_accounts import Accounts, App, rsa_key
from app.sandbox.github_faults import Faults
from app.sandbox.github_ground import Ground
from app.sandbox.github_hooks import Hook, Hooks
from app.sandbox.github_manifest import Manifests
from app.sandbox.github_runners import Runners
from app.sandbox.github_shapes import Json, Shapes
from app.sandbox.github_values import AccountKind, Installation, Job, Repository
from app.sandbox.github_workflows import JobSpec, Workflows

API_URL = "https://api.github.com"
WEB_URL = "https://github.com"


class ModelGitHub:
    """All of the sandbox's GitHub."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        rng: random.Random,
        *,
        hook_url: str | None = "https://hook.example.org/webhooks/github",
        api_url: str = API_URL,
        web_url: str = WEB_URL,
    ) -> None:
        self.ground = Ground(clock, rng)
        self.shapes = Shapes(api_url, web_url)
        self.faults = Faults()
        self.accounts = Accounts(self.ground)
        self.hooks = Hooks(self.ground)
        self.manifests = Manifests(self.ground)
        self.workflows = Workflows(self.ground, self.accounts, self.hooks, self.shapes)
        self.runners = Runners(self.ground, self.accounts, self.workflows)
        # Without a hook URL the App has no webhook, as one that was just made.
        self.app_hook: Hook = self.hooks.add(
            hook_url or "", target_type="integration", target_id=self.accounts.app.id
        )
        if hook_url is None:
            self.app_hook.events = frozenset()

    def now(self) -> datetime:
        """Return the model's time."""
        return self.ground.now()

    def tick(self) -> None:
        """Let happen what is due by now: jobs put back or expired, runners reaped, locks lost."""
        self.ground.tick()

    def next_due(self) -> datetime | None:
        """Return when something next happens by itself: a timer, or a delivery that falls due."""
        times = [time for time in (self.ground.next_due(), self.hooks.next_due()) if time is not None]
        return min(times, default=None)

    def secrets(self) -> tuple[str, ...]:
        """Return every secret ever made here: keys, tokens, webhook secrets, JIT configurations and their keys."""
        return tuple(self.ground.secrets)

    def point_hook(self, url: str) -> None:
        """Point the App's webhook at *url*; from then on deliveries go there."""
        self.app_hook.url, self.app_hook.events = url, frozenset({"workflow_job"})

    def make_app(self, code: str) -> App:
        """Make the App that a person agreed to, with a hook of its own; answer 404 if *code* is good for none."""
        confirmed = self.manifests.take(code)
        events = tuple(confirmed.manifest["default_events"])
        app = App(
            id=self.ground.number("app"),
            client_id=f"Iv23li{self.ground.hex(14)}",
            slug=confirmed.slug,
            owner=confirmed.owner,
            key=rsa_key("app, by manifest"),
            permissions=dict(confirmed.manifest["default_permissions"]),
            events=events,
        )
        self.accounts.replace_app(app)
        hook = confirmed.manifest["hook_attributes"]
        self.app_hook.url, self.app_hook.target_id = hook["url"], app.id
        self.app_hook.secret = self.ground.keep(self.ground.hex(40))
        self.app_hook.content_type = "form"  # GitHub's documented default (docs/contracts/github.md §2.1)
        self.app_hook.events = frozenset(events if hook.get("active", True) else ())
        return app

    def add_hook(self, place: str) -> Hook:
        """Add a webhook to a repository (``owner/name``) or an organization (``owner``), for use with a PAT."""
        if "/" in place:
            target_id = self.accounts.repository(place).id
            kind = "repository"
        else:
            target_id, kind = self.accounts.account(place).id, "organization"
        return self.hooks.add(self.app_hook.url, target_type=kind, target_id=target_id, owner=place)

    def queue(
        self,
        repository: str,
        name: str = "build",
        labels: tuple[str, ...] = ("self-hosted",),
        seconds: float = 0.0,
        *,
        event: str = "push",
        head: Repository | None = None,
        group: str | None = None,
        script: str | None = None,
        always: str | None = None,
        outcome: str = "success",
        gated: bool = False,
    ) -> Job:
        """Start a run of one job and return the job. *head* is the fork a pull request comes from."""
        spec = JobSpec(
            name=name,
            labels=labels,
            seconds=seconds,
            group=group,
            script=script,
            always=always,
            outcome=outcome,
            gated=gated,
        )
        self.tick()
        return self.workflows.add_run(repository, [spec], event=event, head=head).jobs[0]

    def cancel(self, job: Job) -> None:
        """Cancel a job, whatever it does now."""
        self.tick()
        self.workflows.cancel(job)

    def ping(self) -> None:
        """Send a ping to the App's hook."""
        app = self.accounts.app
        config: Json = {"content_type": self.app_hook.content_type, "url": self.app_hook.url}
        hook: Json = {
            "type": "App",
            "id": self.app_hook.id,
            "name": "web",
            "active": True,
            "events": sorted(self.app_hook.events),
            "config": config | {"insecure_ssl": "0", "secret": "********"},
            "app_id": app.id,
        }
        payload: Json = {"zen": "Keep it logically awesome.", "hook_id": self.app_hook.id, "hook": hook}
        self.hooks.emit([(self.app_hook, payload, None)], event="ping")

    def rename(self, repository: Repository, name: str) -> None:
        """Rename a repository; its runners stay with it."""
        former = Target.parse(repository.full_name)
        self.accounts.rename(repository, name)
        for runner in self.runners.registrations.values():
            if runner.target == former:
                runner.target = Target.parse(repository.full_name)

    def suspend(self, installation: Installation) -> None:
        """Suspend an installation, and say so."""
        installation.suspended_at = self.now()
        self._tell_installation("suspend", installation)

    def unsuspend(self, installation: Installation) -> None:
        """Lift a suspension, and say so."""
        installation.suspended_at = None
        self._tell_installation("unsuspend", installation)

    def uninstall(self, installation: Installation) -> None:
        """Take the App off an account, and say so."""
        self.accounts.uninstall(installation)
        self._tell_installation("deleted", installation)

    def _tell_installation(self, action: str, installation: Installation) -> None:
        payload: Json = {
            "action": action,
            "installation": self.shapes.installation(installation, self.accounts.app),
            "sender": self.shapes.account(self.accounts.app.owner),
        }
        if installation.account.kind is AccountKind.ORGANIZATION:
            payload["organization"] = self.shapes.organization(installation.account)
        self.hooks.emit([(self.app_hook, payload, installation.id)], event="installation")
