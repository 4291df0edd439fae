"""The whole of the setup over its pages, and every wrong turn on the way."""

from __future__ import annotations

import logging
import re
import stat
from html import unescape
from pathlib import Path

import pytest

from app.configfile import load
from app.sandbox import github_faults as fault
from app.sandbox.github import ModelGitHub
from app.setup.manifest import NO_WEBHOOK
from app.setup.serve import how_to_go_on
from tests.setup.conftest import FORM, POOL, Person, field


async def install(person: Person, *names: str) -> None:
    accounts = person.model.accounts
    form = {"which": "selected", "repository": list(names)}
    answer = await person.github.post(f"/apps/{accounts.app.slug}/installations/new", data=form)
    assert answer.status_code == 200


def secrets_shown(model: ModelGitHub, text: str) -> list[str]:
    """Return the secrets in a text, but for codes, which the browser carries and which are good once."""
    return [secret for secret in (model.accounts.app.pem, model.app_hook.secret) if secret in text]


@pytest.mark.parametrize("is_mac", [True, False], ids=["a Mac", "Linux"])
async def test_the_end_says_how_to_go_on(model: ModelGitHub, tmp_path: Path, is_mac: bool) -> None:
    """Where the dashboard will be, and how to start: under launchd where there is one."""
    person = Person(model, tmp_path, is_mac=is_mac)
    async with person.here, person.github:
        done = unescape((await person.open("done")).text)
    told = how_to_go_on("http://127.0.0.1:8000", is_mac=is_mac)
    for said in (done, told):
        assert "http://127.0.0.1:8000" in said
        assert "cidermill serve" in said
        assert ("cidermill service install" in said) is is_mac


async def test_the_whole_way(person: Person, caplog: pytest.LogCaptureFixture) -> None:
    """From nothing to a configuration that loads; the App as asked for, its hook as JSON, no secret shown."""
    caplog.set_level(logging.DEBUG)
    shown = [(await person.open()).text]
    back = await person.make_app()
    assert (back.status_code, back.headers["location"]) == (303, f"{person.base}install")
    waiting = await person.open("install")
    assert "Waiting for GitHub" in waiting.text
    mark = (await person.open("installed")).json()["mark"]
    await install(person, "acme/app")
    assert (await person.open("installed")).json()["mark"] != mark
    installed, proposed = await person.open("install"), await person.open("pool")
    assert "Installed on acme" in installed.text
    assert 'value="acme/app" checked' in proposed.text
    written = await person.post("pool", POOL)
    assert written.status_code == 303
    done = await person.open("done")
    assert "<h1>Ready</h1>" in done.text
    await person.post("finish", {})
    assert person.finished
    settings, model = load({"CIDERMILL_STATE_DIR": str(person.home)}, person.home), person.model
    assert settings.github_app_id == str(model.accounts.app.id)
    assert settings.private_key() == model.accounts.app.pem
    assert settings.webhook_secrets == (model.app_hook.secret,)
    assert settings.public_url == "https://hook.example.org"
    assert [(p.name, p.repositories) for p in settings.pools] == [("mac", ("acme/app",))]
    assert (model.app_hook.url, model.app_hook.content_type) == (
        "https://hook.example.org/webhooks/github",
        "json",
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in person.home.iterdir()} == {0o600}
    shown += [page.text for page in (waiting, installed, proposed, done)]
    assert secrets_shown(model, "".join(shown) + caplog.text) == []
    assert person.seen.violations == []


async def test_the_runner_group(person: Person) -> None:
    """It admits the pool's repositories alone, public ones if there are any, and follows the pool."""
    await person.make_app()
    await install(person, "acme/app", "acme/site")
    await person.post("pool", POOL)
    accounts = person.model.accounts
    (group,) = [group for group in accounts.groups["acme"].values() if not group.default]
    assert (group.name, group.visibility, group.allows_public) == ("cidermill-mac", "selected", False)
    assert group.repositories == {accounts.repository("acme/app").id}
    assert 'runner_group = "cidermill-mac"' in person.toml()
    await person.post("pool", POOL | {"repository": "acme/*"})
    assert group.repositories == {accounts.repository(name).id for name in ("acme/app", "acme/site")}
    assert len(accounts.groups["acme"]) == 2


