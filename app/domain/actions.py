"""What one pass may decide to do. An action is data; the reconciler carries it out.

``key`` names what the action is about: while one with that key is in hand, or rests after a failure, no other
of the same key is started.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.pools import Target
from app.domain.runners import Purpose, Runner, RunnerState


@dataclass(frozen=True, slots=True)
class Claim:
    """Take a free slot for a new runner of a pool, to prepare the base of its image, have that fetched, or make a golden."""

    slot: str
    pool: str
    reason: str
    purpose: Purpose = Purpose.JOBS

    @property
    def key(self) -> str:
        """One claim a slot."""
        return f"slot:{self.slot}"


@dataclass(frozen=True, slots=True)
class Reseat:
    """Give runners the slots of the hosts that their VMs were put on: pairs of a runner and its slot."""

    slots: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """All at once, since they may change places."""
        return "reseat"


@dataclass(frozen=True, slots=True)
class Boot:
    """Clone and start the VM, or go on waiting for one that an earlier process started."""

    runner: Runner

    @property
    def key(self) -> str:
        """Boots alone may be interrupted, so they are told apart."""
        return f"boot:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class MakeBase:
    """Prepare the base of an image in a VM of its own; *target* is whose permission is used to ask for the runner."""

    runner: Runner
    target: Target

    @property
    def key(self) -> str:
        """It may be interrupted as a boot is."""
        return f"boot:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class FetchImage:
    """Have the host of a runner's slot fetch the image of its pool, in a VM."""

    runner: Runner

    @property
    def key(self) -> str:
        """It may be interrupted as a boot is."""
        return f"boot:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class MakeGolden:
    """Make a suspended VM, for launches to resume clones of, in a VM of its own."""

    runner: Runner

    @property
    def key(self) -> str:
        """It may be interrupted as a boot is."""
        return f"boot:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class OfRunner:
    """What is done about a runner, one thing at a time."""

    runner: Runner

    @property
    def key(self) -> str:
        """The runner itself."""
        return self.runner.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint(OfRunner):
    """Register the runner at its target and deliver the JIT config to its guest."""

    target: Target
    group_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(OfRunner):
    """Write down what is already true of a runner."""

    to: RunnerState
    reason: str
    job_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(OfRunner):
    """Begin to tear a runner down: its VM has ended, it never had an identity, or its time is up.

    ``barren``: it was registered and got no job, so the next of its class waits a while.
    """

    reason: str
    barren: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire(OfRunner):
    """Ask GitHub, then the guest, whether a registered runner may go; begin to tear it down if both agree."""

    reason: str
    barren: bool = False  # as of Stop
    again: bool = False  # the guest got nothing: once the registration is gone, its VM may have another


@dataclass(frozen=True, slots=True)
class Hold:
    """Tell the guest until when it is kept after its runner has ended, or that it is not."""

    runner: Runner

    @property
    def key(self) -> str:
        """Apart from all else: a guest that cannot be told must not keep its runner from being reviewed."""
        return f"hold:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class Destroy(OfRunner):
    """Remove the VM of a stopping runner, and its registration."""


@dataclass(frozen=True, slots=True)
class SettleDebt(OfRunner):
    """Remove the registration that a runner left behind."""


@dataclass(frozen=True, slots=True)
class SweepVM:
    """Remove a VM with our prefix that no runner of ours owns."""

    name: str

    @property
    def key(self) -> str:
        """One sweep a VM."""
        return f"vm:{self.name}"


@dataclass(frozen=True, slots=True)
class SweepRegistration:
    """Remove a registration with our prefix that no runner of ours owns."""

    target: Target
    name: str
    registration_id: int

    @property
    def key(self) -> str:
        """One sweep a registration."""
        return f"registration:{self.target}:{self.name}"


@dataclass(frozen=True, slots=True)
class PrepareImage:
    """Make an image clonable, off the job path."""

    image: str

    @property
    def key(self) -> str:
        """One at a time for an image."""
        return f"image:{self.image}"


