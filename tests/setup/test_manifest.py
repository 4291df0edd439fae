"""What the first form means, and what is asked of GitHub."""

from __future__ import annotations

import pytest

from app.setup.manifest import NO_WEBHOOK, Mistake, Place, app_name, read_public_url, read_wish

ORGANIZATION = {"organization_self_hosted_runners": "write", "actions": "read", "metadata": "read"}
REPOSITORY = {"administration": "write", "actions": "read", "metadata": "read"}


@pytest.mark.parametrize(
    ("form", "permissions", "url"),
    [
        pytest.param(
            {"account": "organization", "owner": " acme "},
            ORGANIZATION,
            "https://github.com/organizations/acme/settings/apps/new?state=s",
            id="an organization gets the weaker permission",
        ),
        pytest.param(
            {"account": "organization", "owner": "acme", "scope": "repository"},
            REPOSITORY,
            "https://github.com/organizations/acme/settings/apps/new?state=s",
            id="an organization's single repositories need administration",
        ),
        pytest.param(
            {"account": "user", "owner": "ignored", "scope": "organization"},
            REPOSITORY,
            "https://github.com/settings/apps/new?state=s",
            id="one's own account has repositories alone",
        ),
        pytest.param(
            {"account": "organization", "owner": "acme", "github": "ghe.example.org/"},
            ORGANIZATION,
            "https://ghe.example.org/organizations/acme/settings/apps/new?state=s",
            id="a server of one's own, without a scheme",
        ),
    ],
)
def test_what_is_asked_for(form: dict[str, str], permissions: dict[str, str], url: str) -> None:
    """The least permissions, one event, a private App, at the right place."""
    wish = read_wish(form)
    manifest = wish.manifest(name="macs", redirect_url="http://127.0.0.1:1/x/callback")
    assert wish.form_url("s") == url
    assert manifest["default_permissions"] == permissions
    assert manifest["default_events"] == ["workflow_job"]
    assert manifest["public"] is False
    assert manifest["hook_attributes"] == {"url": NO_WEBHOOK, "active": True}
    assert "setup_url" not in manifest


@pytest.mark.parametrize(
    ("form", "field"),
    [
        pytest.param({}, "owner", id="no organization"),
        pytest.param({"owner": "https://github.com/acme"}, "owner", id="a link for a name"),
        pytest.param({"owner": "a/b"}, "owner", id="a repository for a name"),
        pytest.param({"owner": "a", "github": "http://ghe.example.org"}, "github", id="plain http"),
        pytest.param({"owner": "a", "github": "https://github.com/acme"}, "github", id="more than a host"),
        pytest.param({"owner": "a", "github": "https://a b"}, "github", id="no host"),
        pytest.param({"owner": "a", "github": "https://h:port"}, "github", id="no port"),
        pytest.param({"owner": "a", "github": "javascript:alert(1)"}, "github", id="a script"),
        pytest.param({"owner": "a", "public_url": "http://localhost:8000"}, "public_url", id="loopback"),
        pytest.param({"owner": "a", "public_url": "https://h/?token=1"}, "public_url", id="a query"),
    ],
)
def test_mistakes_name_their_field(form: dict[str, str], field: str) -> None:
    """What cannot be meant is turned away where it stands."""
    with pytest.raises(Mistake) as caught:
        read_wish(form)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", None),
        ("hook.example.org", "https://hook.example.org"),
        ("https://hook.example.org/webhooks/github", "https://hook.example.org"),
        ("https://hook.example.org/mac/", "https://hook.example.org/mac"),
    ],
)
def test_the_public_url_is_read_with_and_without_the_path(text: str, meant: str | None) -> None:
    """People paste either."""
    assert read_public_url({"public_url": text}) == meant


@pytest.mark.parametrize(
    ("web", "api", "version"),
    [
        ("https://github.com", "https://api.github.com", "2026-03-10"),
        ("https://ghe.example.org", "https://ghe.example.org/api/v3", "2022-11-28"),
        ("https://octo.ghe.com", "https://api.octo.ghe.com", "2026-03-10"),
    ],
)
def test_places(web: str, api: str, version: str) -> None:
    """Each GitHub has its API where GitHub's documentation says, and is known again by it."""
    place = Place(web)
    assert (place.api_url, place.api_version) == (api, version)
    assert Place.of_api(api) == place


def test_the_apps_name_fits() -> None:
    """However long the Mac's name is, GitHub takes the App's."""
    assert app_name("mini", "ab12") == "cidermill-mini-ab12"
    assert len(app_name("m" * 20, "ab12")) <= 34
