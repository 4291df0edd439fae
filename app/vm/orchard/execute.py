"""One command in a guest, over the controller's WebSocket (docs/contracts/orchard.md §2.9–2.11).

For seconds, never for the length of a job: every such connection breaks when the worker begins a new session. What is
secret goes over standard input, in frames; the command stands in the controller's log.
"""

from __future__ import annotations

import base64
import json
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from shlex import join
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from app.ports import VMError, VMTimeout
from app.vm.causes import GUEST_SILENT, Cause
from app.vm.orchard.endings import EXEC_BROKEN, NOT_ORCHARD, REFUSED, UNREACHABLE, UNTRUSTED
from app.vm.process import OUTPUT_LIMIT, Result

LARGEST = 24_000  # bytes of standard input a frame: the controller takes messages of 32 KiB, base64 included
CLOSING = 2.0  # s
MOST_SHOWN = 300

# Its debug lines show what is in the frames.
frames_log = logging.getLogger("app.vm.orchard.frames")
frames_log.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the controller is, and who we are to it."""

    url: str  # with the API's prefix and version, no slash at the end
    account: str
    token: str = field(repr=False)
    tls: ssl.SSLContext | None
    server_name: str | None  # that the certificate is made out to, where that is not the URL's
    agent: str  # a PUT by one that begins with "Orchard/" would be taken for a worker's

    @property
    def host(self) -> str | None:
        """The name that the certificate must bear."""
        return self.server_name or urlsplit(self.url).hostname

    @property
    def authorization(self) -> str:
        """The header that lets us in."""
        return "Basic " + base64.b64encode(f"{self.account}:{self.token}".encode()).decode()


@asynccontextmanager
async def opened(
    access: Access, name: str, command: Sequence[str], *, stdin: bool, wait: int, open_timeout: float
) -> AsyncIterator[ClientConnection]:
    """Begin *command* in the guest of VM *name*, which may take *wait* seconds to be reached. Raises VMError."""
    query = {"command": join(command), "wait": str(wait)}
    if stdin:
        query |= {
            "interactive": "true",
            "stdin": "true",
        }  # the one name is known to new versions, the other to old
    try:
        async with connect(
            f"ws{access.url.removeprefix('http')}/vms/{name}/exec?{urlencode(query)}",
            additional_headers={"Authorization": access.authorization},
            user_agent_header=access.agent,
            open_timeout=open_timeout,
            close_timeout=CLOSING,
            ping_interval=None,  # the controller pings
            compression=None,
            proxy=None,
            logger=frames_log,
            ssl=access.tls,
            server_hostname=access.host if access.tls else None,
        ) as connection:
            yield connection
    except InvalidStatus as error:
        raise _refused(name, error.response.status_code, bytes(error.response.body or b"")) from error
    except ssl.SSLError as error:
        raise _error(UNTRUSTED.said(str(error))) from error
    except InvalidMessage as error:
        raise _error(UNREACHABLE.said(str(error))) from error
    except InvalidHandshake as error:
        raise _error(NOT_ORCHARD.said(str(error))) from error
    except TimeoutError as error:
        msg = f"{name} was not reached within {open_timeout:.0f} s: {GUEST_SILENT.detail}"
        raise VMTimeout(msg, reason=GUEST_SILENT.code) from error
    except OSError as error:
        raise _error(UNREACHABLE.said(str(error))) from error


async def run(
    access: Access,
    name: str,
    command: Sequence[str],
    *,
    stdin: bytes | None,
    wait: int,
    open_timeout: float,
) -> Result:
    """Run *command* in the guest of VM *name* to its end. The caller bounds it in time. Raises VMError."""
    out, err = bytearray(), bytearray()
    async with opened(
        access, name, command, stdin=stdin is not None, wait=wait, open_timeout=open_timeout
    ) as connection:
        try:
            if stdin is not None:
                await _feed(connection, stdin)
            async for kind, frame in _frames(connection):
                match kind:
                    case "stdout" | "stderr":
                        (out if kind == "stdout" else err).extend(base64.b64decode(frame["data"]))
                    case "exit":
                        code = int(frame["exit"]["code"])
                        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))
                    case "error":
                        raise _error(EXEC_BROKEN.said(_last(str(frame.get("error", "")))))
                if len(out) + len(err) > OUTPUT_LIMIT:
                    msg = f"{name} printed more than {OUTPUT_LIMIT} bytes: what answers in the guest is not to be trusted"
                    raise VMError(msg, reason="output_flood")
        except ConnectionClosed as error:
            raise _error(EXEC_BROKEN) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _error(NOT_ORCHARD) from error
    raise _error(EXEC_BROKEN)


async def _feed(connection: ClientConnection, data: bytes) -> None:
    """Send standard input and its end, which is a frame without data."""
    for start in range(0, len(data), LARGEST):
        await _send(connection, data[start : start + LARGEST])
    await _send(connection, b"")


async def _send(connection: ClientConnection, data: bytes) -> None:
    await connection.send(json.dumps({"type": "stdin", "data": base64.b64encode(data).decode()}))


async def _frames(connection: ClientConnection) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    async for message in connection:
        frame = json.loads(message)
        yield str(frame["type"]), frame


async def output(
    access: Access, name: str, command: Sequence[str], *, wait: int, open_timeout: float
) -> AsyncGenerator[bytes]:
    """Yield what *command* prints, until it ends or the connection breaks. Raises VMError."""
    async with opened(access, name, command, stdin=False, wait=wait, open_timeout=open_timeout) as connection:
        try:
            async for kind, frame in _frames(connection):
                if kind == "stdout":
                    yield base64.b64decode(frame["data"])
                elif kind != "stderr":
                    return
        except (ConnectionClosed, ValueError, KeyError, TypeError) as error:
            raise _error(EXEC_BROKEN) from error


def _refused(name: str, status: int, body: bytes) -> VMError:
    """Say what it means that the controller would not begin a command."""
    said = f"HTTP {status} {_message(body)}".strip()
    match status:
        case 401:
            return _error(REFUSED.said(said))
        case 404:
            msg = f"{name} is not there any more: nothing to mend"
            return VMError(msg, reason="vm_vanished")
        case 408 | 417 | 500 | 503:
            msg = f"{name} cannot be reached: {GUEST_SILENT.said(said).detail}"
            return VMError(msg, reason=GUEST_SILENT.code)
    return _error(NOT_ORCHARD.said(said))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:MOST_SHOWN]
    except (ValueError, KeyError, TypeError):
        return ""


def _last(error: str) -> str:
    """Return an error without the command that it repeats."""
    return error.rpartition('": ')[2]


def _error(cause: Cause) -> VMError:
    return VMError(cause.detail, reason=cause.code, host_wide=cause.host_wide)
