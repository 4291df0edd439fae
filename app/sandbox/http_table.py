"""The table of the sandbox's REST endpoints: who may call what, with which permission."""

from __future__ import annotations

from collections.abc import Callable

from app.sandbox import http_rest as rest
from app.sandbox.http_call import Auth, Call, Endpoint, Reply

Needs = dict[str, str]
Row = tuple[str, str, str, Auth, Callable[[Call], Reply], Needs]


def endpoints() -> list[Endpoint]:
    """Return the table, in the order in which paths are tried."""
    jwt, token = Auth.JWT, Auth.TOKEN
    org_read, org_write = ({"organization_self_hosted_runners": level} for level in ("read", "write"))
    repo_read, repo_write = ({"administration": level} for level in ("read", "write"))
    actions = {"actions": "read"}
    app_deliveries, access_tokens = (
        "/app/hook/deliveries",
        "/app/installations/{installation_id}/access_tokens",
    )
    rows: list[Row] = [
        ("GET", "/app", "app", jwt, rest.answer_app, {}),
        ("POST", "/app-manifests/{code}/conversions", "conversion", Auth.NONE, rest.answer_conversion, {}),
        ("GET", "/app/hook/config", "hook_config", jwt, rest.answer_hook_config, {}),
        ("PATCH", "/app/hook/config", "hook_config", jwt, rest.answer_hook_config, {}),
        *_delivery_rows(app_deliveries, jwt, {}),
        *_delivery_rows(
            "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries", token, {"repository_hooks": "read"}
        ),
        *_delivery_rows("/orgs/{org}/hooks/{hook_id}/deliveries", token, {"organization_hooks": "read"}),
        ("GET", "/app/installations", "installations", jwt, rest.answer_installations, {}),
        ("POST", access_tokens, "token", jwt, rest.answer_mint_token, {}),
        ("GET", "/orgs/{org}/installation", "installation", jwt, rest.answer_installation_of_account, {}),
        (
            "GET",
            "/users/{username}/installation",
            "installation",
            jwt,
            rest.answer_installation_of_account,
            {},
        ),
        (
            "GET",
            "/repos/{owner}/{repo}/installation",
            "installation",
            jwt,
            rest.answer_installation_of_repository,
            {},
        ),
        (
            "GET",
            "/installation/repositories",
            "repositories",
            token,
            rest.answer_installation_repositories,
            {},
        ),
        *_runner_rows("/orgs/{org}/actions/runners", org_read, org_write),
        *_runner_rows("/repos/{owner}/{repo}/actions/runners", repo_read, repo_write),
        ("GET", "/orgs/{org}/actions/runner-groups", "groups", token, rest.answer_groups, org_read),
        (
            "POST",
            "/orgs/{org}/actions/runner-groups",
            "make_group",
            token,
            rest.answer_make_group,
            org_write,
        ),
        (
            "PUT",
            "/orgs/{org}/actions/runner-groups/{runner_group_id}/repositories",
            "open_group",
            token,
            rest.answer_open_group,
            org_write,
        ),
        (
            "GET",
            "/orgs/{org}/actions/runner-groups/{runner_group_id}",
            "group",
            token,
            rest.answer_group,
            org_read,
        ),
        (
            "GET",
            "/orgs/{org}/actions/runner-groups/{runner_group_id}/repositories",
            "group_repositories",
            token,
            rest.answer_group_repositories,
            org_read,
        ),
        ("GET", "/repos/{owner}/{repo}/actions/jobs/{job_id}", "job", token, rest.answer_job, actions),
        ("GET", "/repos/{owner}/{repo}/actions/runs", "runs", token, rest.answer_runs, actions),
        ("GET", "/repos/{owner}/{repo}/actions/runs/{run_id}", "run", token, rest.answer_run, actions),
        (
            "GET",
            "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
            "run_jobs",
            token,
            rest.answer_run_jobs,
            actions,
        ),
        ("GET", "/repos/{owner}/{repo}/releases/tags/{tag}", "release", Auth.NONE, rest.answer_release, {}),
        ("GET", "/rate_limit", "rate_limit", token, rest.answer_rate_limit, {}),
        ("GET", "/meta", "meta", Auth.NONE, rest.answer_meta, {}),
        ("GET", "/user", "user", token, rest.answer_user, {}),
    ]
    return [_endpoint(row) for row in rows]


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
