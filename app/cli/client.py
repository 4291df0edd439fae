"""Talks to the running server over its admin API: finds where it listens and its token as the server itself does.

Only what leads to the server is read of the configuration, so that a mistake elsewhere in it keeps nobody from asking.
Every trouble ends the command with exit code 1 and a sentence that names the mend; the token is in none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import typer

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # not bound to, replaced
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST = 10.0  # s for an answer


class Trouble(Exception):
    """The server cannot be asked, or refused; the text names the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line says of the server; None: as the configuration has it."""

    url: str | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where the server is, and what it lets in."""

    url: str
    token: str = field(repr=False)

    @property
    def link(self) -> str:
        """The dashboard's address, with the token that lets its reader in: for a terminal, and for nothing that is kept."""
        return f"{self.url}/?token={quote(self.token)}"


class Client:
    """The admin API, as JSON in and out. Every method raises Trouble."""

    def __init__(self, door: Door) -> None:
        import httpx

        self.door, self._errors = door, httpx.HTTPError
        self._http = httpx.Client(
            base_url=f"{door.url}/api/v1",
            headers={"authorization": f"Bearer {door.token}"},
            timeout=LONGEST,
            trust_env=False,  # no proxy of the environment's is told the token
        )

    def get(self, path: str, **params: Any) -> Any:
        """Return what is at *path*."""
        return self._ask("GET", path, params=_given(params))

    def post(self, path: str, body: object = None) -> Any:
        """Have something done."""
        return self._ask("POST", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        """Have something ended."""
        return self._ask("DELETE", path, params=_given(params))

    def _ask(self, method: str, path: str, **rest: Any) -> Any:
        try:
            answer = self._http.request(method, path, **rest)
        except self._errors as error:
            raise self._trouble(error) from None
        if not answer.is_success:
            raise Trouble(_refusal(answer.status_code, answer.text))
        try:
            return answer.json()
        except ValueError:
            raise self._trouble() from None

    def lines(self, path: str, **params: Any) -> Iterator[str]:
        """Yield the lines of a text as they come, however long that takes."""
        try:
            with self._http.stream("GET", path, params=_given(params), timeout=None) as answer:
                if not answer.is_success:
                    answer.read()
                    raise Trouble(_refusal(answer.status_code, answer.text))
                yield from answer.iter_lines()
        except self._errors as error:
            raise self._trouble(error) from None

    def _trouble(self, error: Exception | None = None) -> Trouble:
        import httpx

        if isinstance(error, httpx.ConnectError):
            return Trouble(
                f"No CiderMill answers at {self.door.url}: start it (`cidermill serve`), or say where it is with --url."
            )
        what = type(error).__name__ if error else "no JSON"
        return Trouble(
            f"What listens at {self.door.url} does not answer as CiderMill does ({what}): see its log, or give --url."
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _refusal(status: int, text: str) -> str:
    import json

    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"the answer was {status}"
    if status == 401:
        return (
            "The token is not the server's: run this as the user who runs CiderMill and with the same configuration, "
            "or name its admin-token file with --token-file."
        )
    if isinstance(detail, list):
        return "\n".join(f"- {one['msg'] if isinstance(one, dict) else one}" for one in detail)
    return str(detail)


@contextmanager
def server(context: typer.Context) -> Iterator[Client]:
    """Reach the running server; a trouble within is told, and ends the command with 1."""
    try:
        client = Client(find(context.find_root().obj or Given(), os.environ, Path.cwd()))
        try:
            yield client
        finally:
            client.close()
    except Trouble as trouble:
        typer.echo(trouble, err=True)
        raise typer.Exit(1) from None


def find(given: Given, environ: os._Environ[str] | dict[str, str], cwd: Path) -> Door:
    """Return where the server is. Raises Trouble."""
    from app.configfile import ConfigError, sources

    try:
        found = sources(environ, cwd)
        values = found.values()
    except ConfigError as error:
        if given.url is None or given.token_file is None:
            raise Trouble(error.report()) from None
        return Door(url=_url(given.url), token=_read(given.token_file))
    url = _url(given.url or listening(values.get("listen")))
    if given.token_file is None and (token := values.get("admin_token")):
        return Door(url=url, token=str(token))
    state = Path(str(values.get("state_dir") or found.state_dir)).expanduser()
    return Door(url=url, token=_read(given.token_file or state / "admin-token"))


def listening(listen: object) -> str:
    """Return the address that leads to a server on this machine, which listens where the setting *listen* says."""
    from app.settings import Settings

    text = str(listen or Settings.model_fields["listen"].default)
    host, _, port = text.rpartition(":")
    host = EVERYWHERE.get(host.strip("[]"), host.strip("[]"))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise Trouble(f"{text!r} is no address of a server: write it as http://127.0.0.1:8000")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise Trouble(
            f"{text} would carry the admin token in the clear: use https, or forward the port with "
            "`ssh -L 8000:127.0.0.1:8000 …` and leave --url out"
        )
    return text.rstrip("/")


def _read(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no token"
        raise Trouble(
            f"Cannot read the admin token in {file} ({why}): start the server once, run this as the user who runs it, "
            "or name the file with --token-file."
        ) from None
    if not token:
        raise Trouble(f"{file} holds no token: delete it and restart the server, which makes a new one.")
    return token


def part(name: str | int) -> str:
    """Return a name as one part of a path, whatever was typed."""
    return quote(str(name), safe="")
