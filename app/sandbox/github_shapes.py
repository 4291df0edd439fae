"""The JSON that the sandbox's GitHub speaks, in webhooks and in answers of its REST API.

The shapes follow GitHub's OpenAPI description and real deliveries; the tests compare them with both. Where
GitHub is inconsistent so are they: a job that ended without a runner has null here, 0 and "" there
(docs/contracts/github.md §1.2).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.sandbox.github_accounts import App
from app.sandbox.github_links import REPOSITORY_LINKS, USER_LINKS, node_id, stamp
from app.sandbox.github_values import (
    Account,
    AccountKind,
    Group,
    Installation,
    Job,
    Registration,
    Repository,
    Run,
    Token,
)

Json = dict[str, Any]  # JSON objects are as deep as GitHub makes them; their keys are the types

KNOWN_LABELS = frozenset({"self-hosted", "macos", "linux", "windows", "x64", "arm64", "arm"})
CREATED = "2024-01-02T03:04:05Z"  # when accounts and repositories say they were made


class Shapes:
    """Every JSON shape, with URLs below the two base URLs."""

    def __init__(self, api_url: str, web_url: str) -> None:
        self.api_url = api_url
        self.web_url = web_url

    def account(self, account: Account) -> Json:
        """Return a *simple user*."""
        url = f"{self.api_url}/users/{account.login}"
        return {
            "login": account.login,
            "id": account.id,
            "node_id": node_id("User", account.id),
            "avatar_url": f"{self.web_url}/avatars/u/{account.id}?v=4",
            "gravatar_id": "",
            "url": url,
            "html_url": f"{self.web_url}/{account.login}",
            **{key: url + path for key, path in USER_LINKS.items()},
            "type": account.kind.value,
            "site_admin": False,
        }

    def public_user(self, account: Account) -> Json:
        """Return the authenticated user."""
        texts = dict.fromkeys(("name", "company", "location", "email", "hireable", "bio"))
        counts = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
        times = {"blog": "", "created_at": CREATED, "updated_at": CREATED}
        return self.account(account) | texts | counts | times

    def organization(self, account: Account) -> Json:
        """Return the organization as deliveries carry it."""
        url = f"{self.api_url}/orgs/{account.login}"
        links = {f"{key}_url": f"{url}/{key}" for key in ("repos", "events", "hooks", "issues")}
        return {
            "login": account.login,
            "id": account.id,
            "node_id": node_id("Organization", account.id),
            "url": url,
            **links,
            "members_url": f"{url}/members{{/member}}",
            "public_members_url": f"{url}/public_members{{/member}}",
            "avatar_url": f"{self.web_url}/avatars/u/{account.id}?v=4",
            "description": "",
        }

    def runner_release(self, version: str, published_at: datetime, author: Account) -> Json:
        """Return a release of the actions runner."""
        number = int(version.replace(".", ""))
        url, web = f"{self.api_url}/repos/actions/runner", f"{self.web_url}/actions/runner"
        return {
            "id": number,
            "node_id": node_id("Release", number),
            "tag_name": f"v{version}",
            "target_commitish": "main",
            "name": f"v{version}",
            "body": "",
            "draft": False,
            "prerelease": False,
            "created_at": stamp(published_at),
            "published_at": stamp(published_at),
            "author": self.account(author),
            "assets": [],
            "url": f"{url}/releases/{number}",
            "assets_url": f"{url}/releases/{number}/assets",
            "upload_url": f"{url}/releases/{number}/assets{{?name,label}}",
            "html_url": f"{web}/releases/tag/v{version}",
            "tarball_url": f"{url}/tarball/v{version}",
            "zipball_url": f"{url}/zipball/v{version}",
        }

    def repository(self, repository: Repository) -> Json:
        """Return a full repository; GitHub's minimal one is a part of it."""
        url = f"{self.api_url}/repos/{repository.full_name}"
        html = f"{self.web_url}/{repository.full_name}"
        return {
            "id": repository.id,
            "node_id": node_id("Repository", repository.id),
            "name": repository.name,
            "full_name": repository.full_name,
            "private": repository.private,
            "owner": self.account(repository.owner),
            "html_url": html,
            "description": None,
            "fork": False,
            "url": url,
            **{key: url + path for key, path in REPOSITORY_LINKS.items()},
            **dict.fromkeys(("created_at", "updated_at", "pushed_at"), CREATED),
            "git_url": f"git:{html.partition(':')[2]}.git",
            "ssh_url": f"git@github.com:{repository.full_name}.git",
            "clone_url": f"{html}.git",
            "svn_url": html,
            **dict.fromkeys(("homepage", "language", "mirror_url", "license")),
            **dict.fromkeys(
                ("has_issues", "has_projects", "has_downloads", "has_wiki", "allow_forking"), True
            ),
            **dict.fromkeys(("has_discussions", "web_commit_signoff_required"), False),
            "custom_properties": {},
            **dict.fromkeys(("has_pages", "archived", "disabled", "is_template"), False),
            **dict.fromkeys(("size", "stargazers_count", "watchers_count", "forks_count"), 0),
            **dict.fromkeys(("open_issues_count", "forks", "open_issues", "watchers"), 0),
            "default_branch": "main",
            "topics": [],
            "visibility": repository.visibility,
        }

    def app(self, app: App, installations: int) -> Json:
        """Return the App."""
        return {
            "id": app.id,
            "client_id": app.client_id,
            "slug": app.slug,
            "node_id": node_id("App", app.id),
            "owner": self.account(app.owner),
            "name": app.slug,
            "description": None,
            "external_url": "https://example.org/",
            "html_url": f"{self.web_url}/apps/{app.slug}",
            "created_at": CREATED,
            "updated_at": CREATED,
            "permissions": app.permissions,
            "events": list(app.events),
            "installations_count": installations,
        }

    def installation(self, installation: Installation, app: App) -> Json:
        """Return an installation as the App sees it."""
        account, suspended = installation.account, installation.suspended_at
        place = "organizations/" + account.login if account.kind is AccountKind.ORGANIZATION else ""
        return {
            "id": installation.id,
            "client_id": app.client_id,
            "account": self.account(account),
            "repository_selection": "all" if installation.repositories is None else "selected",
            "access_tokens_url": f"{self.api_url}/app/installations/{installation.id}/access_tokens",
            "repositories_url": f"{self.api_url}/installation/repositories",
            "html_url": f"{self.web_url}/{place or '.'}/settings/installations/{installation.id}",
            "app_id": app.id,
            "app_slug": app.slug,
            "target_id": account.id,
            "target_type": account.kind.value,
            "permissions": installation.permissions,
            "events": list(installation.events),
            "created_at": stamp(installation.created_at),
            "updated_at": stamp(suspended or installation.created_at),
            "single_file_name": None,
            "has_multiple_single_files": False,
            "single_file_paths": [],
            "suspended_by": self.account(app.owner) if suspended else None,
            "suspended_at": stamp(suspended),
        }

    def token(self, token: Token) -> Json:
        """Return a freshly minted installation token."""
        return {
            "token": token.text,
            "expires_at": stamp(token.expires_at),
            "permissions": token.permissions,
            "repository_selection": "all" if token.repositories is None else "selected",
        }

    def runner(self, runner: Registration) -> Json:
        """Return a runner as the lists show it."""
        labels = [
            {
                "id": number,
                "name": label,
                "type": "read-only" if label.casefold() in KNOWN_LABELS else "custom",
            }
            for number, label in enumerate(runner.labels, 1)
        ]
        return {
            "id": runner.id,
            "name": runner.name,
            "os": runner.os,
            "status": "online" if runner.online else "offline",
            "busy": runner.busy,
            "ephemeral": True,
            "version": runner.version,
            "runner_group_id": runner.group.id,
            "labels": labels,
        }

    def group(self, organization: str, group: Group) -> Json:
        """Return a runner group."""
        url = f"{self.api_url}/orgs/{organization}/actions/runner-groups/{group.id}"
        selected = {"selected_repositories_url": f"{url}/repositories"}
        return {
            "id": group.id,
            "name": group.name,
            "visibility": group.visibility,
            "default": group.default,
            **(selected if group.visibility == "selected" else {}),
            "runners_url": f"{url}/runners",
            "hosted_runners_url": f"{url}/hosted-runners",
            "inherited": False,
            "allows_public_repositories": group.allows_public,
            "restricted_to_workflows": False,
            "selected_workflows": [],
            "workflow_restrictions_read_only": False,
        }

    def job(self, job: Job) -> Json:
        """Return a job; REST and webhooks show the same."""
        repository, run = job.run.repository, job.run
        url = f"{self.api_url}/repos/{repository.full_name}"
        html = f"{self.web_url}/{repository.full_name}/actions/runs/{run.id}/job/{job.id}"
        return {
            "id": job.id,
            "run_id": run.id,
            "workflow_name": run.workflow,
            "head_branch": run.head_branch,
            "run_url": f"{url}/actions/runs/{run.id}",
            "run_attempt": job.attempt,
            "node_id": node_id("CheckRun", job.id),
            "head_sha": run.head_sha,
            "url": f"{url}/actions/jobs/{job.id}",
            "html_url": html,
            "status": job.status,
            "conclusion": job.conclusion,
            "created_at": stamp(job.created_at),
            "started_at": stamp(job.started_at or job.created_at),
            "completed_at": stamp(job.completed_at),
            "name": job.name,
            "steps": _steps(job),
            "check_run_url": f"{url}/check-runs/{job.id}",
            "labels": list(job.labels),
            **_runner_of(job),
        }

    def run(self, run: Run) -> Json:
        """Return a run."""
        url = f"{self.api_url}/repos/{run.repository.full_name}"
        here, workflow = f"{url}/actions/runs/{run.id}", f"{url}/actions/workflows/{run.repository.id}"
        actor = self.account(run.repository.owner)
        person = {"name": "Sandbox", "email": "sandbox@example.org"}
        return {
            "id": run.id,
            "name": run.workflow,
            "node_id": node_id("WorkflowRun", run.id),
            "head_branch": run.head_branch,
            "head_sha": run.head_sha,
            "path": ".github/workflows/ci.yml",
            "display_title": f"{run.workflow} #{run.number}",
            "run_number": run.number,
            "event": run.event,
            "status": run.status,
            "conclusion": run.conclusion,
            "workflow_id": run.repository.id,
            "check_suite_id": run.id,
            "check_suite_node_id": node_id("CheckSuite", run.id),
            "url": here,
            "html_url": f"{self.web_url}/{run.repository.full_name}/actions/runs/{run.id}",
            "pull_requests": [],
            "created_at": stamp(run.created_at),
            "updated_at": stamp(run.updated_at),
            "actor": actor,
            "run_attempt": run.attempt,
            "referenced_workflows": [],
            "run_started_at": stamp(run.created_at),
            "triggering_actor": actor,
            "jobs_url": f"{here}/jobs",
            "logs_url": f"{here}/logs",
            "check_suite_url": f"{url}/check-suites/{run.id}",
            "artifacts_url": f"{here}/artifacts",
            "cancel_url": f"{here}/cancel",
            "rerun_url": f"{here}/rerun",
            "previous_attempt_url": f"{here}/attempts/{run.attempt - 1}" if run.attempt > 1 else None,
            "workflow_url": workflow,
            "head_commit": {
                "id": run.head_sha,
                "tree_id": run.head_sha,
                "message": "A change",
                "timestamp": stamp(run.created_at),
                "author": person,
                "committer": person,
            },
            "repository": self.repository(run.repository),
            "head_repository": self.repository(run.head_repository) if run.head_repository else None,
        }

    def trigger(self, run: Run) -> Json:
        """Return the payload of the event that started a run, as a job finds it at ``GITHUB_EVENT_PATH``."""
        home = self.repository(run.repository)
        common: Json = {"repository": home, "sender": self.account(run.repository.owner)}
        if not run.event.startswith("pull_request"):
            return common | {"ref": f"refs/heads/{run.head_branch}", "after": run.head_sha}
        head = self.repository(run.head_repository) | {"fork": run.fork} if run.head_repository else None
        pull: Json = {
            "number": run.number,
            "head": {"ref": run.head_branch, "sha": run.head_sha, "repo": head},
            "base": {"ref": "main", "repo": home},
        }
        return common | {"action": "synchronize", "number": run.number, "pull_request": pull}

    def job_delivery(self, action: str, job: Job) -> Json:
        """Return the payload of a ``workflow_job`` delivery, without what depends on the hook."""
        repository = job.run.repository
        owner = repository.owner
        organization = owner.kind is AccountKind.ORGANIZATION
        return {
            "action": action,
            "workflow_job": self.job(job),
            "repository": self.repository(repository),
            **({"organization": self.organization(owner)} if organization else {}),
            "sender": self.account(owner),
        }


def _runner_of(job: Job) -> Json:
    fields = ("runner_id", "runner_name", "runner_group_id", "runner_group_name")
    if job.runner_name is not None and job.runner is not None:
        group = job.runner.group
        return dict(zip(fields, (job.runner.id, job.runner_name, group.id, group.name), strict=True))
    # Without a runner: null while it may still get one; afterwards either way of saying so is seen.
    if job.status == "completed" and job.id % 2:
        return dict(zip(fields, (0, "", 0, ""), strict=True))
    return dict.fromkeys(fields)


def _steps(job: Job) -> list[Json]:
    if job.runner_name is None:
        return []
    over = job.status == "completed"
    names = ("Set up job", "Run the script", "Complete job") if over else ("Set up job",)
    return [
        {
            "name": name,
            "status": "completed" if over else "in_progress",
            "conclusion": (job.conclusion if number == len(names) - 1 else "success") if over else None,
            "number": number,
            "started_at": stamp(job.started_at),
            "completed_at": stamp(job.completed_at),
        }
        for number, name in enumerate(names, 1)
    ]