async def test_a_runner_group_with_public_repositories(person: Person) -> None:
    """A public repository would wait for ever in a group that keeps public ones out."""
    await person.make_app()
    await install(person, "acme/site")
    await person.post("pool", POOL | {"repository": "acme/site"})
    assert [g.allows_public for g in person.model.accounts.groups["acme"].values()] == [False, True]


async def test_a_runner_group_that_github_refuses(person: Person) -> None:
    """The pool is written all the same, and the end says what is to be done."""
    await person.make_app()
    await install(person, "acme/app")
    person.model.faults.add("make_group", fault.answer(403, "Not available on this plan"))
    await person.post("pool", POOL)
    assert "runner_group =" not in person.toml().split("[[pool]]")[1].replace("# Example: runner_group", "")
    assert "There is no runner group for the pool" in (await person.open("done")).text


async def test_a_runner_group_that_somebody_chose(person: Person) -> None:
    """It stays, and none is made."""
    chosen = 'name = "mac"\nlabels = ["x"]\nimage = "i"\nrepositories = ["acme/app"]\nrunner_group = "ours"\n'
    person.home.joinpath("cidermill.toml").write_text(f"[[pool]]\n{chosen}")
    await person.make_app()
    await install(person, "acme/app")
    await person.post("pool", POOL)
    assert 'runner_group = "ours"' in person.toml()
    assert len(person.model.accounts.groups["acme"]) == 1


async def test_ones_own_account(person: Person) -> None:
    """A user's App belongs to the user, needs administration, and the pool registers at repositories."""
    person.model.accounts.add_repository("sandbox-maintainer/tool")
    await person.make_app({"account": "user"})
    await install(person, "sandbox-maintainer/tool")
    await person.post("pool", POOL | {"repository": "sandbox-maintainer/tool"})
    app = person.model.accounts.app
    assert (app.owner.login, app.permissions["administration"]) == ("sandbox-maintainer", "write")
    assert 'scope = "repository"' in person.toml()
    assert person.model.app_hook.url == NO_WEBHOOK


async def test_a_github_enterprise_server(model: ModelGitHub, tmp_path: Path) -> None:
    """Everything goes to the server, by the version of the API that it knows."""
    person = Person(model, tmp_path, base_path="/api/v3")
    model.shapes.api_url, model.shapes.web_url = "https://ghe.example.org/api/v3", "https://ghe.example.org"
    async with person.here, person.github:
        review = await person.post("app", FORM | {"github": "https://ghe.example.org"})
        assert "form-action 'self' https://ghe.example.org" in review.headers["content-security-policy"]
        assert (await person.make_app(FORM | {"github": "https://ghe.example.org"})).status_code == 303
        await install(person, "acme/app")
        assert "https://ghe.example.org/apps/" in (await person.open("install")).text
        await person.post("pool", POOL)
    settings = load({"CIDERMILL_STATE_DIR": str(tmp_path)}, tmp_path)
    assert settings.github_api_url == "https://ghe.example.org/api/v3"
    assert settings.github_api_version == "2022-11-28"


@pytest.mark.parametrize("state", ["", "forged", "\u00fc"])
async def test_a_wrong_state_changes_nothing(person: Person, state: str) -> None:
    """Whoever comes with another state is turned away, and the true one still comes through."""
    back = await person.agree()
    wrong = await person.here.get(back.copy_set_param("state", state))
    assert wrong.status_code == 400
    assert "does not belong to a question" in wrong.text
    assert list(person.home.iterdir()) == []
    assert (await person.here.get(back)).status_code == 303


async def test_an_answer_to_no_question(person: Person) -> None:
    """Before anything was asked there is no state that fits."""
    assert (await person.open("callback?code=x&state=")).status_code == 400


async def test_coming_back_twice_is_once(person: Person) -> None:
    """A page that is loaded again goes on; the App that was made stays."""
    back = await person.agree()
    first, second = await person.here.get(back), await person.here.get(back)
    assert (first.status_code, second.status_code) == (303, 303)
    assert f"GITHUB_APP_ID={person.model.accounts.app.id}\n" in person.env()


async def test_a_code_that_is_used_up(person: Person) -> None:
    """Exchanged elsewhere, or too old: told so, nothing stored, and a new beginning works."""
    back = await person.agree()
    person.model.make_app(back.params["code"])
    used = await person.here.get(back)
    assert used.status_code == 502
    assert "used already, or is older than an hour" in used.text
    assert not (person.home / ".env").exists()
    assert (await person.make_app()).status_code == 303


