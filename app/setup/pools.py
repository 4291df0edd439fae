"""The first pool: what is proposed, what the form says, and what of it is wrong, by the rules of the settings."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from app.domain.pools import Forks
from app.github.apps import Installed
from app.poolsettings import PoolSettings

DEFAULT_IMAGE = "ghcr.io/cirruslabs/macos-sequoia-base:latest"
MACOS = re.compile(r"tahoe|sequoia|sonoma|ventura")

Images = Callable[[], Awaitable[Sequence[str]]]  # the local images there are


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolForm:
    """One pool as the form has it."""

    name: str
    labels: tuple[str, ...]
    image: str
    repositories: tuple[str, ...]
    forks: str

    def keys(self) -> dict[str, object]:
        """Return what is written."""
        return {
            "name": self.name,
            "labels": list(self.labels),
            "image": self.image,
            "repositories": list(self.repositories),
            "forks": self.forks,
        }

    def problems(self) -> dict[str, str]:
        """Return what is wrong, by field, each with the mend."""
        if not self.repositories:
            return {"repositories": "Choose one repository at least: nobody else may use this Mac"}
        try:
            PoolSettings.model_validate(self.keys())
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            return {str(one["loc"][0]): one["msg"].removeprefix("Value error, ") for one in found}
        return {}


def read_pool(form: Mapping[str, list[str]]) -> PoolForm:
    """Read the form; labels stand with commas between them."""
    chosen = [*form.get("repository", []), *_split(_first(form, "more"))]
    return PoolForm(
        name=_first(form, "name"),
        labels=tuple(_split(_first(form, "labels"))),
        image=_first(form, "image"),
        repositories=tuple(dict.fromkeys(chosen)),
        forks=_first(form, "forks") or Forks.ALLOW,
    )


def propose(
    pools: Sequence[Mapping[str, object]], installed: Sequence[Installed], images: Sequence[str]
) -> PoolForm:
    """Return the pool there is, or else one for the image and the repositories there are."""
    if pools:
        return _existing(pools[0])
    image = images[0] if images else DEFAULT_IMAGE
    system = MACOS.search(image)
    name = system[0] if system else "mac"
    repositories = tuple(repository for one in installed for repository in one.repositories)
    return PoolForm(
        name=name,
        labels=(name if name != "mac" else "tart",),
        image=image,
        repositories=repositories if len(repositories) == 1 else (),
        forks=Forks.ALLOW,
    )


def _existing(pool: Mapping[str, object]) -> PoolForm:
    def texts(key: str) -> tuple[str, ...]:
        found = pool.get(key)
        return tuple(map(str, found)) if isinstance(found, list) else ()

    return PoolForm(
        name=str(pool.get("name", "")),
        labels=texts("labels"),
        image=str(pool.get("image", "")),
        repositories=texts("repositories"),
        forks=str(pool.get("forks", Forks.ALLOW)),
    )


def _first(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0].strip()


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
