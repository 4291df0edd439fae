"""Commands that talk to the running server: what they print, what they do, how they exit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.domain.runners import StopRequest
from tests.api.conftest import TOKEN
from tests.builders import a_pool
from tests.cli.conftest import Desk

HOSTILE = "evil\x1b[2J\x1b]0;owned\x07 [red]name"


async def test_status(desk: Desk) -> None:
    """The state of the whole, with every slot, and the same as JSON."""
    runner = await desk.server.idle_runner()
    await desk.server.context.store.set_draining(draining=True)
    await desk.server.passes()
    said = await desk.says("status")
    assert "1 of 2 slots in use; jobs: 0 running, 1 waiting" in said
    assert f"1\tstopping\t{runner.name}\tmac\t" in said
    assert "Draining: nothing new starts until `cidermill resume`." in said
    assert "Warning: one warning" in said
    assert said.endswith(f"\n\nDashboard: {desk.url}\n")
    told = json.loads(await desk.says("status", "--json"))
    assert (told["slots_used"], told["slot"][0]["runner"]) == (1, runner.name)


async def test_jobs_and_why(desk: Desk) -> None:
    """Jobs are listed and can be filtered; one is explained stage by stage; nothing in a name moves the cursor."""
    await desk.server.busy_runner()
    await desk.server.deliver(id=2, name=HOSTILE, repository="stranger/tool")
    said = await desk.says("jobs")
    assert [line.split("\t")[:2] for line in said.splitlines()[1:]] == [["2", "queued"], ["1", "in_progress"]]
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[red]name" in said
    assert len(json.loads(await desk.says("jobs", "--json", "--status", "in_progress"))) == 1
    why = await desk.says("why", "1")
    assert "has been running on" in why
    stages = [line.split("\t")[2] for line in why.splitlines() if line.count("\t") == 3][1:]
    assert {"queued", "received", "slot", "boot", "picked up"} <= set(stages)
    assert "is not on the list" in await desk.says("why", "2")
    assert (await desk.run("why", "99")).exit_code == 1


async def test_runners_hold_release_stop(desk: Desk) -> None:
    """A runner is held and released, then stopped; each shows in the list."""
    runner = await desk.server.idle_runner()
    name = runner.name
    waiting = asyncio.create_task(desk.says("hold", name, "--minutes", "30"))
    while not waiting.done():
        await desk.server.passes()
        await asyncio.sleep(0.01)
    assert f"`cidermill shell {name}`" in await waiting
    held = {one["name"]: one["guest_held_until"] for one in json.loads(await desk.says("runners", "--json"))}
    assert held[name] is not None
    assert "held no longer" in await desk.says("release", name)
    assert "is being stopped" in await desk.says("stop", name)
    await desk.server.passes(6, seconds=2)
    assert name not in await desk.says("runners")
    assert name in await desk.says("runners", "--all")
    gone = await desk.run("hold", name)
    assert (gone.exit_code, "only a registered, idle or busy one" in gone.stderr) == (1, True)


async def test_a_busy_runner_is_forced_by_its_name_alone(desk: Desk) -> None:
    """Asked, it finishes its job; forced, its name must be typed; anything else stops nothing."""
    name = (await desk.server.busy_runner()).name
    refused = await desk.run("stop", name, "--force", stdin="yes\n")
    assert refused.exit_code == 1
    assert json.loads(await desk.says("runners", "--json"))[0]["stop_requested"] is None
    assert "once its job is done" in await desk.says("stop", name)
    await desk.says("stop", name, "--force", stdin=f"{name}\n")
    await desk.server.passes(4, seconds=2)
    assert json.loads(await desk.says("runners", "--all", "--json"))[0]["reason"] == "forced_by_operator"


async def test_logs(desk: Desk, tmp_path: Path) -> None:
    """What is kept is printed; followed, what comes is too, until the runner is gone; a terminal obeys none of it."""
    name = (await desk.server.idle_runner()).name
    file = tmp_path / "runner.log"
    file.write_text("Listening\n\x1b[2Jwiped\n")
    desk.server.vms.kept[name] = (file,)
    said = await desk.says("logs", name)
    assert said.splitlines()[:3] == ["==> runner.log <==", "Listening", " [2Jwiped"]
    following = asyncio.create_task(desk.says("logs", name, "-f"))
    await asyncio.sleep(0)
    with file.open("a") as more:
        more.write("Running job\n")
    await desk.server.context.store.request_stop(name, StopRequest.ASK)
    await desk.server.passes(6, seconds=2)
    assert "Running job" in await following
    assert (await desk.run("logs", "mini-mac-none")).exit_code == 1


async def test_drain_waits_until_nothing_runs(desk: Desk) -> None:
    """`drain --wait` returns once the Mac is empty; `resume` takes it back; `reconcile` looks again."""
    await desk.server.idle_runner()
    draining = asyncio.create_task(desk.says("drain", "--wait"))
    while not draining.done():
        await desk.server.passes(seconds=1)
        await asyncio.sleep(0.01)
    assert (await draining).endswith("Empty.\n")
    assert "again" in await desk.says("resume")
    assert "looks again" in await desk.says("reconcile")


async def test_one_mac_of_a_fleet_is_drained(desk: Desk) -> None:
    """`drain --worker` closes one Mac, which `status` shows, and `resume --worker` opens it; another name is refused."""
    desk.server.vms.name = "mini2"
    assert "resume --worker mini2" in await desk.says("drain", "--worker", "mini2", "--wait")
    await desk.server.passes(2)
    assert "closed, it is paused" in await desk.says("status")
    assert "mini2" in await desk.says("resume", "--worker", "mini2")
    assert (await desk.run("drain", "--worker", "mini3")).exit_code == 1


async def test_reload(desk: Desk) -> None:
    """What changed is shown; what is wrong on disk is told whole, and nothing changes."""
    assert "taken at the next start: slots" in await desk.says("reload")
    desk.server.on_disk = ["slots: it is too many", 'pool "mac": image: it is required']
    refused = await desk.run("reload")
    assert (refused.exit_code, refused.stderr) == (
        1,
        '- slots: it is too many\n- pool "mac": image: it is required\n',
    )
    desk.server.on_disk = (a_pool(),)


async def test_the_server_is_found_as_it_finds_itself(desk: Desk, tmp_path: Path) -> None:
    """Address and token come from the same files, even while something else in them is wrong."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "admin-token").write_text(TOKEN)
    address = desk.url.removeprefix("http://")
    (tmp_path / "cidermill.toml").write_text(f'listen = "{address}"\nstate_dir = "{state}"\nslots = "many"\n')
    assert (await desk.bare("jobs")).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        pytest.param(["--url", "http://127.0.0.1:9"], "`cidermill serve`", id="nobody there"),
        pytest.param(["--url", "http://10.0.0.5:8000"], "in the clear", id="no token in the clear"),
        pytest.param(["--url", "ftp://127.0.0.1"], "no address", id="no address"),
        pytest.param(["--token-file", "wrong"], "The token is not the server's", id="another's token"),
        pytest.param(["--token-file", "none"], "Cannot read the admin token", id="no token"),
        pytest.param(["--token-file", "empty"], "holds no token", id="empty token"),
    ],
)
async def test_a_server_that_cannot_be_asked(
    desk: Desk, tmp_path: Path, arguments: list[str], mend: str
) -> None:
    """Each trouble names its mend, shows no token and exits with 1."""
    (tmp_path / "wrong").write_text("another-token")
    (tmp_path / "empty").write_text("\n")
    done = await desk.bare("--url", desk.url, "--token-file", str(desk.token_file), *arguments, "status")
    assert done.exit_code == 1
    assert mend in done.stderr
    assert "token-of" not in done.output
    assert "another-token" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["jobs", "--status", "lost"], id="no such status"),
        pytest.param(["why", "abc"], id="no number"),
        pytest.param(["hold", "x", "--minutes", "2000"], id="more than a day"),
        pytest.param(["status", "--watch"], id="a live view without a terminal"),
        pytest.param(["stop"], id="nothing named"),
    ],
)
async def test_wrong_usage(desk: Desk, arguments: list[str]) -> None:
    """Wrong usage exits with 2."""
    assert (await desk.run(*arguments)).exit_code == 2


async def test_a_shell_needs_a_terminal_and_a_vm(desk: Desk) -> None:
    """Where there is no VM, or no terminal, that is said."""
    name = (await desk.server.idle_runner()).name
    assert "needs a terminal" in (await desk.run("shell", name)).stderr
    assert (await desk.run("shell", "mini-mac-none")).exit_code == 1
