"""What launches need of an Orchard fleet: a controller that lets us in, and Macs that take VMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.doctor.finding import Check, Finding, failure, warning
from app.domain.places import suits
from app.domain.pools import Pool
from app.domain.world import HostLook
from app.ports import VMBackend, VMError

CONTROLLER = Check(
    area="fleet",
    name="controller",
    looks_at="whether the Orchard controller answers, with a certificate that is trusted, and lets our account in",
    why="It is the controller that has VMs made and removed.",
    troubles={"unusable": failure("{said}", "{mend}")},
)
WORKERS = Check(
    area="fleet",
    name="workers",
    looks_at="whether each Mac of the fleet takes VMs",
    why="A Mac that is paused, or that the controller no longer hears of, runs no job.",
    troubles={
        "none": failure(
            "there is no Mac in the fleet", "start `orchard worker run` on one (docs/orchard.md)"
        ),
        "closed": warning(
            "{name} takes no VMs: {closed}",
            "`orchard resume worker {name}` if it is paused, else see to that Mac and its `orchard worker run`",
        ),
    },
)
NAMED = Check(
    area="fleet",
    name="worker-labels",
    looks_at="whether each Mac of the fleet has a label with its own name, by which a VM can be put there",
    why="Only so can a job go to a Mac that has its image, and can images be pulled ahead of jobs.",
    troubles={
        "unnamed": warning(
            "{name} has no label whose value is its name: Orchard chooses what runs there",
            "start its `orchard worker run` with `--labels host={name}`",
        ),
    },
)
POOLS = Check(
    area="fleet",
    name="pool-places",
    looks_at="whether some Mac can run each pool's VMs",
    why="A VM that no Mac can run waits for ever, and Orchard does not say why.",
    troubles={
        "nowhere": failure(
            "pool {pool}: no Mac has its labels and resources, whatever runs there",
            "compare its table [pool.orchard] with `orchard list workers`, and with the worker's --labels and --resources",
        ),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What there is."""

    pools: Sequence[Pool]
    look: HostLook | None
    trouble: str = ""


async def gather(vms: VMBackend, pools: Sequence[Pool]) -> Fleet:
    """Look at it all."""
    try:
        return Fleet(pools=pools, look=await vms.look())
    except VMError as error:
        return Fleet(pools=pools, look=None, trouble=str(error))


def controller(fleet: Fleet) -> Iterator[Finding]:
    """Want a controller that answers."""
    if fleet.look is None:
        said, _, mend = fleet.trouble.partition(": ")
        yield CONTROLLER.wrong("unusable", said=said, mend=mend or "see the controller's log")
    else:
        yield CONTROLLER.fine("it answers, and lets us in")


def workers(fleet: Fleet) -> Iterator[Finding]:
    """Want Macs that take VMs."""
    if fleet.look is None:
        yield WORKERS.skipped("the controller does not tell (see controller)")
        return
    hosts = fleet.look.hosts
    if not hosts:
        yield WORKERS.wrong("none")
    for host in hosts:
        if host.closed:
            yield WORKERS.wrong("closed", name=host.name, closed=host.closed)
    taking = [host for host in hosts if not host.closed]
    if taking:
        yield WORKERS.fine(
            f"{len(taking)} of {len(hosts)} Macs take VMs, {sum(len(h.slots) for h in taking)} at a time"
        )


def worker_labels(fleet: Fleet) -> Iterator[Finding]:
    """Want Macs that can be chosen."""
    if fleet.look is None:
        yield NAMED.skipped("the controller does not tell (see controller)")
        return
    hosts = fleet.look.hosts
    for host in hosts:
        if not host.can_be_chosen:
            yield NAMED.wrong("unnamed", name=host.name)
    named = sum(host.can_be_chosen for host in hosts)
    if named or not hosts:
        yield NAMED.fine(f"{named} of {len(hosts)} Macs can be chosen")


def pools(fleet: Fleet) -> Iterator[Finding]:
    """Want a Mac for each pool."""
    if fleet.look is None:
        yield POOLS.skipped("the controller does not tell (see controller)")
        return
    for pool in fleet.pools:
        fitting = [host.name for host in fleet.look.hosts if suits(pool, host)]
        if fitting:
            yield POOLS.fine(f"pool {pool.name}: {', '.join(fitting)}")
        else:
            yield POOLS.wrong("nowhere", pool=pool.name)


CHECKS: tuple[tuple[Check, Callable[[Fleet], Iterator[Finding]]], ...] = (
    (CONTROLLER, controller),
    (WORKERS, workers),
    (NAMED, worker_labels),
    (POOLS, pools),
)
