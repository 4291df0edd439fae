"""The admin API's images: what launches clone, since when it is that, and what an operator may do about it."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict

from app.api.admin import MISSING, NOT_YET, UNAUTHORIZED, world_of
from app.api.context import AdminOnly, Ctx
from app.api.models import CooldownOut, Out, Refusal
from app.domain import goldens, images, preparation, pulls
from app.domain.pools import Pool, host_of
from app.domain.versions import held
from app.domain.world import Base, Golden, World

router = APIRouter(
    prefix="/api/v1/images", tags=["images"], dependencies=[AdminOnly], responses={401: UNAUTHORIZED}
)


class MadeOut(Out):
    """What was done to a base that was prepared."""

    at: datetime
    runner_version: str
    runner_dir: str
    script: str | None  # the SHA-256 of the prepare script that was run


class BaseOut(Out):
    """A local VM made from an image."""

    name: str
    digest: str
    size_gb: float  # its clones share it
    age: int  # 0: the newest of its kind; 1: the one before; …
    prunable: bool  # `prune` removes it
    made: (
        MadeOut | None
    )  # what it was prepared with; None: it is as the image is. Launches clone a prepared one

    @classmethod
    def of(cls, base: Base, world: World) -> BaseOut:
        """Show *base*."""
        prunable = base.name in images.unused(world)
        return cls(
            name=base.name,
            digest=f"sha256:{base.digest}",
            size_gb=base.size_gb,
            age=base.age,
            prunable=prunable,
            made=MadeOut.model_validate(base.made) if base.made else None,
        )


class FetchedOut(Out):
    """What is known of an image on one Mac of several that fetch their images themselves."""

    host: str
    fetched_at: datetime | None  # when it last fetched the image, as far as is known; None: never
    pulling: bool  # it does so now, ahead of jobs
    can_be_chosen: bool  # else it fetches images for jobs alone


class GoldenOut(Out):
    """A suspended VM, of which launches resume clones."""

    name: str
    pool: str  # empty: none knows it, and it is removed
    at: datetime  # when it was suspended
    size_gb: float  # with its guest's memory; disk that its base has too counts in full
    source: str  # the local VM that it was made from
    unfit: str | None  # why no launch resumes a clone of it any more, as part of a sentence

    @classmethod
    def of(cls, golden: Golden, world: World) -> GoldenOut:
        """Show *golden*."""
        pool, system = world.pool(golden.pool), world.host.system if world.host else ""
        unfit = (
            goldens.unfit(golden, pool, goldens.origin(pool, world), system) if pool else "no pool wants it"
        )
        return cls(
            name=golden.name,
            pool=golden.pool,
            at=golden.at,
            size_gb=golden.size_gb,
            source=golden.source,
            unfit=unfit,
        )


class ImageOut(Out):
    """An image that a pool names, or that is still here; an empty name: bases that no image is known to be."""

    image: str
    pools: list[str]
    remote: bool  # from a registry; else a local VM that its owner made
    ready: bool  # it can be cloned at once
    pulling: bool
    runner_versions: list[str]  # of the actions runner that launches get, as far as is known
    asked_at: datetime | None  # when the registry last told what it is
    asked_next: datetime | None  # when it is asked again, in a quiet moment; None: never, or at once
    bases: list[BaseOut]  # newest first
    goldens: list[GoldenOut]  # of the pools that name it, newest first
    held_up: str | None  # why it cannot be pulled now
    preparing: str | None  # the VM in which its base is being prepared
    due: str | None  # why its base is prepared next, once a slot is free
    asked: bool  # an operator asked for that, and it is not over yet
    macs: list[
        FetchedOut
    ]  # those that VMs of it may be made on; none where there is one Mac, which has bases
    failures: list[CooldownOut]

    @classmethod
    def of(cls, image: str, world: World, *, asked: bool, now: datetime) -> ImageOut:
        """Show *image*."""
        bases = world.host.bases if world.host else ()
        present = images.current(image, world) if image else None
        pools = [pool for pool in world.pools if pool.image == image]
        runner, due = preparation.under_way(world), preparation.need(image, world, now)
        macs = _macs(image, world)
        return cls(
            image=image,
            pools=[pool.name for pool in pools],
            remote=images.is_remote(image),
            ready=images.is_ready(image, world),
            pulling=f"image:{image}" in world.in_hand or any(mac.pulling for mac in macs),
            runner_versions=sorted({version for pool in pools if (version := held(pool, world))}),
            asked_at=present.asked_at if present else None,
            asked_next=images.refresh_at(present, world) if present else None,
            bases=[BaseOut.of(base, world) for base in sorted(bases, key=_by_age) if base.image == image],
            goldens=[GoldenOut.of(golden, world) for golden in _goldens(pools, image, world)],
            held_up=images.no_room(image, world),
            preparing=runner.name if runner and runner.spec.image == image else None,
            due=due.reason if due else None,
            asked=asked,
            macs=macs,
            failures=[
                CooldownOut.of(cooldown)
                for cooldown in world.cooldowns
                if cooldown.scope in {f"image:{image}", f"refresh:{image}", f"prepare:{image}"}
                or cooldown.scope in {f"golden:{pool.name}" for pool in pools}
            ],
        )


class PullIn(BaseModel):
    """Which image to ask the registry about; left out: every one of a registry that a pool names."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = None


