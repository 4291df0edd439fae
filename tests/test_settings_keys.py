"""The App's private key: where it may be, who may read it, and the sentence each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.configuring import problems, read


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


@pytest.fixture
def key_file(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    path = tmp_path / "app.pem"
    path.touch(mode=0o600)
    path.write_text(pem(key))
    return path


def test_ipv6_and_app(tmp_path: Path, key_file: Path) -> None:
    """An IPv6 address is written in brackets, and an App id may be a number."""
    settings = read(
        tmp_path,
        github_token=None,
        github_app_id=12,
        github_private_key_path=str(key_file),
        listen="[::1]:9000",
    )
    assert settings.address == ("::1", 9000)
    assert settings.github_app_id == "12"
    assert "PRIVATE KEY" in settings.private_key()


APP = {"github_token": None, "github_app_id": "7"}


def test_key_in_one_line(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """A key in the environment may have its line ends written out, as one-line stores keep them."""
    one_line = pem(key).replace("\n", "\\n")
    assert read(tmp_path, **APP, github_private_key=one_line).private_key() == pem(key)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_key_modes_allowed(tmp_path: Path, key_file: Path, mode: int) -> None:
    """A key that its owner alone may read is fine."""
    key_file.chmod(mode)
    assert read(tmp_path, **APP, github_private_key_path=str(key_file)).github_private_key_path == key_file


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o660, 0o602, 0o777])
def test_key_modes_refused(tmp_path: Path, key_file: Path, mode: int) -> None:
    """A key that its group or others may read or write is refused, with the command that mends it."""
    key_file.chmod(mode)
    (problem,) = problems(tmp_path, **APP, github_private_key_path=str(key_file))
    assert problem == f"github_private_key_path: others may read {key_file}: run `chmod 600 {key_file}`"


def a_locked_key() -> str:
    return pem(rsa.generate_private_key(65537, 2048), b"open sesame")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("not a key", id="some text"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", id="a torn key"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), id="a key of another kind"),
        pytest.param(a_locked_key(), id="a key with a passphrase"),
    ],
)
def test_wrong_keys(tmp_path: Path, text: str) -> None:
    """What is no usable key is refused where it was given, and is not shown."""
    path = tmp_path / "wrong.pem"
    path.touch(mode=0o600)
    path.write_text(text)
    end = "not an RSA private key in PEM form, without a passphrase, as GitHub gives it"
    assert problems(tmp_path, **APP, github_private_key=text) == [f"github_private_key: {end}"]
    assert problems(tmp_path, **APP, github_private_key_path=str(path)) == [f"github_private_key_path: {end}"]


def test_key_file_missing(tmp_path: Path) -> None:
    """A key file that is not there is named."""
    (problem,) = problems(tmp_path, **APP, github_private_key_path=str(tmp_path / "no.pem"))
    assert problem == f"github_private_key_path: cannot read {tmp_path}/no.pem (No such file or directory)"


def test_key_where_its_path_belongs(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """A key pasted where its path belongs is not shown as a path that cannot be read."""
    found = problems(tmp_path, **APP, github_private_key_path=pem(key))
    assert found == [
        "github_private_key_path: it holds the key itself: give the file's path, or use github_private_key"
    ]


def test_key_and_path(tmp_path: Path, key: rsa.RSAPrivateKey, key_file: Path) -> None:
    """A key and a path contradict each other."""
    found = problems(tmp_path, **APP, github_private_key=pem(key), github_private_key_path=str(key_file))
    assert found == ["github_private_key and github_private_key_path: set one of them, not both"]
