"""What launches need on this machine: tart, softnet, room, images, and nobody else's VMs in our slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from app.doctor.finding import Check, Finding, failure, warning
from app.doctor.host import MACHINE, Host, Process
from app.domain.pools import MACOS_VM
from app.domain.versions import held, mend, time_left
from app.domain.world import VMState

RECOMMENDED = (2, 33, 0)  # docs/contracts/tart.md §0.1
ROOM_A_SLOT = 25.0  # GB that a guest writes in a job, easily
YOUNG = 60.0  # seconds in which a `tart run` may not have its lock yet

TART = Check(
    area="host",
    name="tart",
    looks_at="whether tart runs, and its version",
    why="tart is what clones, starts and removes VMs.",
    troubles={
        "missing": failure("{said}", "`brew install openai/tools/tart`, or set tart_path to where it is"),
        "too_old": failure("{said}", "`brew upgrade openai/tools/tart`"),
        "old": warning(
            "tart {version} works, and before 2.33.0 each delivery costs a CPU core for a while",
            "`brew upgrade openai/tools/tart`; VMs that run go on",
        ),
    },
)
SOFTNET = Check(
    area="host",
    name="softnet",
    looks_at="whether softnet is installed and may do its work, where a pool uses it",
    why="softnet keeps a guest, which runs strangers' code, away from your network and from other guests.",
    troubles={
        "missing": failure(
            'pool {pool} has network = "softnet", and softnet is not installed',
            '`brew install openai/tools/softnet`, or network = "nat", which lets guests reach your network',
        ),
        "not_set_up": failure(
            "{path} is neither setuid root nor allowed by sudo without a password",
            "`sudo chown root {path} && sudo chmod u+s {path}`, and again after each `brew upgrade`",
        ),
    },
)
LAUNCHD_PATH = Check(
    area="host",
    name="launchd-path",
    looks_at="whether tart and softnet are found with the PATH that launchd gives",
    why="What works in your terminal may be missing when the Mac starts CiderMill by itself.",
    troubles={
        "off": warning(
            "{program} is found only by this terminal's PATH",
            "set tart_path to {path}, or put its folder into PATH in the launch agent (docs/operating.md)",
        ),
    },
)
DISK = Check(
    area="host",
    name="disk-space",
    looks_at="free space where tart keeps its VMs",
    why="A clone takes room as its job writes; on a full disk VMs break off, and below the floor none starts.",
    troubles={
        "low": failure(
            "{free} GB are free, and min_free_disk_gb is {floor}",
            "free some space, or remove images that no pool uses: `tart list`, `tart delete NAME`",
        ),
        "tight": warning(
            "{free} GB are free: little above min_free_disk_gb = {floor} once {slots} jobs run",
            "free some space, or remove images that no pool uses: `tart list`, `tart delete NAME`",
        ),
    },
)
FOREIGN = Check(
    area="host",
    name="foreign-vms",
    looks_at="running VMs that are not CiderMill's",
    why="Apple allows two macOS VMs at a time on one Mac, whoever runs them.",
    troubles={
        "running": warning(
            "{names} runs, so that {left} of {slots} slots are left",
            "stop it (`tart stop NAME`), or set slots to {left} if it is to stay",
        ),
        "unlisted": failure(
            "tart does not list its VMs: {said}", "`tart list` by hand, and mend what it complains of"
        ),
    },
)
LEAKED = Check(
    area="host",
    name="vm-processes",
    looks_at="VM processes that belong to no VM that tart lists as running",
    why="One that was left behind holds a place that nobody gets back.",
    troubles={
        "stray": warning(
            "`tart run` of {vm} (process {pid}) runs, and tart lists no such VM as running",
            "see what it is with `ps -o pid,etime,args -p {pid}`, and end it with `kill -INT {pid}`",
        ),
        "others": warning(
            "{count} VM processes run, and tart lists {running} running VMs",
            f"see whose they are with `pgrep -fl {MACHINE}`: end UTM, Docker or the like; if there is no other "
            "program, reboot the Mac, which alone frees a slot that macOS has lost",
        ),
    },
)
IMAGE = Check(
    area="host",
    name="image",
    looks_at="whether each pool's image can be cloned at once",
    why="A launch never waits for a registry: until its image is here, a pool serves nothing.",
    troubles={
        "missing": failure(
            "pool {pool}: there is no stopped local VM called {image}",
            "build it (packer/README.md), shut it down (`tart stop {image}`), or name an image of a registry",
        ),
        "not_pulled": warning(
            "pool {pool}: {image} is not pulled yet",
            "`cidermill serve` pulls it by itself; to see why it does not, `tart pull {image}` by hand",
        ),
    },
)
RUNNER = Check(
    area="host",
    name="runner-version",
    looks_at="the actions runner in each image against the one that GitHub expects",
    why="GitHub gives no jobs to a runner that is 30 days older than its newest release.",
    troubles={
        "older": warning(
            "pool {pool}: the image holds runner {found}, GitHub expects {expected}, and in {days} days gives it "
            "no more jobs",
            "{mend}",
        ),
        "too_old": failure(
            "pool {pool}: the image holds runner {found}, GitHub expects {expected}, and may give it no jobs now",
            "{mend}",
        ),
    },
)
NO_TART = "tart does not list its VMs"

Looks = Callable[[Host, datetime], Iterator[Finding]]


def tart(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want a tart that is new enough."""
    if host.tart_trouble is not None:
        code = "too_old" if host.tart_trouble.reason == "tart_too_old" else "missing"
        yield TART.wrong(code, said=str(host.tart_trouble).partition(": `brew")[0])
    elif host.version is None:
        yield TART.fine("an unofficial build of tart")
    else:
        version = ".".join(map(str, host.version))
        yield (
            TART.wrong("old", version=version) if host.version < RECOMMENDED else TART.fine(f"tart {version}")
        )


