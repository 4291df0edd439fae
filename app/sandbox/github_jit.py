"""The just-in-time configuration: a blob shaped as GitHub's is (docs/contracts/github.md §4.2).

Base64 of a JSON object that maps three file names to base64 of their contents. Every blob holds a private
exponent of its own, which is the secret its session is opened with, so that a test can search for it anywhere
it must not be; the rest of the RSA key is one real key, since making keys is slow.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.sandbox.github_accounts import rsa_key


@dataclass(frozen=True, slots=True)
class Credentials:
    """What in a blob proves which registration it belongs to."""

    client_id: str
    secret: str = field(repr=False)


class BadBlob(ValueError):
    """It is not a JIT configuration."""


def encode(*, agent: dict[str, str], credentials: Credentials, auth_url: str) -> str:
    """Return the blob for a runner; *agent* is the content of ``.runner``."""
    data = {
        "clientId": credentials.client_id,
        "authorizationUrl": f"{auth_url}/token",
        "authorizationUrlV2": f"{auth_url}/token",
        "oauthEndpointUrl": f"{auth_url}/token",
        "requireFipsCryptography": "True",
    }
    files = {
        ".runner": agent,
        ".credentials": {"Scheme": "OAuth", "Data": data},
        ".credentials_rsaparams": rsa_parameters() | {"d": credentials.secret},
    }
    return _b64(json.dumps({name: _b64(json.dumps(content)) for name, content in files.items()}))


def decode(blob: str) -> Credentials:
    """Read the credentials out of a blob. Raises BadBlob."""
    try:
        files: dict[str, Any] = json.loads(base64.b64decode(blob, validate=True))
        credentials = json.loads(base64.b64decode(files[".credentials"], validate=True))
        parameters = json.loads(base64.b64decode(files[".credentials_rsaparams"], validate=True))
        return Credentials(credentials["Data"]["clientId"], parameters["d"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        msg = "it is not base64 of a JSON object with .runner, .credentials and .credentials_rsaparams"
        raise BadBlob(msg) from error


@lru_cache(maxsize=1)
def rsa_parameters() -> dict[str, str]:
    """Return the RSA key's parameters as .NET writes them."""
    numbers = rsa_key("runner").private_numbers()
    values = {
        "d": numbers.d,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "exponent": numbers.public_numbers.e,
        "inverseQ": numbers.iqmp,
        "modulus": numbers.public_numbers.n,
        "p": numbers.p,
        "q": numbers.q,
    }
    return {name: number_text(value) for name, value in values.items()}


def number_text(value: int) -> str:
    """Write a big number as base64 of its bytes."""
    return base64.b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
