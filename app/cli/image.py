"""``cidermill image``: what launches clone, and how an operator has it pulled anew or tidied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import server

HEADINGS = ("IMAGE", "POOLS", "STATE", "DIGEST", "SIZE", "RUNNER", "ASKED", "NEXT")
SHORT = len("sha256:") + 12  # of a digest, as in the name of its base

commands = typer.Typer(help="What launches clone: look, pull, prune.", no_args_is_help=True)


@commands.command("list")
def listed(context: typer.Context, *, as_json: show.AsJson = False) -> None:
    """Show every image that a pool names or that is still here, with its digests, sizes and runner versions."""
    with server(context) as api:
        images = api.get("/images")
    if as_json:
        show.print_json(images)
    else:
        show.show(show.Grid(HEADINGS, [row for image in images for row in _rows(image)]), *_troubles(images))


@commands.command("pull")
def pull(
    context: typer.Context,
    image: Annotated[str | None, typer.Argument(help="One that a pool names; left out: all of them.")] = None,
) -> None:
    """Ask the registry now what images are, and pull what is new; launches go on meanwhile."""
    with server(context) as api:
        asked = api.post("/images/pull", {"image": image})["images"]
    show.show(f"Asked about: {', '.join(asked)}. `cidermill image list` shows how it goes.")


@commands.command("prune")
def prune(context: typer.Context, *, as_json: show.AsJson = False) -> None:
    """Remove earlier digests, and images that no pool names; never what launches clone, nor a VM of your own."""
    with server(context) as api:
        done = api.post("/images/prune")
    if as_json:
        show.print_json(done)
    else:
        show.show(
            *(f"{name} goes." for name in done["bases"]), *([] if done["bases"] else ["Nothing to remove."])
        )


def _rows(image: dict[str, Any]) -> Iterator[list[object]]:
    """Yield a row for an image as it is, and one for each digest before."""
    present, older = (
        [base for base in image["bases"] if base["age"] == 0],
        [b for b in image["bases"] if b["age"]],
    )
    first = present[0] if present else None
    yield [
        image["image"] or "(of no image)",
        ", ".join(image["pools"]),
        _state(image),
        first["digest"][:SHORT] if first else "",
        f"{first['size_gb']:.0f} GB" if first else "",
        ", ".join(image["runner_versions"]),
        f"{show.since(image['asked_at'])} ago" if image["asked_at"] else "",
        show.left(image["asked_next"]),
    ]
    for base in older:
        yield ["", "", "before", base["digest"][:SHORT], f"{base['size_gb']:.0f} GB", "", "", ""]


def _state(image: dict[str, Any]) -> str:
    if image["pulling"]:
        return "being pulled"
    if not image["ready"]:
        return "not here"
    return "ready" if image["pools"] else "unused"


def _troubles(images: list[dict[str, Any]]) -> Iterator[str]:
    for image in images:
        if image["held_up"]:
            yield image["held_up"]
        yield from (
            f"{failure['detail']} (failed {failure['failures']} times)" for failure in image["failures"]
        )