def softnet(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want Softnet, where a pool uses it."""
    needing = [pool.name for pool in host.pools if pool.network == "softnet"]
    if not needing:
        yield SOFTNET.fine("no pool uses it")
    elif host.softnet is None:
        yield SOFTNET.wrong("missing", pool=needing[0])
    elif not (host.softnet.setuid or host.softnet.sudo):
        yield SOFTNET.wrong("not_set_up", path=host.softnet.path)
    else:
        yield SOFTNET.fine(f"{host.softnet.path} may do its work")


def launchd_path(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want programs that launchd finds too."""
    used = {host.program} | ({"softnet"} if any(p.network == "softnet" for p in host.pools) else set())
    missed = {program: path for program, path in host.off_path.items() if program in used}
    for program, path in missed.items():
        yield LAUNCHD_PATH.wrong("off", program=program, path=path)
    if not missed:
        yield LAUNCHD_PATH.fine("it finds them")


def disk_space(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want room for VMs."""
    free, floor = round(host.free_gb), round(host.min_free_gb)
    if host.free_gb < host.min_free_gb:
        yield DISK.wrong("low", free=free, floor=floor)
    elif host.free_gb < host.min_free_gb + host.slots * ROOM_A_SLOT:
        yield DISK.wrong("tight", free=free, floor=floor, slots=host.slots)
    else:
        yield DISK.fine(f"{free} GB are free")


def foreign_vms(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want nobody else's VMs in our slots."""
    if host.tart_trouble is not None:
        yield FOREIGN.skipped(NO_TART)
        return
    if host.look is None:
        yield FOREIGN.wrong("unlisted", said=host.look_trouble)
        return
    others = sorted(
        vm.name for vm in host.look.vms if vm.takes.get(MACOS_VM) and not host.names.is_runner(vm.name)
    )
    limit = sum(one.room[MACOS_VM] for one in host.look.hosts)
    left = max(0, min(host.slots, limit - len(others)))
    if left < host.slots:
        yield FOREIGN.wrong("running", names=" and ".join(others), left=left, slots=host.slots)
    else:
        yield FOREIGN.fine("none takes a slot")


def vm_processes(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want no VM process without its VM."""
    if host.look is None:
        yield LEAKED.skipped(NO_TART)
        return
    up = {vm.name for vm in host.look.vms if vm.state is VMState.RUNNING}
    strays = [p for p in host.processes if _is_stray(p, up)]
    for process in strays:
        yield LEAKED.wrong("stray", vm=process.argv[-1], pid=process.pid)
    machines = sum(p.argv[0] == MACHINE and p.seconds >= YOUNG for p in host.processes)
    if machines > len(up) + len(strays):
        yield LEAKED.wrong("others", count=machines, running=len(up))
    elif not strays:
        yield LEAKED.fine("every VM process has its VM")


def _is_stray(process: Process, up: set[str]) -> bool:
    return process.argv[0] != MACHINE and process.seconds >= YOUNG and process.argv[-1] not in up


def image(host: Host, _now: datetime) -> Iterator[Finding]:
    """Want images that can be cloned at once."""
    if host.look is None:
        yield IMAGE.skipped(NO_TART)
        return
    for pool in host.pools:
        if host.look.images is None or pool.image in host.look.images:
            yield IMAGE.fine(f"pool {pool.name}: {pool.image} can be cloned")
        else:
            code = "not_pulled" if "/" in pool.image else "missing"
            yield IMAGE.wrong(code, pool=pool.name, image=pool.image)


def runner_version(host: Host, now: datetime) -> Iterator[Finding]:
    """Want runners that GitHub gives jobs to."""
    world = host.world
    if world is None or world.release is None or not any(held(pool, world) for pool in world.pools):
        yield RUNNER.skipped("not known before a VM of the image was booted: `cidermill doctor --boot`")
        return
    older = time_left(world, now)
    for pool in world.pools:
        if (left := older.get(pool.name)) is not None:
            yield RUNNER.wrong(
                "older" if left > timedelta() else "too_old",
                pool=pool.name,
                found=held(pool, world),
                expected=world.release.version,
                days=left // timedelta(days=1),
                mend=mend(pool),
            )
    if not older:
        yield RUNNER.fine(f"every image holds runner {world.release.version} or later")


CHECKS: tuple[tuple[Check, Looks], ...] = (
    (TART, tart),
    (SOFTNET, softnet),
    (LAUNCHD_PATH, launchd_path),
    (DISK, disk_space),
    (FOREIGN, foreign_vms),
    (LEAKED, vm_processes),
    (IMAGE, image),
    (RUNNER, runner_version),
)
