"""The stories that a process is killed in, each with every step that its process makes: the table of the crash tests.

A story is what happens outside while the process lives or lies dead. Each of its steps stands for two rows: just
before the call, and just after its effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.pools import Target
from app.sandbox import github_faults
from app.sandbox.image import REMOTE_IMAGE, make_image
from app.sandbox.outside import IMAGE
from app.sandbox.runner import runner_files
from app.sandbox.tart import faults
from app.sandbox.tart.copying import copy_image
from app.sandbox.tart.faults import Fault
from tests.crash.site import CONFIG, LABELS, Site
from tests.crash.steps import AFTER, BEFORE

Play = Callable[[Site], Awaitable[None]]
APP = Target("acme", "app")
STRAY = "crash-mac-zzzzzzzz"

AT_START = (
    "store.configure",
    "store.note_clock",
    "store.prune",
    "github.whoami",
    "vms.look",
    "tart.vms",
    "github.delivery_log",
    "github.repositories",
    "github.queued_jobs",
    "store.observe_all",
)
LAUNCH = (
    "store.record queued",
    "github.runner_group",
    "store.claim",
    "store.advance booting",
    "vms.start",
    "tart.clone runner",
    "tart.configure",
    "tart.run",
    "tart.exec true",
    "tart.exec set-up",
    "store.advance ready",
    "store.succeed",
    "github.job",
    "store.observe",
    "store.advance registered",
    "github.mint",
    "store.amend registration_id",
    "vms.deliver",
    "tart.exec deliver",
    "store.amend delivered",
    "github.registrations",
    "github.latest_runner",
    "store.note_release",
)
END = (
    "store.record completed",
    "store.advance stopping",
    "vms.delete",
    "tart.delete",
    "store.advance gone",
    "github.deregister",
    "store.amend deregistered",
)
GOLDEN = CONFIG + 'start = "snapshot"\nmax_runners = 1\n'
NEVER_ALONE = frozenset({"vms.close"})  # only a process that is told to stop gets there


async def nothing(site: Site) -> None:
    """Let things take their course."""
    del site


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens, and the steps at which its process is killed."""

    name: str
    steps: tuple[str, ...]
    before: Play = nothing  # the process that is killed starts
    play: Play = nothing  # once it is ready, or dead
    config: str = CONFIG
    ends: str | None = "success"  # the job
    goldens: int = 0  # that there are in the end

    def __str__(self) -> str:
        return self.name

    def is_over(self, site: Site) -> bool:
        """Whether all is done that begins by itself."""
        return site.is_drained() and len(site.goldens()) == self.goldens

    @property
    def rows(self) -> list[str]:
        """Each step twice, as it is written in the trail."""
        rows = [f"{step} {when}" for step in self.steps for when in (BEFORE, AFTER)]
        return [row for row in rows if row != "tart.run after"]  # which is "tart.exec true before"


async def one_job(site: Site) -> None:
    site.queue()


async def cancel_once_minted(site: Site) -> None:
    """Cancel a job in the moment when its runner is registered: that comes online and finds nothing to do."""
    job = site.queue()
    await site.until(lambda: site.has_ended() or site.model.runners.registrations)
    site.model.cancel(job)


async def publish(site: Site) -> None:
    make_image(site.place / "tart", REMOTE_IMAGE, runner_files(), oci=True)


async def take_the_runner_away(site: Site) -> None:
    """Have an image without a runner."""
    make_image(site.place / "tart", IMAGE, {})


async def make_a_golden(site: Site) -> None:
    """Have a golden, made by a process that is gone."""
    await site.start()
    await site.until(lambda: site.goldens() and site.is_drained())
    await site.kill()


async def fail_to_restore(site: Site) -> None:
    faults.write(site.place / "tart", Fault("restore_fails", vm="crash-mac-*", count=1))
    site.queue()


async def leave_orphans(site: Site) -> None:
    """Leave a VM and a registration of a runner that no row knows, at a target that was used before."""
    await site.start()
    site.queue()
    await site.until(site.is_drained)
    await site.kill()
    vms = site.place / "tart" / "vms"
    (vms / STRAY).mkdir()
    copy_image(vms / IMAGE, vms / STRAY)
    site.model.runners.mint(APP, name=STRAY, labels=LABELS, group_id=1)


async def queue_while_nobody_listens(site: Site) -> None:
    site.model.point_hook("http://127.0.0.1:9/webhooks/github")
    site.queue()
    await site.until(lambda: site.model.hooks.log)


async def kill_while_it_runs(site: Site) -> None:
    """Have a job run whose process is gone."""
    await site.start()
    job = site.queue(held=True)
    await site.until(lambda: job.status == "in_progress" and "store.amend delivered after" in site.steps())
    await site.kill()


async def let_go_once_taken_up(site: Site) -> None:
    await site.until(lambda: site.has_ended() or "vms.follow after" in site.steps())
    site.let_go()


async def fail_the_boot(site: Site) -> None:
    faults.write(site.place / "tart", Fault("start_aux_locked", count=1))
    site.queue()


