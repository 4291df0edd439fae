"""The Orchard controller's REST API: one method a request, its answers as values and its refusals as named errors.

docs/contracts/orchard.md §1–2 is binding here: whatever is refused is a 401, a VM that is made answers 200 and not 201,
and a POST whose answer was lost may have been done, so that a 409 for a name of ours is success.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from app.ports import VMError, VMTimeout
from app.vm.causes import Cause
from app.vm.orchard import answers, execute
from app.vm.orchard.answers import Machine, Worker
from app.vm.orchard.endings import (
    CONTROLLER_TROUBLE,
    EXEC_BROKEN,
    NOT_ORCHARD,
    REFUSED,
    REJECTED,
    UNREACHABLE,
    UNTRUSTED,
)
from app.vm.orchard.execute import Access
from app.vm.process import Result

T = TypeVar("T")

SECONDS = 10.0  # for an answer; the controller sets no limit to anything
MINIMUM = (0, 51)  # exec is there from here on
OPENING = 10.0  # s beyond `wait`, after which a worker that is frozen is given up
PAUSES = 3  # times that a worker is told
A_BEAT = 1.0  # s, from a worker's reading of its own state to its writing it back, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All that the controller drives, and what its clock shows."""

    at: datetime
    machines: tuple[Machine, ...]
    workers: tuple[Worker, ...]


