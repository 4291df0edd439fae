"""The actions runner's archive: whose word it is compared with, where our credentials go, what is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.github.answers import offered
from app.github.downloads import Downloads, Offer
from app.ports import DownloadFailed, GitHubUnavailable

ARCHIVE = b"an archive" * 1000
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
NAME = "actions-runner-osx-arm64-2.337.0.tar.gz"
HOME, ELSEWHERE = "https://github.example/runner", "https://assets.example/runner"


def an_offer(**changes: Any) -> Offer:
    values: dict[str, Any] = {"version": "2.337.0", "file_name": NAME, "url": HOME, "sha256": SHA256}
    return Offer(**values | changes)


class Web:
    """Some hosts, and who asked them with what."""

    def __init__(self, **pages: httpx.Response) -> None:
        self.pages = {HOME: httpx.Response(200, content=ARCHIVE)} | {
            name.replace("_", "."): page for name, page in pages.items()
        }
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((str(request.url), request.headers.get("authorization")))
        page = self.pages[str(request.url)]
        return httpx.Response(page.status_code, headers=page.headers, content=page.content)


def kept_by(folder: Path, web: Web) -> Downloads:
    return Downloads(folder, transport=httpx.MockTransport(web), largest=len(ARCHIVE) + 1)


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def moved(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": to})


async def test_downloaded_once_and_kept(tmp_path: Path) -> None:
    """It is asked for once; a file that was changed since is fetched anew; what was kept before goes."""
    web, folder = Web(), tmp_path / "downloads"
    kept = kept_by(folder, web)
    first = await kept.package(an_offer())
    assert (first.archive.read_bytes(), first.sha256) == (ARCHIVE, SHA256)
    assert await kept_by(folder, web).package(an_offer()) == first
    assert len(web.asked) == 1
    (folder / "actions-runner-osx-arm64-2.336.0.tar.gz").touch()
    first.archive.write_bytes(b"changed")
    assert (await kept.package(an_offer())).archive.read_bytes() == ARCHIVE
    assert len(web.asked) == 2
    assert names(folder) == [NAME]


async def test_what_is_sent_along_stays_with_its_host(tmp_path: Path) -> None:
    """A token for the download goes to the host that GitHub names, and not where that sends us."""
    web = Web()
    web.pages = {HOME: moved(ELSEWHERE), ELSEWHERE: httpx.Response(200, content=ARCHIVE)}
    await kept_by(tmp_path, web).package(an_offer(token="for-this-alone"))
    assert web.asked == [(HOME, "Bearer for-this-alone"), (ELSEWHERE, None)]
    assert "for-this-alone" not in repr(an_offer(token="for-this-alone"))


@pytest.mark.parametrize(
    ("offer", "page", "says"),
    [
        pytest.param({"sha256": None}, None, "no checksum", id="GitHub tells no checksum"),
        pytest.param({"sha256": "12"}, None, "no checksum", id="what it tells is none"),
        pytest.param(
            {}, httpx.Response(200, content=b"another"), "is not what GitHub says", id="another file"
        ),
        pytest.param({}, httpx.Response(404), "github.example answered 404", id="it is not there"),
        pytest.param({}, moved("http://assets.example/x"), "anyone on the way", id="sent to plain http"),
        pytest.param({}, moved(HOME), "from one place to the next", id="sent round in circles"),
        pytest.param({"url": "ftp://github.example/x"}, None, "ftp://github.example", id="no web address"),
        pytest.param({}, httpx.Response(200, content=ARCHIVE * 2), "is none", id="larger than any runner"),
    ],
)
async def test_what_is_refused(
    tmp_path: Path,
    offer: dict[str, Any],
    page: httpx.Response | None,
    says: str,
) -> None:
    """Nothing that was not verified is kept, and the sentence says what to see to."""
    web = Web()
    if page is not None:
        web.pages[HOME] = page
    with pytest.raises(DownloadFailed, match=says):
        await kept_by(tmp_path, web).package(an_offer(**offer))
    assert names(tmp_path) == []


async def test_a_connection_that_breaks(tmp_path: Path) -> None:
    """It is told as what can be tried again."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    kept = Downloads(tmp_path, transport=httpx.MockTransport(broken))
    with pytest.raises(DownloadFailed, match="ReadError"):
        await kept.package(an_offer())
    assert names(tmp_path) == []


async def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """The folder that cannot be used is named."""
    (tmp_path / "downloads").write_text("in the way")
    with pytest.raises(DownloadFailed, match="cannot be kept in"):
        await kept_by(tmp_path / "downloads", Web()).package(an_offer())


ROW = {
    "os": "osx",
    "architecture": "arm64",
    "download_url": HOME,
    "filename": NAME,
    "sha256_checksum": SHA256,
}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        pytest.param({}, an_offer(), id="as GitHub answers"),
        pytest.param({"temp_download_token": "t"}, an_offer(token="t"), id="with a token for the download"),
        pytest.param({"sha256_checksum": None}, an_offer(sha256=None), id="without a checksum"),
        pytest.param({"sha256_checksum": SHA256.upper()}, an_offer(), id="a checksum in capitals"),
        pytest.param({"architecture": "x64"}, None, id="another machine's"),
        pytest.param({"filename": "../../x-2.337.0.tar.gz"}, None, id="a name that leads elsewhere"),
    ],
)
def test_how_the_offer_is_read(row: dict[str, Any], found: Offer | None) -> None:
    """The one for a Mac with Apple silicon, under a name that is one."""
    from githubkit.response import Response

    answer: Response[Any] = Response(httpx.Response(200, json=[ROW | row]), Any)
    if found is not None:
        assert offered(answer) == found
        return
    with pytest.raises(GitHubUnavailable):
        offered(answer)