async def hold_what_github_says(site: Site) -> None:
    """Let webhooks wait from the mint on, until GitHub's list has said that the runner works."""
    site.queue(held=True)
    await site.until(lambda: site.has_ended() or site.model.runners.registrations)
    site.model.hooks.holding = True
    await site.until(lambda: site.has_ended() or "store.advance busy after" in site.steps())
    site.model.hooks.release()
    await site.until(lambda: site.has_ended() or "store.amend job_id after" in site.steps())
    site.let_go()


async def set_the_clock(site: Site) -> None:
    """Set the clock an hour ahead while a job runs."""
    job = site.queue(held=True)
    await site.until(lambda: site.has_ended() or job.status == "in_progress")
    (site.place / "jump").touch()
    await site.until(lambda: site.has_ended() or "store.shift_times after" in site.steps())
    site.let_go()


async def end_without_a_word(site: Site) -> None:
    """End a run so that its job stays queued and no webhook ever says that it is over."""
    job = site.queue()
    site.model.workflows.fail_to_start(job.run)


async def fail_to_tell(site: Site) -> None:
    site.model.faults.add("job", github_faults.answer(502), times=8)
    site.queue()


async def steer(site: Site) -> None:
    """Ask a runner to stop while it works, and the whole to drain; then to go on."""
    job = site.queue(held=True)
    await site.until(lambda: site.has_ended() or job.status == "in_progress")
    for (name,) in site.rows("SELECT name FROM runner WHERE state != 'gone'"):
        await site.ask("DELETE", f"/api/v1/runners/{name}")
    for verb in ("drain", "resume", "reconcile"):
        await site.ask("POST", f"/api/v1/{verb}")
    site.let_go()


STORIES = (
    Story(
        name="one job",
        steps=(*AT_START, *LAUNCH, "store.record in_progress", "store.advance busy", *END),
        play=one_job,
    ),
    Story(
        name="a runner without a job",
        steps=("store.advance idle", "vms.probe", "tart.exec probe", "tart.stop", *END[:-1]),
        play=cancel_once_minted,
        ends="cancelled",
    ),
    Story(
        name="an image of a registry",
        steps=("vms.prepare", "tart.pull", "tart.fqn", "tart.clone base", "tart.new_mac"),
        before=publish,
        play=one_job,
        config=CONFIG.replace(IMAGE, REMOTE_IMAGE),
    ),
    Story(
        name="an image without a runner",
        steps=(
            "store.fail",
            "github.runner_package",
            "vms.make_base",
            "tart.clone base",
            "tart.exec install",
            "tart.exec finish",
            "tart.rename",
        ),
        before=take_the_runner_away,
        play=one_job,
    ),
    Story(
        name="a golden",
        steps=(
            "store.claim",
            "store.advance booting",
            "vms.make_golden",
            "tart.version",
            "tart.clone golden",
            "tart.run",
            "tart.exec settle",
            "tart.suspend",
            "tart.rename",
            "tart.clone suspended",
            "store.advance stopping",
            "vms.delete",
        ),
        config=GOLDEN,
        goldens=1,
    ),
    Story(
        name="a launch from a golden",
        steps=(
            "vms.start",
            "tart.clone suspended",
            "tart.run",
            "tart.exec set-up",
            "store.advance ready",
            "tart.exec deliver",
        ),
        before=make_a_golden,
        play=one_job,
        config=GOLDEN,
        goldens=1,
    ),
    Story(
        name="a golden that is not restored",
        steps=(
            "vms.start",
            "tart.clone runner",
            "store.advance ready",
            "store.fail",
            "vms.drop_golden",
            "tart.delete",
        ),
        before=make_a_golden,
        play=fail_to_restore,
        config=GOLDEN,
        goldens=1,
    ),
    Story(
        name="orphans",
        steps=("vms.look", "vms.delete", "tart.delete", "github.registrations", "github.deregister"),
        before=leave_orphans,
    ),
    Story(
        name="a webhook that failed",
        steps=("github.logged_delivery", "store.note_log_reached"),
        before=queue_while_nobody_listens,
    ),
    Story(name="taken up", steps=("vms.follow",), before=kill_while_it_runs, play=let_go_once_taken_up),
    Story(name="a boot that fails", steps=("store.fail", *END[1:5]), play=fail_the_boot),
    Story(name="late webhooks", steps=("store.amend job_id",), play=hold_what_github_says),
    Story(
        name="a run that is over",
        steps=("github.run", "store.end_job"),
        play=end_without_a_word,
        config=CONFIG + 'forks = "deny"\n',
        ends=None,
    ),
    Story(name="a silent GitHub", steps=("store.mark_checked",), play=fail_to_tell),
    Story(name="a clock that jumps", steps=("store.shift_times",), play=set_the_clock),
    Story(
        name="an operator",
        steps=("store.request_stop", "store.set_draining", "store.forget_failures"),
        play=steer,
    ),
)
