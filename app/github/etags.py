"""Questions that cost nothing while the answer stays the same: conditional GETs, and what was last read of each.

GitHub does not count an answer 304 (docs/contracts/github.md §7.1). What is kept of an answer is what its reader
made of it, never the answer itself: a page of runs is a megabyte, the few values we need of it are not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from githubkit import GitHubCore
from githubkit.response import Response

from app.ports import GitHubUnavailable

T = TypeVar("T")

MOST = 512  # pages remembered
MOST_PAGES = 100  # of one list; GitHub shows ten of a filtered list of runs


@dataclass(frozen=True, slots=True)
class _Page:
    etag: str
    value: Any  # what the caller's reader made of it
    following: str | None  # the address of the next page: an answer 304 need not repeat it


class Etags:
    """The pages last read by one identity, the least recently used forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    async def pages(
        self,
        github: GitHubCore[Any],
        path: str,
        params: Mapping[str, str | int],
        read: Callable[[Response[Any]], T],
        *,
        first: int | None = None,
    ) -> list[T]:
        """GET *path*, every page or the *first* few, and return what *read* makes of each, now or when it last changed.

        The same object is returned again while GitHub answers 304, so *read* should return what cannot be changed,
        and one path be asked with one reader. What *read* raises is passed on, and nothing is kept of that page.
        """
        url: str | None = str(httpx.URL(path, params=dict(params)))
        found: list[T] = []
        while url is not None and len(found) != first:
            if len(found) == MOST_PAGES:
                msg = f"GitHub's list {path} does not end after {MOST_PAGES} pages"
                raise GitHubUnavailable(msg)
            page = await self._page(github, url, read)
            found.append(page.value)
            url = page.following
        return found

    async def _page(self, github: GitHubCore[Any], url: str, read: Callable[[Response[Any]], T]) -> _Page:
        known = self._pages.get(url)
        headers = {} if known is None else {"If-None-Match": known.etag}
        response = await github.arequest("GET", url, headers=headers)
        if known is not None and response.status_code == 304:
            page = known
        else:
            following = response.raw_response.links.get("next", {}).get("url")
            page = _Page(response.headers.get("etag", ""), read(response), following)
        self._keep(url, page)
        return page

    def _keep(self, url: str, page: _Page) -> None:
        self._pages.pop(url, None)
        if page.etag:
            self._pages[url] = page
        while len(self._pages) > self._most:
            self._pages.popitem(last=False)
