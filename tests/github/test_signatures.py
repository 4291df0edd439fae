"""Only what is signed with our secret gets in."""

from __future__ import annotations

import hmac

import pytest

from app.github.webhook import BadSignature, parse
from tests.github.deliveries import BODY, RIGHT, SECRET, signed


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="blank"),
        pytest.param("sha256=", id="the prefix alone"),
        pytest.param(RIGHT, id="no prefix"),
        pytest.param(f"sha256={RIGHT.upper()}", id="capitals"),
        pytest.param(f"SHA256={RIGHT}", id="the prefix in capitals"),
        pytest.param(f"sha256={RIGHT[:-1]}", id="cut short"),
        pytest.param(f"sha256={RIGHT}0", id="one too many"),
        pytest.param(f"sha256={RIGHT}\n", id="a line feed after it"),
        pytest.param(f" sha256={RIGHT}", id="a blank before it"),
        pytest.param(f"sha256={'0' * 64}", id="of another body"),
        pytest.param(f"sha256={'ä' * 64}", id="not ASCII"),
        pytest.param(f"sha256={'٣' * 64}", id="digits of another script"),
        pytest.param(f"sha256={'g' * 64}", id="not hexadecimal"),
        pytest.param(f"sha1={hmac.new(SECRET.encode(), BODY, 'sha1').hexdigest()}", id="a true SHA-1"),
    ],
)
def test_wrong_signatures(signature: str | None) -> None:
    """Whatever is not the one signature is refused as such, and never a TypeError."""
    headers = signed(BODY)
    del headers["x-hub-signature-256"]
    with pytest.raises(BadSignature):
        parse(headers if signature is None else headers | {"x-hub-signature-256": signature}, BODY, [SECRET])


def test_legacy_header_does_not_count() -> None:
    """A true signature in the header of old is no signature."""
    headers = signed(BODY) | {
        "x-hub-signature": f"sha1={hmac.new(SECRET.encode(), BODY, 'sha1').hexdigest()}"
    }
    del headers["x-hub-signature-256"]
    with pytest.raises(BadSignature, match="not signed"):
        parse(headers, BODY, [SECRET])


def test_raw_bytes_are_signed() -> None:
    """The same JSON in other bytes is another body."""
    with pytest.raises(BadSignature, match="differs from the secret at GitHub"):
        parse(signed(BODY), BODY + b" ", [SECRET])


def test_signature_before_all_else() -> None:
    """An unsigned body is refused for that, whatever else is wrong with it."""
    with pytest.raises(BadSignature):
        parse({}, b"not json", [SECRET])


@pytest.mark.parametrize(("secret", "accepted"), [("new", True), ("old", True), ("older", False)])
def test_rotation(secret: str, accepted: bool) -> None:
    """While a secret is changed the one before is accepted too, and no other."""
    if accepted:
        assert parse(signed(BODY, secret=secret), BODY, ["new", "old"]).job is not None
        return
    with pytest.raises(BadSignature):
        parse(signed(BODY, secret=secret), BODY, ["new", "old"])


def test_secret_of_other_letters() -> None:
    """A secret may hold any characters."""
    assert parse(signed(BODY, secret="Schlüssel"), BODY, ["Schlüssel"]).job is not None


@pytest.mark.parametrize("secrets", [[], [""], [SECRET, ""]])
def test_a_secret_is_required(secrets: list[str]) -> None:
    """Without a secret nothing is let in: there is no unchecked mode."""
    with pytest.raises(ValueError, match="a webhook secret is required"):
        parse(signed(BODY, secret=""), BODY, secrets)
