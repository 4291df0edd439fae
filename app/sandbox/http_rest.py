"""The REST endpoints of the sandbox's GitHub (docs/contracts/github.md §13): one function each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import TypeVar

from app.domain.pools import Target
from app.sandbox.github_accounts import found
from app.sandbox.github_hooks import Delivery, Hook
from app.sandbox.github_links import stamp
from app.sandbox.github_shapes import Json
from app.sandbox.github_values import AccountKind, ApiError, Installation, Run
from app.sandbox.http_call import Call, Reply
from app.sandbox.runner import runner_archive

T = TypeVar("T")

RUN_LIMIT = 1000  # a filtered list of runs shows no more


def paged(call: Call, items: Sequence[T], shape: Callable[[T], Json], key: str | None) -> Reply:
    """Answer one page of *items*, with links to the others; *key* wraps it with a total count."""
    size = call.per_page()
    text = call.query("page") or "1"
    page = max(int(text), 1) if text.isdigit() else 1
    last = max(ceil(len(items) / size), 1)
    shown = [shape(item) for item in items[(page - 1) * size : page * size]]
    pages = {"prev": page - 1, "next": page + 1, "first": 1, "last": last}
    wanted = {"prev", "first"} if page > 1 else set()
    wanted |= {"next", "last"} if page < last else set()
    links = {rel: {"page": str(number)} for rel, number in pages.items() if rel in wanted}
    body = shown if key is None else {"total_count": len(items), key: shown}
    return Reply(body=body, headers=_links(call, links))


def _links(call: Call, links: dict[str, dict[str, str]]) -> dict[str, str]:
    url = call.request.url
    texts = [f'<{url.include_query_params(**query)}>; rel="{rel}"' for rel, query in links.items()]
    return {"link": ", ".join(texts)} if texts else {}


def target(call: Call) -> Target:
    """Return the organization or repository of the path."""
    if "org" in call.args:
        return Target(call.args["org"])
    return Target(call.args["owner"], call.args["repo"])


# -- the App ---------------------------------------------------------------------------------------


def answer_app(call: Call) -> Reply:
    """Answer the App."""
    accounts = call.model.accounts
    return Reply(body=call.model.shapes.app(accounts.app, len(accounts.installations)))


def answer_conversion(call: Call) -> Reply:
    """Answer a new App with its secrets, once."""
    app = call.model.make_app(call.args["code"])
    secrets = {
        "client_secret": call.model.ground.keep(call.model.ground.hex(40)),
        "webhook_secret": call.model.app_hook.secret,
        "pem": app.pem,
    }
    return Reply(status=201, body=call.model.shapes.app(app, 0) | secrets)


def answer_installations(call: Call) -> Reply:
    """Answer the App's installations."""
    found = list(call.model.accounts.installations.values())
    return paged(call, found, lambda item: _installation(call, item), None)


def _installation(call: Call, installation: Installation) -> Json:
    return call.model.shapes.installation(installation, call.model.accounts.app)


def answer_installation_of_account(call: Call) -> Reply:
    """Answer the installation on an account; asked for an organization, not for a user's."""
    organization = call.args.get("org")
    installation = call.model.accounts.installation_of(organization or call.args["username"])
    if organization is not None and installation.account.kind is not AccountKind.ORGANIZATION:
        raise ApiError(404, "Not Found")
    return Reply(body=_installation(call, installation))


def answer_installation_of_repository(call: Call) -> Reply:
    """Answer the installation that covers a repository."""
    accounts = call.model.accounts
    repository = accounts.repository(str(target(call)))
    installation = accounts.installation_of(repository.owner.login)
    if not installation.covers(repository):
        raise ApiError(404, "Not Found")
    return Reply(body=_installation(call, installation))


def answer_mint_token(call: Call) -> Reply:
    """Answer a fresh installation token."""
    narrowed = {
        key: call.body[key] for key in ("permissions", "repositories", "repository_ids") if key in call.body
    }
    if not isinstance(narrowed.get("permissions", {}), dict):
        raise ApiError(422, "Invalid request.\n\n'permissions' must be an object.")
    token = call.model.accounts.mint_token(call.number("installation_id"), **narrowed)
    return Reply(status=201, body=call.model.shapes.token(token))


def answer_installation_repositories(call: Call) -> Reply:
    """Answer the repositories that a token reaches."""
    token, accounts = call.token, call.model.accounts
    if token is None or token.installation is None:
        raise ApiError(403, "You must authenticate with an installation access token.")
    seen = [
        repository
        for repository in accounts.repositories.values()
        if token.installation.covers(repository)
        and (token.repositories is None or repository.id in token.repositories)
    ]
    return paged(call, seen, call.model.shapes.repository, "repositories")


# -- deliveries ------------------------------------------------------------------------------------


def _hook(call: Call) -> Hook:
    """Return the hook of the path; without one, the App's."""
    if "hook_id" not in call.args:
        return call.model.app_hook
    hook = found(call.model.hooks.hooks.get(call.number("hook_id")))
    if hook.owner.casefold() != str(target(call)).casefold():
        raise ApiError(404, "Not Found")
    return hook


