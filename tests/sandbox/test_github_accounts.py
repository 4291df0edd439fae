"""The sandbox's GitHub: whom it believes, and what a token may do."""

from __future__ import annotations

import re

import jwt
import pytest

from app.sandbox.github_accounts import rsa_key
from app.sandbox.github_values import ApiError
from tests.conftest import Clock
from tests.sandbox.github_world import a_github, app_jwt


@pytest.mark.parametrize("issuer", ["id", "client id"])
def test_a_good_jwt(clock: Clock, issuer: str) -> None:
    """Either id of the App is accepted as issuer."""
    model = a_github(clock)
    app = model.accounts.app
    model.accounts.check_jwt(app_jwt(model, iss=str(app.id) if issuer == "id" else app.client_id))


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        pytest.param({"iss": "1"}, "Issuer", id="another App"),
        pytest.param({"iat": 61}, "Issued at", id="made in the future"),
        pytest.param({"exp": -1}, "the future time", id="expired"),
        pytest.param({"exp": 601}, "too far", id="good for more than ten minutes"),
        pytest.param({"exp": "soon"}, "decoded", id="an expiry that is no number"),
    ],
)
def test_a_bad_jwt(clock: Clock, claims: dict[str, object], text: str) -> None:
    """A JWT whose claims are not those of this App, now, answers 401 and says which."""
    model = a_github(clock)
    now = int(model.now().timestamp())
    moved = {key: now + value if isinstance(value, int) else value for key, value in claims.items()}
    with pytest.raises(ApiError, match=text) as caught:
        model.accounts.check_jwt(app_jwt(model, **moved))
    assert caught.value.status == 401


@pytest.mark.parametrize("how", ["another key", "another algorithm", "nonsense", "no expiry"])
def test_a_forged_jwt(clock: Clock, how: str) -> None:
    """Only an RS256 signature by the App's key, over all three claims, counts."""
    model = a_github(clock)
    now = int(model.now().timestamp())
    claims = {"iss": str(model.accounts.app.id), "iat": now, "exp": now + 60}
    forged = {
        "another key": jwt.encode(claims, rsa_key("runner"), algorithm="RS256"),
        "another algorithm": jwt.encode(claims, "x" * 64, algorithm="HS256"),
        "nonsense": "a.b.c",
        "no expiry": jwt.encode(claims | {"exp": None}, model.accounts.app.key, algorithm="RS256"),
    }[how]
    with pytest.raises(ApiError, match="could not be decoded"):
        model.accounts.check_jwt(forged)


def test_a_token_lasts_an_hour(clock: Clock) -> None:
    """A token is good for an hour; then, and after a suspension or removal, it is not."""
    model = a_github(clock)
    installation = model.accounts.installation_of("acme")
    token = model.accounts.mint_token(installation.id)
    assert model.accounts.check_token(token.text) is token
    model.suspend(installation)
    with pytest.raises(ApiError, match="suspended"):
        model.accounts.check_token(token.text)
    with pytest.raises(ApiError, match="suspended"):
        model.accounts.mint_token(installation.id)
    model.unsuspend(installation)
    clock.pass_(hours=1)
    with pytest.raises(ApiError, match="Bad credentials"):
        model.accounts.check_token(token.text)
    fresh = model.accounts.mint_token(installation.id)
    model.uninstall(installation)
    with pytest.raises(ApiError, match="Bad credentials"):
        model.accounts.check_token(fresh.text)
    with pytest.raises(ApiError, match="Not Found"):
        model.accounts.mint_token(installation.id)
    assert model.accounts.install("acme").id != installation.id


def test_both_forms_of_token(clock: Clock) -> None:
    """The long form is opaque text of some 520 characters; both are remembered as secrets."""
    model = a_github(clock)
    installation = model.accounts.installation_of("acme")
    short = model.accounts.mint_token(installation.id).text
    model.accounts.stateless_tokens = True
    long = model.accounts.mint_token(installation.id).text
    assert re.fullmatch(r"ghs_[0-9a-f]{36}", short)
    assert re.fullmatch(r"ghs_\d+_[A-Za-z0-9._-]{450,}", long)
    assert {short, long} <= set(model.secrets())


def test_a_token_can_be_narrowed(clock: Clock) -> None:
    """Fewer permissions and repositories than granted: yes; more, or unknown ones: 422."""
    model = a_github(clock)
    mint, installation = model.accounts.mint_token, model.accounts.installation_of("acme")
    token = mint(installation.id, permissions={"actions": "read"}, repositories=["App"])
    assert token.permissions == {"actions": "read", "metadata": "read"}
    assert token.repositories == {model.accounts.repository("acme/app").id}
    with pytest.raises(ApiError, match="permissions") as more:
        mint(installation.id, permissions={"actions": "write"})
    with pytest.raises(ApiError, match="repository") as unknown:
        mint(installation.id, repositories=["nope"])
    assert (more.value.status, unknown.value.status) == (422, 422)


def test_what_a_token_may_not_do(clock: Clock) -> None:
    """A lacking permission is 403 and named in a header; what is out of sight is 404."""
    model = a_github(clock)
    accounts = model.accounts
    app, site = accounts.repository("acme/app"), accounts.repository("acme/site")
    token = accounts.mint_token(
        accounts.installation_of("acme").id, permissions={"actions": "read"}, repositories=["app"]
    )
    accounts.check_access(token, "acme", app, {"actions": "read"})
    with pytest.raises(ApiError) as lacking:
        accounts.check_access(token, "acme", app, {"administration": "write"})
    assert lacking.value.status == 403
    assert lacking.value.headers == {"x-accepted-github-permissions": "administration=write"}
    for owner, repository in (("acme", site), ("ada", accounts.repository("ada/tool"))):
        with pytest.raises(ApiError) as hidden:
            accounts.check_access(token, owner, repository, {"actions": "read"})
        assert hidden.value.status == 404