async def test_a_github_that_is_away_for_a_moment(person: Person) -> None:
    """The code is still good: the same page, loaded again, goes on."""
    back = await person.agree()
    person.model.faults.add("conversion", fault.answer(503))
    away = await person.here.get(back)
    assert (away.status_code, "Try again" in away.text) == (502, True)
    assert (await person.here.get(back)).status_code == 303


async def test_left_and_taken_up_again(person: Person, tmp_path: Path) -> None:
    """The next run finds the App, and goes on with it; the key is not asked for again."""
    await person.make_app()
    again = Person(person.model, tmp_path)
    async with again.here, again.github:
        start = await again.open()
        assert "There is an App already" in start.text
        assert person.model.accounts.app.slug in (await again.open("install")).text


async def test_no_app_yet(person: Person) -> None:
    """A page that needs the App leads to where it is made."""
    answer = await person.open("install")
    assert (answer.status_code, answer.headers["location"]) == (303, person.base)


async def test_nothing_is_asked_where_nothing_can_be_stored(model: ModelGitHub, tmp_path: Path) -> None:
    """The key is shown once, so a folder that cannot be written is told before GitHub is asked."""
    (tmp_path / "file").touch()
    person = Person(model, tmp_path / "file" / "state")
    async with person.here, person.github:
        answer = await person.post("app", FORM)
    assert answer.status_code == 500
    assert f"{tmp_path}/file/state cannot be written" in answer.text
    assert 'name="manifest"' not in answer.text


async def test_a_disk_that_fills_up_costs_another_try(person: Person) -> None:
    """What GitHub shows once is kept until it can be stored; nothing is exchanged twice."""
    back = await person.agree()
    (person.home / ".env").mkdir()
    full = await person.here.get(back)
    assert full.status_code == 500
    assert "Store it again" in full.text
    (person.home / ".env").rmdir()
    stored = await person.post("store", {})
    assert stored.headers["location"] == f"{person.base}install"
    assert f"GITHUB_APP_ID={person.model.accounts.app.id}\n" in person.env()
    assert sum(path == "/app-manifests/{code}/conversions" for _, path, _ in person.seen.checked) == 1


async def test_beginning_again_after_a_full_disk(person: Person) -> None:
    """The next App is another one: what was kept of the one before is let go."""
    back = await person.agree()
    (person.home / ".env").mkdir()
    await person.here.get(back)
    (person.home / ".env").rmdir()
    first = person.model.accounts.app.id
    assert (await person.make_app()).status_code == 303
    assert person.model.accounts.app.id != first
    assert f"GITHUB_APP_ID={person.model.accounts.app.id}\n" in person.env()


async def test_what_is_there_stays(person: Person) -> None:
    """Other settings and comments stay; what would contradict the App becomes a comment; the old key stays."""
    person.home.joinpath("app.pem").write_text("an older key")
    mine = "# mine\nCIDERMILL_SLOTS=1\nCIDERMILL_GITHUB_TOKEN=github_pat_old\n\n# the end\n"
    person.home.joinpath(".env").write_text(mine)
    await person.make_app()
    assert person.env().startswith(mine.replace("CIDERMILL_GITHUB_TOKEN", "# CIDERMILL_GITHUB_TOKEN"))
    assert person.home.joinpath("app.pem").read_text() == "an older key"
    assert person.flow.setting("github_private_key_path") == str(
        person.home / f"app-{person.model.accounts.app.id}.pem"
    )


async def test_the_environment_goes_before(model: ModelGitHub, tmp_path: Path) -> None:
    """A variable that would hide what was written is named."""
    person = Person(model, tmp_path, {"CIDERMILL_GITHUB_WEBHOOK_SECRET": "s" * 32})
    async with person.here, person.github:
        await person.make_app()
        page = await person.open("install")
    assert "CIDERMILL_GITHUB_WEBHOOK_SECRET is set in the environment" in page.text
    assert "s" * 32 not in page.text