def answer_hook_config(call: Call) -> Reply:
    """Answer the App's hook, after changing it where asked."""
    hook = call.model.app_hook
    if call.request.method == "PATCH":
        hook.url = str(call.body.get("url", hook.url))
        hook.content_type = str(call.body.get("content_type", hook.content_type))
        if "secret" in call.body:
            hook.secret = call.model.ground.keep(str(call.body["secret"]))
    config = {"url": hook.url, "content_type": hook.content_type, "insecure_ssl": "0"}
    return Reply(body=config | {"secret": "*" * 8})


def _delivery_item(delivery: Delivery) -> Json:
    return {
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": stamp(delivery.delivered_at),
        "redelivery": delivery.redelivery,
        "duration": delivery.duration,
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": delivery.installation_id,
        "repository_id": delivery.repository_id,
        "throttled_at": stamp(delivery.throttled_at),
    }


def answer_deliveries(call: Call) -> Reply:
    """Answer a page of the delivery log."""
    status, cursor = call.query("status"), call.query("cursor")
    if status not in {None, "success", "failure"}:
        raise ApiError(422, "Invalid request.\n\n'status' must be success or failure.")
    if cursor is not None and not (cursor.startswith("v1_") and cursor[3:].isdigit()):
        raise ApiError(422, "Invalid cursor")
    start = None if cursor is None else int(cursor[3:])
    shown, following = call.model.hooks.page(
        _hook(call), per_page=call.per_page(), cursor=start, status=status
    )
    links = {} if following is None else {"next": {"cursor": f"v1_{following}"}}
    return Reply(body=[_delivery_item(delivery) for delivery in shown], headers=_links(call, links))


def answer_delivery(call: Call) -> Reply:
    """Answer one delivery with request and response."""
    delivery = call.model.hooks.delivery(_hook(call), call.number("delivery_id"))
    request = {"headers": delivery.request_headers, "payload": delivery.payload}
    response = {"headers": delivery.response_headers, "payload": delivery.response_body or None}
    more = {"url": delivery.hook.url, "request": request, "response": response}
    return Reply(body=_delivery_item(delivery) | more)


def answer_redeliver(call: Call) -> Reply:
    """Answer that a delivery will be tried again."""
    call.model.hooks.redeliver(_hook(call), call.number("delivery_id"))
    return Reply(status=202, body={})


# -- runners ---------------------------------------------------------------------------------------


def answer_mint(call: Call) -> Reply:
    """Answer a new runner with its JIT configuration."""
    name, labels, group = (call.body.get(key) for key in ("name", "labels", "runner_group_id"))
    folder = call.body.get("work_folder", "_work")
    if not isinstance(name, str) or not isinstance(folder, str):
        raise ApiError(422, "Invalid request.\n\n'name' and 'work_folder' must be strings.")
    if not isinstance(group, int) or isinstance(group, bool):
        raise ApiError(422, "Invalid request.\n\n'runner_group_id' must be an integer.")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ApiError(422, "Invalid request.\n\n'labels' must be a list of strings.")
    runner, blob = call.model.runners.mint(
        target(call), name=name, labels=tuple(labels), group_id=group, work_folder=folder
    )
    body = {"runner": call.model.shapes.runner(runner), "encoded_jit_config": blob}
    return Reply(status=201, body=body)


def answer_runners(call: Call) -> Reply:
    """Answer a page of the runners at a target."""
    listed = call.model.runners.at(target(call), call.query("name"))
    return paged(call, listed, call.model.shapes.runner, "runners")


def answer_runner(call: Call) -> Reply:
    """Answer one runner."""
    runner = call.model.runners.get(target(call), call.number("runner_id"))
    return Reply(body=call.model.shapes.runner(runner))


def answer_deregister(call: Call) -> Reply:
    """Answer that a runner is removed."""
    call.model.runners.deregister(target(call), call.number("runner_id"))
    return Reply(status=204)


def answer_downloads(call: Call) -> Reply:
    """Answer the runner version that GitHub expects."""
    version = call.model.runners.expected.version
    name = f"actions-runner-osx-arm64-{version}.tar.gz"
    url = f"{call.model.shapes.web_url}/actions/runner/releases/download/v{version}/{name}"
    download = {"os": "osx", "architecture": "arm64", "download_url": url, "filename": name}
    checksum = hashlib.sha256(runner_archive(version)).hexdigest()
    return Reply(body=[download | {"sha256_checksum": checksum}])


def answer_release(call: Call) -> Reply:
    """Answer the one release there is: the newest of the actions runner."""
    expected = call.model.runners.expected
    if (str(target(call)), call.args["tag"]) != ("actions/runner", f"v{expected.version}"):
        raise ApiError(404, "Not Found")
    author = call.model.accounts.app.owner
    return Reply(body=call.model.shapes.runner_release(expected.version, expected.published_at, author))