class PullOut(Out):
    """The images that will be pulled."""

    images: list[str]


class PrepareIn(BaseModel):
    """The image whose base to prepare; left out: every one that a pool has prepared."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = None


class PreparationOut(Out):
    """What the base of an image will be prepared with."""

    image: str
    runner_version: str | None  # what GitHub expects, as far as it was asked
    runner_dir: str
    script: str | None  # the path of the prepare script


class PrepareOut(Out):
    """The bases that will be prepared, one after the other."""

    images: list[PreparationOut]


class PruneOut(Out):
    """The bases that will be removed."""

    bases: list[str]


@router.get("", responses=NOT_YET)
async def listed(context: Ctx) -> list[ImageOut]:
    """Return every image that a pool names or of which a base is left."""
    world, asked = world_of(context), context.reconciler.sight.to_prepare
    bases = world.host.bases if world.host else ()
    names = {pool.image for pool in world.pools} | {base.image for base in bases}
    if _goldens([], "", world):
        names.add("")
    now = context.clock()
    return [ImageOut.of(image, world, asked=image in asked, now=now) for image in sorted(names)]


@router.post(
    "/pull",
    status_code=202,
    responses={
        400: {"model": Refusal, "description": "It is no JSON"},
        404: MISSING,
        409: {"model": Refusal, "description": "There is no room, or nothing to ask"},
        **NOT_YET,
    },
)
async def pull(context: Ctx, wanted: PullIn) -> PullOut:
    """Ask the registry now what images are, and pull what is new; launches go on from what is here until then."""
    world = world_of(context)
    named = {pool.image for pool in world.pools}
    if wanted.image is not None and wanted.image not in named:
        raise HTTPException(404, f"No pool names the image {wanted.image}.")
    chosen = sorted(filter(images.is_remote, named if wanted.image is None else {wanted.image}))
    if not chosen:
        raise HTTPException(
            409, "It is a local VM, which no registry knows: build it anew, packer/README.md."
        )
    macs = [mac for image in chosen for mac in _macs(image, world)]
    if macs and not any(mac.can_be_chosen for mac in macs):
        raise HTTPException(
            409,
            "No Mac of the fleet has a label with its own name, by which it could be told to: pull it there, "
            "`tart pull IMAGE`, or see docs/orchard.md.",
        )
    for image in chosen:
        if (why := images.no_room(image, world)) is not None:
            raise HTTPException(409, f"{why[0].upper()}{why[1:]}.")
    context.reconciler.tend_images(refresh=chosen)
    return PullOut(images=chosen)


@router.post(
    "/prepare",
    status_code=202,
    responses={
        400: {"model": Refusal, "description": "It is no JSON"},
        404: MISSING,
        409: {"model": Refusal, "description": "Nothing is prepared: draining, or prepare = false"},
        **NOT_YET,
    },
)
async def prepare(context: Ctx, wanted: PrepareIn) -> PrepareOut:
    """Prepare bases in the next slot that is free, ahead of jobs; launches go on from what is here until then."""
    world = world_of(context)
    if wanted.image is not None and all(pool.image != wanted.image for pool in world.pools):
        raise HTTPException(404, f"No pool names the image {wanted.image}.")
    if world.draining:
        raise HTTPException(409, "CiderMill is draining and prepares nothing until `cidermill resume`.")
    pools = {p.image: p for p in reversed(world.pools) if p.prepare and wanted.image in {None, p.image}}
    if not pools:
        raise HTTPException(409, "prepare = false in every pool that names it: leave that out, and reload.")
    context.reconciler.tend_images(prepare=pools)
    version = world.release.version if world.release else None
    return PrepareOut(
        images=[
            PreparationOut(
                image=image,
                runner_version=version,
                runner_dir=pool.runner_dir,
                script=pool.prepare_script.path if pool.prepare_script else None,
            )
            for image, pool in sorted(pools.items())
        ]
    )


@router.post("/prune", status_code=202, responses=NOT_YET)
async def prune(context: Ctx) -> PruneOut:
    """Remove every base but those that launches clone, with what was pulled for it."""
    chosen = sorted(images.unused(world_of(context)))
    context.reconciler.tend_images(drop=chosen)
    return PruneOut(bases=chosen)


def _macs(image: str, world: World) -> list[FetchedOut]:
    if world.host is None or world.host.images is not None:
        return []
    now = {(host_of(runner.slot), runner.spec.image) for runner in pulls.under_way(world)}
    return [
        FetchedOut(
            host=host.name,
            fetched_at=world.images_at.get((host.name, image)),
            pulling=(host.name, image) in now,
            can_be_chosen=host.can_be_chosen,
        )
        for host in sorted(pulls.hosts_of(image, world), key=lambda host: host.name)
    ]


def _goldens(pools: list[Pool], image: str, world: World) -> list[Golden]:
    """Return the goldens of *pools*; with no image, those of no pool that there is."""
    found = world.host.goldens if world.host else ()
    named = {pool.name for pool in pools}
    left = (
        {golden.pool for golden in found} - {pool.name for pool in world.pools} if not image else set[str]()
    )
    chosen = [golden for golden in found if golden.pool in named | left]
    return sorted(chosen, key=lambda golden: golden.at, reverse=True)


def _by_age(base: Base) -> int:
    return base.age
