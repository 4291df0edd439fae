"""``cidermill image``: what launches clone, and how an operator has it pulled anew, prepared or tidied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import Client, Trouble, server

HEADINGS = ("IMAGE", "POOLS", "STATE", "DIGEST", "SIZE", "RUNNER", "ASKED", "NEXT")
AFTER = 10  # looks, in which what ended shows
SHORT = len("sha256:") + 12  # of a digest, as in the name of its base

commands = typer.Typer(help="What launches clone: look, pull, prepare, prune.", no_args_is_help=True)


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


@commands.command("prepare")
def prepare(
    context: typer.Context,
    image: Annotated[str | None, typer.Argument(help="One that a pool names; left out: all of them.")] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Return once it is done; 1: it failed.")] = False,
) -> None:
    """Prepare the base that launches clone, in the next free slot: the newest actions runner, and the pool's script."""
    with server(context) as api:
        before = _made(api)
        asked = api.post("/images/prepare", {"image": image})["images"]
        show.show(*map(_what, asked))
        if wait:
            for one in asked:
                _wait(api, one["image"], before.get(one["image"]))
        else:
            show.show("`cidermill image list` shows how it goes.")


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
    """Yield a row for an image as it is, one for its prepared base, and one for each before."""
    first = next((base for base in image["bases"] if base["age"] == 0 and not base["made"]), None)
    made = next((base for base in image["bases"] if base["age"] == 0 and base["made"]), None)
    older = [base for base in image["bases"] if base["age"]]
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
    if made:
        ago = f"{show.since(made['made']['at'])} ago"
        yield [
            "",
            "",
            "prepared, with a script" if made["made"]["script"] else "prepared",
            made["digest"][:SHORT],
            f"{made['size_gb']:.0f} GB",
            made["made"]["runner_version"],
            ago,
            "",
        ]
    for mac in image["macs"]:
        asked = f"{show.since(mac['fetched_at'])} ago" if mac["fetched_at"] else "never"
        yield ["", "", mac["host"], "", "", "", asked, ""]
    for golden in image["goldens"]:
        state = "golden, goes" if golden["unfit"] else "golden"
        ago = f"{show.since(golden['at'])} ago"
        yield ["", golden["pool"], state, "", f"{golden['size_gb']:.0f} GB", "", ago, ""]
    for base in older:
        yield ["", "", "before", base["digest"][:SHORT], f"{base['size_gb']:.0f} GB", "", "", ""]


def _state(image: dict[str, Any]) -> str:
    if image["pulling"]:
        where = ", ".join(mac["host"] for mac in image["macs"] if mac["pulling"])
        return f"being pulled on {where}" if where else "being pulled"
    if image["preparing"]:
        return "being prepared"
    if image["macs"]:
        return f"on {sum(bool(mac['fetched_at']) for mac in image['macs'])} of {len(image['macs'])} Macs"
    if not image["ready"]:
        return "not here"
    return "ready" if image["pools"] else "unused"


def _troubles(images: list[dict[str, Any]]) -> Iterator[str]:
    for image in images:
        if image["held_up"]:
            yield image["held_up"]
        if image["due"] and not image["preparing"]:
            yield f"The base of {image['image']} is prepared once a slot is free: {image['due']}."
        yield from (
            f"{failure['detail']} (failed {failure['failures']} times)" for failure in image["failures"]
        )


def _what(one: dict[str, Any]) -> str:
    runner = (
        f"actions runner {one['runner_version']}" if one["runner_version"] else "the newest actions runner"
    )
    script = f", and {one['script']} is run" if one["script"] else ""
    return f"The base of {one['image']} gets {runner} in {one['runner_dir']}{script}, in the next slot that is free."


def _made(api: Client) -> dict[str, str]:
    """Return when the base of each image was prepared last."""
    return {
        image["image"]: base["made"]["at"]
        for image in api.get("/images")
        for base in image["bases"]
        if base["made"] and base["age"] == 0
    }


def _wait(api: Client, image: str, before: str | None) -> None:
    """Return once the base of *image* is another one. Raises Trouble where that failed."""
    looks = 0
    while _made(api).get(image) == before:
        now = next((one for one in api.get("/images") if one["image"] == image), None)
        looks = 0 if now and (now["asked"] or now["preparing"]) else looks + 1
        failed = (
            next((f for f in now["failures"] if f["scope"].startswith("prepare:")), None) if now else None
        )
        if looks and failed:
            raise Trouble(f"The base of {image} was not prepared: {failed['detail']}")
        if looks > AFTER:
            raise Trouble(f"The base of {image} was not prepared: `cidermill status` says what is wrong.")
        time.sleep(show.BETWEEN_LOOKS)
    show.show(f"The base of {image} is prepared.")
