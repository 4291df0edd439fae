"""Prepared bases on the stand-in tart: what is in one, what launches clone when, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.pools import Pool, Script
from app.domain.world import Base
from app.ports import Package, VMError
from app.sandbox.image import make_image
from app.sandbox.runner import runner_archive, runner_files
from app.sandbox.tart.faults import Fault
from app.sandbox.tart.guest import GUARD, HOME, SHARED
from tests.vm.faulty import IMAGE, A, Host, Must, a_spec, refused

B = "mini-base-bbbbbbbb"
OLD, NEW = "2.335.0", "2.337.0"
Change = Callable[[Host], object]
LONG = pytest.mark.long


def a_package(host: Host, version: str = NEW) -> Package:
    data = runner_archive(version)
    archive = host.state / f"{version}.tar.gz"
    archive.write_bytes(data)
    return Package(version=version, archive=archive, sha256=hashlib.sha256(data).hexdigest())


def a_script(host: Host, text: str) -> Script:
    file = host.place / "prepare.sh"
    file.write_text(text)
    return Script(str(file), hashlib.sha256(text.encode()).hexdigest())


def home_of(host: Host, name: str) -> Path:
    return host.vm(name) / "guest" / HOME


async def the_base(host: Host) -> Base:
    (base,) = (await host.backend.look()).bases
    return base


async def dropped(host: Host) -> None:
    """Remove every base: nothing may be left."""
    for base in (await host.backend.look()).bases:
        await host.backend.drop_base(base.name, frozenset())


@pytest.mark.long
async def test_an_image_without_a_runner_serves(host: Host) -> None:
    """The base has the runner that was asked for; launches clone it, and what is left of its making is nothing."""
    make_image(host.home, IMAGE, {})
    spec = a_spec()
    await refused(host.backend.start(A, spec), Must("runner_missing", "leave prepare on"))
    await host.backend.delete(A)
    await host.backend.make_base(B, spec, a_package(host))
    base = await the_base(host)
    assert base.made is not None
    assert (base.image, base.age, base.made.runner_version, base.made.script) == (IMAGE, 0, NEW, None)
    assert not host.vm(B).exists()
    left = [str(f.relative_to(home_of(host, base.name))) for f in home_of(host, base.name).iterdir()]
    assert left == ["actions-runner"]
    assert list((host.vm(base.name) / "guest" / SHARED).iterdir()) == []
    assert list((host.state / "prepare").iterdir()) == []
    facts = await host.backend.start(A, spec)
    assert (facts.image, facts.runner_version) == (IMAGE, NEW)
    await host.backend.delete(A)
    await dropped(host)


@pytest.mark.long
async def test_what_an_image_keeps_beside_the_runner_stays(host: Host) -> None:
    """An update replaces what the runner is made of: an environment stays, an identity and old parts go."""
    files = runner_files(version=OLD) | {
        ".env": ("LANG=C\n", 0o644),
        ".runner": ("{}", 0o644),
        ".credentials": ("{}", 0o600),
        "bin/old.dll": ("", 0o644),
        "tools/mine": ("", 0o644),
    }
    image = make_image(host.home, IMAGE, files)
    (image / "guest" / GUARD / "image.json").write_text(
        f'{{\n  "runner_version": "{OLD}",\n  "base": "x"\n}}\n'
    )
    await host.backend.make_base(B, a_spec(), a_package(host))
    base = await the_base(host)
    runner = home_of(host, base.name) / "actions-runner"
    assert {f.name for f in runner.iterdir()} == {".env", "run.sh", "bin", "tools"}
    assert not (runner / "bin/old.dll").exists()
    told = json.loads((host.vm(base.name) / "guest" / GUARD / "image.json").read_text())
    assert told == {"runner_version": NEW, "base": "x"}
    assert (await host.backend.start(A, a_spec())).runner_version == NEW
    await host.backend.delete(A)
    await dropped(host)


async def test_the_operators_script_runs_and_is_heard(host: Host) -> None:
    """It runs at home, beside the runner; what it says is kept, what it leaves is in every clone, it itself is not."""
    text = (
        '#!/bin/sh\necho "I am in $(pwd)"\necho A=1 >>"$RUNNER_DIR/.env"\ntouch was-here\necho trouble >&2\n'
    )
    spec = a_spec(prepare_script=a_script(host, text), runner_dir=str(host.place / "opt/runner"))
    await host.backend.make_base(B, spec, a_package(host))
    base = await the_base(host)
    assert base.made is not None
    assert base.made.script == spec.prepare_script.digest if spec.prepare_script else False
    said = (host.state / "runners" / B / "runner.log").read_text().splitlines()
    assert said[0].startswith("I am in ")
    assert said[0].endswith(HOME)
    assert said[1] == "trouble"
    assert (host.place / "opt/runner/.env").read_text() == "A=1\n"
    assert {f.name for f in home_of(host, base.name).iterdir()} == {"was-here", "actions-runner"}
    await dropped(host)


async def test_the_next_one_takes_its_place(host: Host) -> None:
    """Launches clone the newest; a VM that runs keeps what it has; the one before can go, the newest stays."""
    await host.backend.make_base(B, a_spec(), a_package(host, OLD))
    old = await the_base(host)
    assert (await host.backend.start(A, a_spec())).runner_version == OLD
    await host.backend.make_base("mini-base-cccccccc", a_spec(), a_package(host))
    new, before = sorted((await host.backend.look()).bases, key=lambda base: base.age)
    assert before == replace(old, age=1)
    assert (await host.backend.probe(A)).delivered is False
    with pytest.raises(VMError, match="stays while a pool names that"):
        await host.backend.drop_base(new.name, frozenset({IMAGE}))
    await host.backend.drop_base(before.name, frozenset({IMAGE}))
    await host.backend.delete(A)
    assert (await host.backend.start(A, a_spec())).runner_version == NEW
    await host.backend.delete(A)
    assert (await host.backend.start(A.replace("a", "d"), a_spec(prepare=False))).runner_version is None
    await host.backend.delete(A.replace("a", "d"))
    await dropped(host)


@pytest.mark.long
async def test_a_restart_remembers(host: Host) -> None:
    """What was prepared outlives us; where it is forgotten the base is one of no image, which nothing clones."""
    await host.backend.make_base(B, a_spec(), a_package(host))
    base = await the_base(host)
    assert (await host.another().look()).bases == (base,)
    (host.state / "bases.json").write_text("[]")
    again = host.another()
    (left,) = (await again.look()).bases
    assert (left.name, left.image, left.made) == (base.name, "", None)
    assert (await again.start(A, a_spec())).runner_version is None
    await again.delete(A)
    await again.drop_base(base.name, frozenset({IMAGE}))
    await again.close()


@pytest.mark.long
async def test_a_base_that_somebody_deleted(host: Host) -> None:
    """Launches go on from the image."""
    await host.backend.make_base(B, a_spec(), a_package(host))
    await dropped_by_hand(host, (await the_base(host)).name)
    assert (await host.backend.look()).bases == ()
    assert (await host.backend.start(A, a_spec())).runner_version is None
    await host.backend.delete(A)


async def dropped_by_hand(host: Host, name: str) -> None:
    from app.vm.command import Tart

    await Tart(str(host.program), host.home, {}).delete(name)


@pytest.mark.long
async def test_a_local_image_that_was_built_anew_is_another(host: Host) -> None:
    """What tells it is the same until then, whatever is cloned from it."""
    first = (await host.backend.look()).digests[IMAGE]
    await host.backend.make_base(B, a_spec(), a_package(host))
    look = await host.backend.look()
    assert (look.digests[IMAGE], look.bases[0].digest) == (first, first)
    make_image(host.home, IMAGE, {})
    assert (await host.backend.look()).digests[IMAGE] != first
    await dropped(host)


def script(text: str) -> Callable[[Host], Pool]:
    return lambda host: a_spec(prepare_script=a_script(host, text))


def plain(host: Host) -> Pool:
    del host
    return a_spec()


def changed_since(host: Host) -> Pool:
    spec = script("exit 0")(host)
    (host.place / "prepare.sh").write_text("exit 1")
    return spec


def shim(name: str, text: str) -> Change:
    """Have a program of the image do something else."""

    def change(host: Host) -> None:
        program = host.vm(IMAGE) / "guest/bin-shims" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    return change


def nothing(host: Host) -> None:
    del host


def no_image(host: Host) -> None:
    from app.sandbox.tart.cloning import remove_tree

    remove_tree(host.vm(IMAGE))


LATE = {"install": 5.0, "script": 1.0, "finish": 5.0, "shut_down": 3.0}


@pytest.mark.parametrize(
    ("faults", "change", "spec", "must"),
    [
        pytest.param(
            [Fault("agent_never_answers")],
            nothing,
            lambda host: replace(plain(host), boot_timeout=plain(host).boot_timeout / 5),
            Must("boot_timeout", "try the image by hand"),
            id="no agent",
            marks=LONG,
        ),
        pytest.param(
            [Fault("clone_disk_full")],
            nothing,
            plain,
            Must("disk_full", "free some space", True),
            id="disk full",
            marks=LONG,
        ),
        pytest.param(
            [], no_image, plain, Must("image_missing", "build it with packer"), id="image gone", marks=LONG
        ),
        pytest.param(
            [Fault("start_keychain")],
            nothing,
            plain,
            Must("host_locked", "unlock", True),
            id="no keychain",
            marks=LONG,
        ),
        pytest.param(
            [Fault("guest_crash", seconds=0.2)],
            nothing,
            script("sleep 9"),
            Must("guest_crashed", "free space"),
            id="the guest crashes",
            marks=LONG,
        ),
        pytest.param(
            [],
            shim("shasum", "echo 00"),
            plain,
            Must("base_unfit", "arrived damaged"),
            id="damaged on the way",
        ),
        pytest.param(
            [],
            shim("tar", "exit 1"),
            plain,
            Must("base_unfit", "no room"),
            id="the image's disk is full",
            marks=LONG,
        ),
        pytest.param(
            [],
            nothing,
            script("echo no; exit 3"),
            Must("script_failed", f"`cidermill logs {B}`"),
            id="script fails",
        ),
        pytest.param(
            [],
            nothing,
            script("sleep 60"),
            Must("script_timeout", "in the image"),
            id="script hangs",
            marks=LONG,
        ),
        pytest.param(
            [],
            nothing,
            changed_since,
            Must("script_changed", "cidermill reload"),
            id="script changed",
            marks=LONG,
        ),
        pytest.param(
            [],
            nothing,
            script('rm "$HOME/actions-runner/bin/Runner.Listener"'),
            Must("base_unfit", "does not start"),
            id="script takes the runner away",
            marks=LONG,
        ),
        pytest.param(
            [],
            nothing,
            script('printf "#!/bin/sh\\necho 1.0.0\\n" >"$HOME/actions-runner/bin/Runner.Listener"'),
            Must("base_unfit", "another actions runner"),
            id="script puts another runner there",
            marks=LONG,
        ),
        pytest.param(
            [],
            shim("sudo", "exit 1"),
            plain,
            Must("base_unfit", "password-less sudo"),
            id="no sudo",
            marks=LONG,
        ),
        pytest.param(
            [],
            shim("shutdown", "exit 0"),
            plain,
            Must("shutdown_timeout", "keeps running"),
            id="shutdown hangs",
            marks=LONG,
        ),
        pytest.param(
            [],
            lambda host: (host.state / "bases.json.new").mkdir(),
            plain,
            Must("host_trouble", "the Mac's own log", True),
            id="what was made cannot be written down",
        ),
    ],
)
async def test_what_goes_wrong_on_the_way(
    host: Host, faults: list[Fault], change: Change, spec: Callable[[Host], Pool], must: Must
) -> None:
    """It ends in time, with the mend; launches go on from the image, and nothing stays but the VM to be removed."""
    package = a_package(host)
    change(host)
    host.faults(*faults)
    backend = host.another(**LATE)
    await refused(backend.make_base(B, spec(host), package), must)
    host.faults()
    assert list((host.state / "prepare").glob("*")) == []
    await backend.delete(B)
    bases = (await backend.look()).bases
    assert [base.image for base in bases] in ([], [""])
    for base in bases:
        await backend.drop_base(base.name, frozenset({IMAGE}))
    await backend.close()


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=LONG) for step in ("clone", "run", "exec")] + ["rename"]
)
async def test_cancelled_at_any_step(host: Host, step: str) -> None:
    """A preparation that yields leaves a VM that can be removed, and no base that is cloned."""
    making = asyncio.create_task(host.backend.make_base(B, a_spec(), a_package(host)))
    commands = host.home / "commands.log"
    while not commands.exists() or f" {step} {B}" not in commands.read_text():  # another process
        await asyncio.sleep(0.01)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    await host.backend.delete(B)
    for base in (await host.backend.look()).bases:
        assert base.image == ""
        await host.backend.drop_base(base.name, frozenset({IMAGE}))


def test_the_guest_reads_one_directory_and_no_more(host: Host) -> None:
    """What is shared is read-only, under a name of ours."""
    from app.vm.command import Tart

    argv: list[Any] = Tart("tart", host.home, {}).run_argv(B, a_spec(), Path("/state/prepare/x"))
    assert [word for word in argv if "dir" in word] == ["--dir=cidermill:/state/prepare/x:ro"]
    assert "--root-disk-opts" not in argv  # what launches clone must be whole on the disk