@dataclass(frozen=True, slots=True)
class RefreshImage:
    """Ask the registry what an image is by now, and make that clonable; launches go on from what there is."""

    image: str

    @property
    def key(self) -> str:
        """One at a time for an image."""
        return f"image:{self.image}"


@dataclass(frozen=True, slots=True)
class DropBase:
    """Remove a local base that nothing needs; *in_use* are the images whose present base stays whatever happens."""

    name: str
    in_use: frozenset[str]

    @property
    def key(self) -> str:
        """One removal a base."""
        return f"base:{self.name}"


@dataclass(frozen=True, slots=True)
class DropGolden:
    """Remove a golden that no launch may resume, or that is one too many."""

    name: str

    @property
    def key(self) -> str:
        """One removal a golden."""
        return f"golden:{self.name}"


@dataclass(frozen=True, slots=True)
class LookAtHost:
    """List the host's VMs."""

    @property
    def key(self) -> str:
        """One look at a time."""
        return "look:host"


@dataclass(frozen=True, slots=True)
class LookAtRegistrations:
    """List a target's runners."""

    target: Target

    @property
    def key(self) -> str:
        """One look a target."""
        return f"look:registrations:{self.target}"


@dataclass(frozen=True, slots=True)
class LookAtGroup:
    """Read an organization's runner group."""

    organization: str
    group: str | None

    @property
    def key(self) -> str:
        """One look a group."""
        return f"look:group:{self.organization}:{self.group or ''}"


@dataclass(frozen=True, slots=True)
class LookAtGuest:
    """Ask a guest about the runner inside it."""

    runner: Runner

    @property
    def key(self) -> str:
        """One look a guest."""
        return f"look:guest:{self.runner.name}"


@dataclass(frozen=True, slots=True)
class CheckJob:
    """Ask GitHub what became of a job."""

    job_id: int

    @property
    def key(self) -> str:
        """One look a job."""
        return f"look:job:{self.job_id}"


@dataclass(frozen=True, slots=True)
class ReadDeliveryLog:
    """Read which webhooks failed to arrive, and take in what they would have told."""

    @property
    def key(self) -> str:
        """One reader at a time."""
        return "look:deliveries"


@dataclass(frozen=True, slots=True)
class ListRepositories:
    """Ask GitHub which repositories we may see."""

    @property
    def key(self) -> str:
        """One list at a time."""
        return "look:repositories"


@dataclass(frozen=True, slots=True)
class PollJobs:
    """Ask GitHub which jobs are queued in a repository."""

    repository: str

    @property
    def key(self) -> str:
        """One poll a repository."""
        return f"look:queue:{self.repository}"


@dataclass(frozen=True, slots=True)
class LookAtRelease:
    """Ask GitHub which version of the actions runner it expects; *target* is whose permission is used."""

    target: Target

    @property
    def key(self) -> str:
        """One question at a time."""
        return "look:release"


Hear = ReadDeliveryLog | ListRepositories | PollJobs
Look = LookAtHost | LookAtRegistrations | LookAtGroup | LookAtGuest | LookAtRelease | CheckJob | Hear
Images = PrepareImage | RefreshImage | DropBase | DropGolden
Making = MakeBase | FetchImage | MakeGolden
RunnerAction = Boot | Making | Mint | Note | Hold | Stop | Retire | Destroy | SettleDebt
Action = Claim | Reseat | RunnerAction | SweepVM | SweepRegistration | Images | Look


def subject(action: Action) -> dict[str, str | int]:
    """Return the runner and the job that *action* is about, as far as it is about any: fields of a log line."""
    found: dict[str, str | int] = {}
    job: int | None = None
    if isinstance(action, RunnerAction | LookAtGuest):
        found["runner"], job = action.runner.name, action.runner.job_id
    if isinstance(action, Note | CheckJob):
        job = action.job_id or job
    return found if job is None else found | {"job": job}