class Controller:
    """Asks the controller. Every method raises VMError, and none takes longer than its limit."""

    def __init__(self, access: Access, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.access = access
        self._extensions = {"sni_hostname": access.server_name} if access.server_name else {}
        self._client = httpx.AsyncClient(
            base_url=access.url,
            headers={"Authorization": access.authorization, "User-Agent": access.agent},
            verify=access.tls or True,
            timeout=SECONDS,
            trust_env=False,
            transport=transport,
        )

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()

    async def version(self) -> tuple[int, ...] | None:
        """Return the controller's version; None: an unofficial build. Any account may ask."""
        answer = await self._ask("GET", "/controller/info")
        said = str(_read(answer, dict).get("version", ""))
        match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", said, re.ASCII)
        if match is None:
            return None
        version = tuple(map(int, match.groups()))
        if version < MINIMUM:
            raise _error(NOT_ORCHARD.said(f"version {said}"))
        return version

    async def fleet(self) -> Fleet:
        """Return every worker and every VM. Raises rather than leave one out."""
        vms, workers = await asyncio.gather(self._ask("GET", "/vms"), self._ask("GET", "/workers"))
        return Fleet(
            at=_date(workers),
            machines=tuple(_read(vms, _each(answers.machine))),
            workers=tuple(_read(workers, _each(answers.worker))),
        )

    async def machine(self, name: str) -> Machine | None:
        """Return one VM; None: there is none of that name."""
        answer = await self._ask("GET", f"/vms/{name}", also=(404,))
        return None if answer.status_code == 404 else _read(answer, answers.machine)

    async def create(self, body: Mapping[str, Any]) -> None:
        """Ask for a VM; one of that name that is there already is the one meant."""
        await self._ask("POST", "/vms", body=body, also=(409,))

    async def delete(self, name: str) -> None:
        """Have a VM removed; absent is success. Its disk is cleaned by its worker a little later."""
        await self._ask("DELETE", f"/vms/{name}", also=(404,))

    async def lines(self, name: str, most: int) -> list[str]:
        """Return the last lines that the startup script of a VM printed, in order."""
        answer = await self._ask("GET", f"/vms/{name}/events?order=desc&limit={most}", also=(404,))
        found = [] if answer.status_code == 404 else _read(answer, list)
        return [str(event.get("payload", "")) for event in reversed(found)]

    async def pause(self, name: str, *, paused: bool) -> bool:
        """Have a worker take nothing new, or again. False: there is none of that name.

        The whole of it is sent back: up to 0.55 a worker whose ``last_seen`` is left out looks offline. It is read
        again, since a beat of the worker's that had read before writes the old state over it (docs/contracts/orchard.md
        §2.4). Raises VMError where that goes on.
        """
        path = f"/workers/{quote(name, safe='')}"
        for _ in range(PAUSES):
            answer = await self._ask("GET", path, also=(404,))
            if answer.status_code == 404:
                return False
            await self._ask("PUT", path, body=_read(answer, dict) | {"scheduling_paused": paused})
            await asyncio.sleep(A_BEAT)
            said = _read(await self._ask("GET", path), dict)
            if said.get("scheduling_paused", False) is paused:
                return True
        msg = f"{name} was told, and its controller forgot it {PAUSES} times: try again, or `orchard pause worker {name}`"
        raise VMError(msg, reason=CONTROLLER_TROUBLE.code)

    async def exec(
        self, name: str, command: Sequence[str], *, timeout: float, wait: int, stdin: bytes | None = None
    ) -> Result:
        """Run *command* in a guest, that may take *wait* seconds to be reached and *timeout* to run."""
        try:
            async with asyncio.timeout(wait + OPENING + timeout):
                return await execute.run(
                    self.access, name, command, stdin=stdin, wait=wait, open_timeout=wait + OPENING
                )
        except TimeoutError as error:
            msg = f"a command in {name} did not end within {timeout:.0f} s: {EXEC_BROKEN.detail}"
            raise VMTimeout(msg, reason=EXEC_BROKEN.code) from error

    async def _ask(
        self, verb: str, path: str, *, body: Mapping[str, Any] | None = None, also: tuple[int, ...] = ()
    ) -> httpx.Response:
        try:
            async with asyncio.timeout(2 * SECONDS):
                answer = await self._client.request(verb, path, json=body, extensions=self._extensions)
        except (httpx.TimeoutException, TimeoutError) as error:
            msg = f"{verb} {path}: no answer within {SECONDS:.0f} s: {UNREACHABLE.detail}"
            raise VMTimeout(msg, reason=UNREACHABLE.code, host_wide=True) from error
        except httpx.TransportError as error:
            cause = UNTRUSTED if _is_about_tls(error) else UNREACHABLE
            raise _error(cause.said(f"{self.access.url}: {error}")) from error
        if answer.status_code == 200 or answer.status_code in also:
            return answer
        raise _refusal(verb, path, answer)


def trust(url: str, ca_path: Path | None) -> ssl.SSLContext | None:
    """Return how the controller is known; None: over plain http. Raises OSError, ssl.SSLError for a bad file.

    A file given is the only root: the certificate that the controller made for itself, or an internal CA's.
    """
    if not url.startswith("https:"):
        return None
    return ssl.create_default_context(cafile=str(ca_path) if ca_path else None)


def _refusal(verb: str, path: str, answer: httpx.Response) -> VMError:
    said = f"{verb} {path}: {answer.status_code} {_message(answer)}".strip()
    if answer.status_code == 401:
        return _error(REFUSED.said(said))
    if answer.status_code in {400, 412} and verb == "POST":
        return _error(REJECTED.said(said))
    if answer.status_code >= 500:
        return _error(CONTROLLER_TROUBLE.said(said))
    return _error(NOT_ORCHARD.said(said))


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _read(answer: httpx.Response, into: Callable[[Any], T]) -> T:
    try:
        return into(json.loads(answer.content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error(NOT_ORCHARD) from error


def _each(read: Callable[[object], T]) -> Callable[[Any], list[T]]:
    def all_of(found: Any) -> list[T]:
        if not isinstance(found, list):
            msg = "it is no list"
            raise TypeError(msg)
        return [read(one) for one in found]

    return all_of


def _date(answer: httpx.Response) -> datetime:
    """Return what the controller's clock showed, by which it judges its workers."""
    try:
        return parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError) as error:
        raise _error(NOT_ORCHARD.said("it tells no time")) from error


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _error(cause: Cause) -> VMError:
    return VMError(cause.detail, reason=cause.code, host_wide=cause.host_wide)
