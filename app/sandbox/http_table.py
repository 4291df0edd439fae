"""The table of the sandbox's REST endpoints: who may call what, with which permission."""

from __future__ import annotations

from collections.abc import Callable

from app.sandbox import http_rest as rest
from app.sandbox.http_call import Auth, Call, Endpoint, Reply

Needs = dict[str, str]
Row = tuple[str, str, str, Auth, Callable[[Call], Reply], Needs]


def endpoints() -> list[Endpoint]:
    """Return the table, in the order in which paths are tried."""
    return [_endpoint(row) for row in (*_app_rows(), *_account_rows(), *_job_rows(), *_other_rows())]


def _app_rows() -> list[Row]:
    """Return what an App asks as itself, and the hooks' deliveries."""
    jwt, token = Auth.JWT, Auth.TOKEN
    of_account, of_repository = rest.answer_installation_of_account, rest.answer_installation_of_repository
    access_tokens = "/app/installations/{installation_id}/access_tokens"
    of_hooks = "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries"
    return [
        ("GET", "/app", "app", jwt, rest.answer_app, {}),
        ("POST", "/app-manifests/{code}/conversions", "conversion", Auth.NONE, rest.answer_conversion, {}),
        ("GET", "/app/hook/config", "hook_config", jwt, rest.answer_hook_config, {}),
        ("PATCH", "/app/hook/config", "hook_config", jwt, rest.answer_hook_config, {}),
        *_delivery_rows("/app/hook/deliveries", jwt, {}),
        *_delivery_rows(of_hooks, token, {"repository_hooks": "read"}),
        *_delivery_rows("/orgs/{org}/hooks/{hook_id}/deliveries", token, {"organization_hooks": "read"}),
        ("GET", "/app/installations", "installations", jwt, rest.answer_installations, {}),
        ("POST", access_tokens, "token", jwt, rest.answer_mint_token, {}),
        ("GET", "/orgs/{org}/installation", "installation", jwt, of_account, {}),
        ("GET", "/users/{username}/installation", "installation", jwt, of_account, {}),
        ("GET", "/repos/{owner}/{repo}/installation", "installation", jwt, of_repository, {}),
    ]


def _account_rows() -> list[Row]:
    """Return what concerns an account's repositories, runners and runner groups."""
    token, seen = Auth.TOKEN, rest.answer_installation_repositories
    org_read, org_write = ({"organization_self_hosted_runners": level} for level in ("read", "write"))
    repo_read, repo_write = ({"administration": level} for level in ("read", "write"))
    groups = "/orgs/{org}/actions/runner-groups"
    group, admitted = f"{groups}/{{runner_group_id}}", f"{groups}/{{runner_group_id}}/repositories"
    return [
        ("GET", "/installation/repositories", "repositories", token, seen, {}),
        *_runner_rows("/orgs/{org}/actions/runners", org_read, org_write),
        *_runner_rows("/repos/{owner}/{repo}/actions/runners", repo_read, repo_write),
        ("GET", groups, "groups", token, rest.answer_groups, org_read),
        ("POST", groups, "make_group", token, rest.answer_make_group, org_write),
        ("PUT", admitted, "open_group", token, rest.answer_open_group, org_write),
        ("GET", group, "group", token, rest.answer_group, org_read),
        ("GET", admitted, "group_repositories", token, rest.answer_group_repositories, org_read),
    ]


def _job_rows() -> list[Row]:
    """Return what concerns jobs and their runs."""
    token, needs, actions = Auth.TOKEN, {"actions": "read"}, "/repos/{owner}/{repo}/actions"
    return [
        ("GET", f"{actions}/jobs/{{job_id}}", "job", token, rest.answer_job, needs),
        ("GET", f"{actions}/runs", "runs", token, rest.answer_runs, needs),
        ("GET", f"{actions}/runs/{{run_id}}", "run", token, rest.answer_run, needs),
        ("GET", f"{actions}/runs/{{run_id}}/jobs", "run_jobs", token, rest.answer_run_jobs, needs),
    ]


def _other_rows() -> list[Row]:
    """Return what concerns GitHub itself, and who asks."""
    token, nobody = Auth.TOKEN, Auth.NONE
    return [
        ("GET", "/repos/{owner}/{repo}/releases/tags/{tag}", "release", nobody, rest.answer_release, {}),
        ("GET", "/rate_limit", "rate_limit", token, rest.answer_rate_limit, {}),
        ("GET", "/meta", "meta", nobody, rest.answer_meta, {}),
        ("GET", "/user", "user", token, rest.answer_user, {}),
    ]


def _delivery_rows(path: str, auth: Auth, needs: Needs) -> list[Row]:
    one = f"{path}/{{delivery_id}}"
    return [
        ("GET", path, "deliveries", auth, rest.answer_deliveries, needs),
        ("GET", one, "delivery", auth, rest.answer_delivery, needs),
        ("POST", f"{one}/attempts", "redeliver", auth, rest.answer_redeliver, needs),
    ]


def _runner_rows(path: str, read: Needs, write: Needs) -> list[Row]:
    token, one = Auth.TOKEN, f"{path}/{{runner_id}}"
    return [
        ("POST", f"{path}/generate-jitconfig", "mint", token, rest.answer_mint, write),
        ("GET", f"{path}/downloads", "downloads", token, rest.answer_downloads, read),
        ("GET", path, "registrations", token, rest.answer_runners, read),
        ("GET", one, "registration", token, rest.answer_runner, read),
        ("DELETE", one, "deregister", token, rest.answer_deregister, write),
    ]


def _endpoint(row: Row) -> Endpoint:
    method, path, verb, auth, answer, needs = row
    return Endpoint(method=method, path=path, verb=verb, auth=auth, answer=answer, needs=needs)