def answer_groups(call: Call) -> Reply:
    """Answer the runner groups of an organization."""
    accounts, organization = call.model.accounts, call.args["org"]
    groups = list(found(accounts.groups.get(organization.casefold())).values())
    visible_to = call.query("visible_to_repository")
    if visible_to is not None:
        repository = accounts.repository(f"{organization}/{visible_to}")
        groups = [group for group in groups if group.admits(repository)]
    return paged(call, groups, lambda g: call.model.shapes.group(organization, g), "runner_groups")


def answer_make_group(call: Call) -> Reply:
    """Answer a new runner group."""
    accounts, organization, name = call.model.accounts, call.args["org"], call.body.get("name")
    if not isinstance(name, str) or not name:
        raise ApiError(422, "Invalid request.\n\n'name' must be a string.")
    groups = found(accounts.groups.get(organization.casefold()))
    if any(group.name == name for group in groups.values()):
        raise ApiError(409, f"A runner group named {name} already exists")
    group = accounts.add_group(
        organization,
        name,
        visibility=str(call.body.get("visibility", "all")),
        allows_public=bool(call.body.get("allows_public_repositories", False)),
    )
    group.repositories = set(call.body.get("selected_repository_ids", ()))
    return Reply(status=201, body=call.model.shapes.group(organization, group))


def answer_open_group(call: Call) -> Reply:
    """Answer that a group is open to other repositories from now on."""
    group = call.model.accounts.group(call.args["org"], call.number("runner_group_id"))
    group.repositories = set(call.body.get("selected_repository_ids", ()))
    return Reply(status=204)


def answer_group(call: Call) -> Reply:
    """Answer one runner group."""
    group = call.model.accounts.group(call.args["org"], call.number("runner_group_id"))
    return Reply(body=call.model.shapes.group(call.args["org"], group))


def answer_group_repositories(call: Call) -> Reply:
    """Answer the repositories of a selected group."""
    group = call.model.accounts.group(call.args["org"], call.number("runner_group_id"))
    repositories = [r for r in call.model.accounts.repositories.values() if r.id in group.repositories]
    return paged(call, repositories, call.model.shapes.repository, "repositories")


# -- workflows -------------------------------------------------------------------------------------


def answer_job(call: Call) -> Reply:
    """Answer one job."""
    job = call.model.workflows.jobs.get(call.number("job_id"))
    if job is None or not _here(call, job.run):
        raise ApiError(404, "Not Found")
    return Reply(body=call.model.shapes.job(job))


def _here(call: Call, run: Run) -> bool:
    return run.repository.full_name.casefold() == str(target(call)).casefold()


def _run_of(call: Call) -> Run:
    run = call.model.workflows.runs.get(call.number("run_id"))
    if run is None or not _here(call, run):
        raise ApiError(404, "Not Found")
    return run


def answer_run(call: Call) -> Reply:
    """Answer one run."""
    return Reply(body=call.model.shapes.run(_run_of(call)))


def answer_runs(call: Call) -> Reply:
    """Answer the runs of a repository, newest first; of ``created`` the one form that is asked with, ``>=`` a day."""
    status, event = call.query("status"), call.query("event")
    since = (call.query("created") or "").removeprefix(">=")
    runs: Iterable[Run] = reversed(call.model.workflows.runs.values())
    wanted = [
        run
        for run in runs
        if _here(call, run)
        and (status is None or status in {run.status, run.conclusion})
        and (event is None or run.event == event)
        and (stamp(run.created_at) or "") >= since
    ]
    return paged(call, wanted[:RUN_LIMIT], call.model.shapes.run, "workflow_runs")


def answer_run_jobs(call: Call) -> Reply:
    """Answer a run's jobs: of the latest attempt, or all."""
    run = _run_of(call)
    jobs = run.jobs if call.query("filter") != "all" else [*run.jobs, *run.earlier]
    return paged(call, jobs, call.model.shapes.job, "jobs")


# -- the rest --------------------------------------------------------------------------------------


def answer_rate_limit(call: Call) -> Reply:
    """Answer what is left of the quota; asking is free."""
    core = call.limits.overview(call.token.text if call.token else "")
    resources = {"core": core, "search": core, "actions_runner_registration": core}
    newer = call.request.headers.get("x-github-api-version") == "2026-03-10"
    call.limits.refund(call.token.text if call.token else None)
    return Reply(body={"resources": resources} | ({} if newer else {"rate": core}))


def answer_meta(call: Call) -> Reply:
    """Answer where deliveries come from."""
    del call
    return Reply(body={"verifiable_password_authentication": False, "hooks": ["127.0.0.0/8"]})


def answer_user(call: Call) -> Reply:
    """Answer whose token it is."""
    if call.token is None or call.token.installation is not None:
        raise ApiError(403, "Resource not accessible by integration")
    return Reply(body=call.model.shapes.public_user(call.token.account))