@pytest.mark.parametrize(
    ("form", "says"),
    [
        pytest.param({"repository": ""}, "Choose one repository at least", id="nobody may use it"),
        pytest.param({"labels": "macOS"}, "name at least one label of your own", id="labels of any Mac"),
        pytest.param({"name": "Mac Mini"}, "use a-z, 0-9 and inner dashes", id="a name that cannot be"),
        pytest.param({"image": "-x"}, "name a local VM", id="an image that is an option"),
        pytest.param({"more": "acme"}, "", id="an owner alone"),
    ],
)
async def test_a_pool_that_cannot_be(person: Person, form: dict[str, str], says: str) -> None:
    """The settings' own rules, beside the field; nothing is written, nothing typed is lost."""
    await person.make_app()
    answer = await person.post("pool", {k: v for k, v in (POOL | form).items() if v})
    assert answer.status_code == 422
    assert says in answer.text
    assert 'class="wrong"' in answer.text
    assert not (person.home / "cidermill.toml").exists()


async def test_mistakes_on_the_first_form(person: Person) -> None:
    """They stand beside their field, and what was typed stays, harmless."""
    hostile = '"><script>alert(1)</script>'
    answer = await person.post("app", FORM | {"owner": hostile})
    assert answer.status_code == 422
    assert "Write the organization" in answer.text
    assert hostile not in answer.text
    assert field(answer.text, "owner") == hostile


async def test_a_hostile_repository_is_only_text(person: Person) -> None:
    """Names that GitHub tells are escaped wherever they show."""
    await person.make_app()
    person.model.accounts.add_repository("acme/<b>x")
    await install(person, "acme/<b>x")
    for page in ("install", "pool"):
        assert "<b>x" not in (await person.open(page)).text


async def test_pages_are_for_one_person(person: Person) -> None:
    """Without the link there is nothing, another name of the host is refused, and nothing is loaded from elsewhere."""
    page = await person.open()
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "strict-origin"
    assert page.headers["cache-control"] == "no-store"
    assert (await person.here.get("/")).status_code == 404
    assert (await person.here.get("/guess/")).status_code == 404
    rebound = await person.here.get(person.base, headers={"host": "evil.example"})
    assert rebound.status_code == 400
    files = re.findall(r'(?:src|href)="(/static/[^"]+)', (await person.open()).text)
    assert len(files) == 2
    for file in files:
        assert (await person.here.get(file)).status_code == 200
    assert (await person.here.get("/static/../web.py")).status_code == 404


async def test_a_form_of_any_size(person: Person) -> None:
    """A form is read up to a limit."""
    assert (await person.post("app", {"owner": "x" * 200_000})).status_code == 500


async def test_a_new_address_for_webhooks(person: Person) -> None:
    """GitHub is told, and public_url is set; everything else stays."""
    await person.make_app()
    before, secret = person.env(), person.model.app_hook.secret
    said = await person.flow.point_hook("https://new.example.org", rotate=False)
    assert person.model.app_hook.url == "https://new.example.org/webhooks/github"
    assert person.model.app_hook.secret == secret
    assert person.env() == before.replace("https://hook.example.org", "https://new.example.org")
    assert "new.example.org" in "".join(said)


async def test_a_new_secret(person: Person) -> None:
    """The former one stays accepted, the new one is GitHub's, and neither is told."""
    await person.make_app()
    former = person.model.app_hook.secret
    said = await person.flow.point_hook(None, rotate=True)
    new = person.model.app_hook.secret
    assert new != former
    assert person.flow.setting("github_webhook_secret") == new
    assert person.flow.setting("github_webhook_secret_previous") == former
    assert [secret for secret in (new, former) if secret in "".join(said)] == []


async def test_a_new_secret_that_github_did_not_take(person: Person) -> None:
    """Whether it did or not: both are accepted, and the former comes first."""
    await person.make_app()
    former = person.model.app_hook.secret
    for _ in range(3):
        person.model.faults.add("hook_config", fault.answer(503))
    with pytest.raises(Exception, match="503"):
        await person.flow.point_hook(None, rotate=True)
    assert person.flow.setting("github_webhook_secret") == former
    assert person.flow.setting("github_webhook_secret_previous") not in {None, former}


def test_a_manifest_that_github_would_refuse_is_none_of_ours() -> None:
    """The sandbox refuses what GitHub refuses, so that the tests above mean something."""
    from app.sandbox.github_manifest import read_manifest
    from app.sandbox.github_values import ApiError

    with pytest.raises(ApiError, match="missing"):
        read_manifest("{}")
    with pytest.raises(ApiError, match="not JSON"):
        read_manifest("{")
