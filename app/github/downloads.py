"""The actions runner's archive on this host: downloaded once, compared with GitHub's checksum, then kept.

GitHub's answer names a URL on another host (docs/contracts/github.md §4.4). Our own token never goes there: the client
here knows none. What GitHub sends along for the download alone goes to the host that the answer names, and to no other
that this one redirects to.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.ports import DownloadFailed, Package

TIMEOUT = httpx.Timeout(30, connect=10)
DEADLINE = 900.0  # s: 200 MB at 2 Mbit/s
LARGEST = 1_000_000_000  # bytes; the runner has some 200 million
REDIRECTS = 5
SHA256 = re.compile(r"[0-9a-f]{64}")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A runner as GitHub offers it."""

    version: str
    file_name: str
    url: str
    sha256: str | None  # None: GitHub does not tell, as older GitHub Enterprise Servers do
    token: str | None = field(default=None, repr=False)  # for this download alone


class Downloads:
    """The directory in which the newest archive is kept."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        largest: int = LARGEST,
    ) -> None:
        self._folder, self._tls, self._transport = folder, tls, transport
        self._largest = largest
        self._one = asyncio.Lock()

    async def package(self, offer: Offer) -> Package:
        """Return what was offered, from here or downloaded now; what was kept before goes. Raises DownloadFailed."""
        if offer.sha256 is None or not SHA256.fullmatch(offer.sha256):
            msg = (
                f"GitHub tells no checksum of actions runner {offer.version}, so it is not installed: put the runner in "
                "the image (packer/README.md), and set prepare = false in the pool"
            )
            raise DownloadFailed(msg)
        file = self._folder / offer.file_name
        try:
            async with self._one:
                if await asyncio.to_thread(_digest, file) != offer.sha256:
                    await self._download(offer, file)
                await asyncio.to_thread(self._tidy, file)
        except TimeoutError as error:
            msg = f"actions runner {offer.version} was not downloaded within {DEADLINE:.0f} s: it is tried again"
            raise DownloadFailed(msg) from error
        except OSError as error:
            msg = f"actions runner {offer.version} cannot be kept in {self._folder} ({error.strerror}): free some space"
            raise DownloadFailed(msg) from error
        return Package(version=offer.version, archive=file, sha256=offer.sha256)

    async def _download(self, offer: Offer, file: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.part")
        try:
            async with (
                asyncio.timeout(DEADLINE),
                httpx.AsyncClient(
                    timeout=TIMEOUT, verify=self._tls, transport=self._transport, follow_redirects=False
                ) as client,
            ):
                found = await self._fetch(client, offer, part)
            if found != offer.sha256:
                msg = (
                    f"what was downloaded as actions runner {offer.version} is not what GitHub says that it is (SHA-256): "
                    "nothing of it is kept; if it comes again, see what stands between this Mac and GitHub"
                )
                raise DownloadFailed(msg)
            part.replace(file)
        except httpx.HTTPError as error:
            msg = f"actions runner {offer.version} was not downloaded ({type(error).__name__}): it is tried again"
            raise DownloadFailed(msg) from error
        finally:
            part.unlink(missing_ok=True)

    async def _fetch(self, client: httpx.AsyncClient, offer: Offer, part: Path) -> str:
        """Write what is downloaded to *part*, and return its SHA-256."""
        url, home = httpx.URL(offer.url), httpx.URL(offer.url).host
        for _ in range(REDIRECTS):
            _check(url)
            headers = {"Accept-Encoding": "identity"}
            if offer.token and url.host == home:
                headers["Authorization"] = f"Bearer {offer.token}"
            async with client.stream("GET", url, headers=headers) as answer:
                if answer.has_redirect_location:
                    url = url.join(answer.headers["location"])
                    continue
                if answer.status_code != httpx.codes.OK:
                    msg = f"{url.host} answered {answer.status_code} when asked for actions runner {offer.version}"
                    raise DownloadFailed(msg)
                return await _save(answer, part, self._largest)
        msg = f"{home} sends us from one place to the next when asked for actions runner {offer.version}"
        raise DownloadFailed(msg)

    def _tidy(self, kept: Path) -> None:
        for file in self._folder.iterdir():
            if file != kept:
                with suppress(OSError):
                    file.unlink()


def _check(url: httpx.URL) -> None:
    if url.scheme != "https" and not (url.scheme == "http" and url.host in LOOPBACK):
        msg = f"the actions runner is to come from {url.scheme}://{url.host}, where anyone on the way could change it"
        raise DownloadFailed(msg)


async def _save(answer: httpx.Response, part: Path, largest: int) -> str:
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            if size > largest:
                msg = f"what is to be the actions runner has more than {largest} bytes: it is none"
                raise DownloadFailed(msg)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _digest(file: Path) -> str | None:
    try:
        with file.open("rb") as archive:
            return hashlib.file_digest(archive, "sha256").hexdigest()
    except FileNotFoundError:
        return None
