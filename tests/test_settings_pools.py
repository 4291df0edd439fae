"""What a pool may be, and the sentence each mistake in one is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.configfile import ConfigError, load
from app.domain.pools import MACOS_VM, Kind
from app.reload import changes
from tests.configuring import FLEET, POOL, TOP, as_toml, problems, read

POOL_MISTAKES = [
    pytest.param({"name": "Mac"}, "name: use a-z, 0-9 and inner dashes", id="a capital letter"),
    pytest.param({"name": "mac-"}, "name: use a-z, 0-9 and inner dashes", id="a dash at the end"),
    pytest.param({"name": "a" * 34}, "name: use a-z, 0-9 and inner dashes, at most 33", id="a name too long"),
    pytest.param({"name": "base"}, "name: 'base' is part of the names of our own VMs", id="base"),
    pytest.param({"name": "golden"}, "name: 'golden' is part of the names", id="golden"),
    pytest.param({"name": None}, "name: it is required", id="no name"),
    pytest.param({"labels": None}, "labels: it is required", id="no key labels"),
    pytest.param({"labels": []}, "labels: ", id="no label"),
    pytest.param({"labels": "mac"}, 'labels: write a list, such as ["one", "two"]', id="labels as text"),
    pytest.param({"labels": ["macOS", "arm64"]}, "labels: name at least one label of your own", id="any Mac's"),
    pytest.param({"labels": ["a,b"]}, "labels: 'a,b' is no label", id="a comma in a label"),
    pytest.param({"labels": ["ok", " "]}, "labels: ' ' is no label", id="a blank label"),
    pytest.param({"image": None}, "image: it is required", id="no image"),
    pytest.param({"image": "--help"}, "image: name a local VM, or an image such as", id="an option as image"),
    pytest.param({"image": "a b"}, "image: name a local VM", id="a blank in the image"),
    pytest.param({"repositories": None}, "repositories: it is required", id="no key repositories"),
    pytest.param({"repositories": []}, "repositories: ", id="no repository"),
    pytest.param({"repositories": ["acme"]}, 'repositories: \'acme\' is no pattern of repositories: write "owner/name"', id="an owner alone"),
    pytest.param({"repositories": ["*/*"]}, "would let anyone who installs the App run code", id="everyone"),
    pytest.param({"repositories": ["acme/*", "?*/x"]}, "name the owner", id="any owner among others"),
    pytest.param({"scope": "enterprise"}, "scope: Input should be 'auto', 'repository'", id="no such scope"),
    pytest.param({"scope": "organization", "max_per_repository": 1}, 'max_per_repository: it cannot be kept with scope = "organization"', id="a cap GitHub would not keep"),
    pytest.param({"scope": "repository", "runner_group": "g"}, "runner_group: it is for organizations", id="a group of a repository"),
    pytest.param({"runner_group": ""}, "runner_group: ", id="a blank group"),
    pytest.param({"forks": "maybe"}, "forks: Input should be 'allow' or 'deny'; it is 'maybe'", id="forks, perhaps"),
    pytest.param({"cpu": 2}, "cpu: Input should be greater than or equal to 4; it is '2'", id="too few cores"),
    pytest.param({"memory_mib": 1024}, "memory_mib: Input should be greater", id="too little memory"),
    pytest.param({"disk_gb": 5}, "disk_gb: Input should be greater", id="too little disk"),
    pytest.param({"max_runners": 0}, "max_runners: Input should be greater", id="a pool without runners"),
    pytest.param({"priority": 5000}, "priority: Input should be less", id="beyond all priorities"),
    pytest.param({"network": "host"}, 'network: write "softnet", "nat" or "bridged:INTERFACE"', id="no such net"),
    pytest.param({"network": "bridged:"}, 'network: write "softnet"', id="bridged to nothing"),
    pytest.param({"network_allow": ["10.0.0.1/8"]}, "network_allow: '10.0.0.1/8' is no network", id="host bits"),
    pytest.param({"network": "nat", "network_block": ["10.0.0.0/8"]}, 'network_block: it needs network = "softnet", not "nat"', id="a list that nat would not keep"),
    pytest.param({"disk_options": "sync=off"}, 'disk_options: write "sync=none|fsync|full"', id="no such disk option"),
    pytest.param({"runner_dir": "runner"}, "runner_dir: write an absolute path", id="a relative path"),
    pytest.param({"runner_dir": "~/a b"}, "runner_dir: write an absolute path", id="a blank in a path"),
    pytest.param({"runner_dir": "~/$(id)"}, "runner_dir: write an absolute path", id="a command in a path"),
    pytest.param({"boot_timeout": 0}, "boot_timeout: from 1 second to 5 days", id="no time to boot"),
    pytest.param({"job_timeout": "6d"}, "job_timeout: from 1 second to 5 days", id="longer than GitHub lets a job run"),
    pytest.param({"idle_timeout": "∞"}, "idle_timeout: write seconds", id="idle for ever"),
    pytest.param({"min_ready": -1}, "min_ready: Input should be greater", id="fewer than none kept ready"),
    pytest.param({"min_ready": 2, "max_runners": 1}, "min_ready: 2 VMs cannot be kept ready where max_runners = 1", id="more ready than may be"),
    pytest.param({"start": "warm"}, "start: ", id="a start that there is none of"),
    pytest.param({"repository": ["a/b"]}, "repository: there is no such key; did you mean repositories?", id="a misspelt key"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), POOL_MISTAKES)
def test_a_wrong_pool(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """One mistake in a pool is one sentence, which says in which pool it is."""
    (problem,) = problems(tmp_path, pool=change)
    assert sentence in problem
    name = (POOL | change)["name"]
    assert problem.startswith(f'pool "{name}": ' if name else "pool 1: ")


def test_a_fleet_prepares_no_base(tmp_path: Path) -> None:
    """A script that nothing would ever run is refused, with where it belongs."""
    (problem,) = problems(tmp_path, {"prepare_script": str(a_script(tmp_path))}, **FLEET)
    assert problem.startswith('pool "mac": prepare_script: ')
    assert "build it into the image" in problem


def kind_of(folder: Path, table: str, **top: Any) -> Kind:
    text = as_toml(TOP | top) + "[[pool]]\n" + as_toml(POOL) + f"[pool.orchard]\n{table}\n"
    (folder / "cidermill.toml").write_text(text)
    (folder / "cidermill.toml").chmod(0o600)
    (pool,) = load({}, folder).pools
    return pool.kind


def test_a_kind_of_guest(tmp_path: Path) -> None:
    """The sub-table says what the guests are, where they may run, and what they take."""
    table = 'os = "linux"\nresources = { "org.cirruslabs.logical-cores" = 4 }\nlabels = { room = "2" }'
    kind = kind_of(tmp_path, table, **FLEET)
    assert (kind.os, kind.arch, kind.labels) == ("linux", "arm64", (("room", "2"),))
    assert kind.resources == (("org.cirruslabs.logical-cores", 4),)
    assert kind_of(tmp_path, 'resources = { "org.cirruslabs.tart-vms" = 2 }', **FLEET).resources == (
        (MACOS_VM, 2),
    )


@pytest.mark.parametrize(
    ("table", "top", "sentence"),
    [
        pytest.param('arch = "arm64"', {}, "orchard: it is for backend", id="on one Mac"),
        pytest.param('os = "linux"', FLEET, "so nothing limits how many run", id="Linux without a limit"),
        pytest.param('runtime = "vetu"', FLEET, "macOS guests have arch", id="macOS on vetu"),
        pytest.param('resources = { "x" = 0 }', FLEET, "a whole number from 1", id="nothing taken"),
        pytest.param('colour = "red"', FLEET, "there is no such key", id="no such key"),
    ],
)
def test_a_wrong_kind_of_guest(tmp_path: Path, table: str, top: dict[str, Any], sentence: str) -> None:
    """One mistake is one sentence, which says in which pool it is."""
    with pytest.raises(ConfigError) as refused:
        kind_of(tmp_path, table, **top)
    (problem,) = refused.value.problems
    assert problem.startswith('pool "mac": orchard')
    assert sentence in problem


@pytest.mark.parametrize(
    ("pools", "sentence"),
    [
        pytest.param("", "[[pool]]: no pool is configured", id="none"),
        pytest.param("[pool]\n" + as_toml(POOL), "pool: write [[pool]], with two brackets", id="one bracket"),
        pytest.param("pool = 5\n", "pool: write [[pool]], with two brackets", id="a number"),
        pytest.param('pool = ["mac"]\n', "pool 1: ", id="a name alone"),
        pytest.param(
            2 * ("[[pool]]\n" + as_toml(POOL)), "[[pool]] 'mac' is there twice", id="one name twice"
        ),
    ],
)
def test_wrong_tables(tmp_path: Path, pools: str, sentence: str) -> None:
    """Pools that are not written as pools are one sentence with the mend."""
    (tmp_path / "cidermill.toml").write_text(as_toml(TOP) + pools)
    with pytest.raises(ConfigError) as refused:
        load({}, tmp_path)
    (problem,) = refused.value.problems
    assert sentence in problem


def a_script(folder: Path, text: str = "#!/bin/sh\n", mode: int = 0o700) -> Path:
    path = folder / "prepare.sh"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_prepare_script_is_known_by_what_it_says(tmp_path: Path) -> None:
    """Its content is read with the configuration, so that a reload notices a change and nothing else does."""
    path = a_script(tmp_path)
    before = read(tmp_path, {"prepare_script": str(path)})
    a_script(tmp_path, "#!/bin/sh\nexit\n")
    assert before.pools == before.pools
    (change,) = changes(before.pools[0], read(tmp_path, {"prepare_script": str(path)}).pools[0])
    assert (change.key, change.old != change.new) == ("prepare_script", True)
    assert str(change.old).startswith(f"{path} (")


@pytest.mark.parametrize(
    ("script", "pool", "sentence"),
    [
        pytest.param({}, {"prepare_script": "prepare.sh"}, "write the whole path", id="a part of a path"),
        pytest.param({}, {"prepare_script": "/nowhere/prepare.sh"}, "cannot read", id="no such file"),
        pytest.param({"text": " \n"}, {}, "is empty", id="empty"),
        pytest.param({"mode": 0o702}, {}, "chmod o-w", id="everyone may write to it"),
        pytest.param({}, {"prepare": False}, "leave prepare = false out", id="nothing is prepared"),
    ],
)
def test_a_wrong_prepare_script(
    tmp_path: Path, script: dict[str, Any], pool: dict[str, Any], sentence: str
) -> None:
    """A script that could not, or must not, be run is refused with the mend."""
    path = a_script(tmp_path, **script)
    (problem,) = problems(tmp_path, {"prepare": None, "prepare_script": str(path)} | pool)
    assert problem.startswith('pool "mac": prepare_script: ')
    assert sentence in problem


@pytest.mark.parametrize(
    ("second", "told"),
    [
        pytest.param("", 0, id="alike"),
        pytest.param('runner_dir = "/opt/runner"\n', 1, id="another runner_dir"),
        pytest.param('runner_dir = "/opt/runner"\nprepare = false\n', 0, id="one of them is not prepared"),
        pytest.param('runner_dir = "/opt/runner"\nimage = "tahoe"\n', 0, id="another image"),
    ],
)
def test_pools_that_share_an_image_agree_on_its_base(tmp_path: Path, second: str, told: int) -> None:
    """An image has one base: what is put in it cannot be two things."""
    image = "" if "image" in second else 'image = "sequoia"\n'
    text = as_toml(TOP) + "[[pool]]\n" + as_toml(POOL)
    text += f'[[pool]]\nname = "two"\nlabels = ["two"]\n{image}repositories = ["acme/*"]\n{second}'
    (tmp_path / "cidermill.toml").write_text(text)
    try:
        load({"CIDERMILL_STATE_DIR": str(tmp_path / "state")}, tmp_path)
        found: list[str] = []
    except ConfigError as error:
        found = error.problems
    assert len(found) == told
    assert all("share the image sequoia" in problem for problem in found)
