"""The commands that read and change VMs at rest: exit codes, texts and JSON of docs/contracts/tart.md §1 and §2."""

from __future__ import annotations

import json
import re
import signal
from datetime import datetime

import pytest

from app.sandbox.image import make_image
from app.sandbox.tart.faults import Fault
from tests.sandbox.tart_mac import Mac

MISSING = 'the specified VM "x" does not exist\n'
ENDINGS = [
    pytest.param(["get", "x"], 2, MISSING, id="get of a missing VM"),
    pytest.param(["set", "x", "--cpu", "4"], 2, MISSING, id="set of a missing VM"),
    pytest.param(["clone", "x", "y"], 2, MISSING, id="clone of a missing VM"),
    pytest.param(["delete", "x"], 2, MISSING, id="delete of a missing VM"),
    pytest.param(["stop", "x"], 2, MISSING, id="stop of a missing VM"),
    pytest.param(["suspend", "x"], 2, MISSING, id="suspend of a missing VM"),
    pytest.param(["exec", "x", "true"], 2, MISSING, id="exec in a missing VM"),
    pytest.param(["ip", "x"], 2, MISSING, id="ip of a missing VM"),
    pytest.param(["run", "x"], 1, f"Error: {MISSING}", id="run of a missing VM: 1, and with a prefix"),
    pytest.param(["stop", "golden"], 2, 'VM "golden" is not running\n', id="stop of a stopped VM"),
    pytest.param(["exec", "golden", "true"], 2, 'VM "golden" is not running\n', id="exec in a stopped VM"),
    pytest.param(
        ["suspend", "golden"],
        2,
        'VM "VM "golden" is not running" is not running\n',
        id="suspend, doubled text",
    ),
    pytest.param(
        ["set", "golden", "--disk-size", "40"],
        1,
        "new disk size of 40 GB should be larger than the current disk size of 50 GB\n",
        id="a disk that should shrink",
    ),
    pytest.param(
        ["set", "golden", "--cpu", "1"],
        1,
        "Error: LessThanMinimalResourcesError: VM should have 2 CPU cores at minimum (requested 1)\n",
        id="too little CPU",
    ),
    pytest.param(
        ["fqn", "ghcr.io/acme/base:latest"],
        1,
        "OCI storage error: ghcr.io/acme/base:latest is not a digest and doesn't point to a digest\n",
        id="fqn of what was not pulled",
    ),
    pytest.param(
        ["pull", "Not A Name"], 1, "failed to parse remote name: Not A Name\n", id="pull of no name"
    ),
]
MISUSES = [
    pytest.param(["clone", "golden"], "Missing expected argument '<new-name>'", id="a missing argument"),
    pytest.param(["exec", "golden"], "Missing expected argument '<command>'", id="exec of nothing"),
    pytest.param(["exec", "--foo", "golden", "true"], "Unknown option '--foo'", id="an unknown option"),
    pytest.param(["list", "foo"], "Unexpected argument 'foo'", id="one argument too many"),
    pytest.param(["frobnicate"], "Unexpected argument 'frobnicate'", id="an unknown sub-command"),
    pytest.param(
        ["clone", "golden", "a/b"], "<new-name> should be a local name", id="clone to a remote name"
    ),
    pytest.param(
        ["clone", "golden", "b", "--concurrency", "0"],
        "network concurrency cannot be less than 1",
        id="no concurrency",
    ),
    pytest.param(["list", "--source", "x"], "'x' is not a valid <source>", id="a source that is none"),
    pytest.param(
        ["set", "golden", "--cpu", "x"], "The value 'x' is invalid for '--cpu <cpu>'", id="no number"
    ),
    pytest.param(["rename", "x", "y"], "failed to rename a non-existent local VM: x", id="rename of nothing"),
    pytest.param(
        ["rename", "golden", "a/b"], "<new-name> should be a local name", id="rename to a remote name"
    ),
    pytest.param(
        ["rename", "golden", "golden"],
        "failed to rename VM golden, target VM golden already exists, delete it first!",
        id="rename over another",
    ),
    pytest.param(["prune"], "at least one pruning criteria must be specified", id="prune of anything"),
    pytest.param(
        ["run", "--net-softnet", "--net-host", "golden"],
        "--net-bridged, --net-softnet and --net-host are mutually exclusive",
        id="two networks",
    ),
    pytest.param(
        ["run", "--suspendable", "--no-trackpad", "golden"],
        "--no-trackpad cannot be used with --suspendable",
        id="no trackpad, suspendable",
    ),
    pytest.param(
        ["run", "--net-bridged", "en9", "golden"],
        'no bridge interfaces matched "[en9]", available interfaces: [en0]',
        id="an unknown interface",
    ),
    pytest.param(
        ["run", "--dir", "/tmp", "--dir", "/usr", "golden"],  # noqa: S108  # only named
        "invalid --dir syntax: for multiple directory shares each one of them should be named",
        id="two shares without names",
    ),
    pytest.param(
        ["run", "--suspendable", "penguin"], "You can only suspend macOS VMs", id="suspendable Linux"
    ),
]


@pytest.mark.parametrize(("command", "code", "stderr"), ENDINGS)
def test_errors_have_the_code_and_the_text_of_tart(
    mac: Mac, command: list[str], code: int, stderr: str
) -> None:
    """A failing command prints exactly tart's text on stderr and ends with tart's exit code."""
    result = mac.tart(*command)
    assert (result.returncode, result.stderr) == (code, stderr)


@pytest.mark.parametrize(("command", "text"), MISUSES)
def test_misuse_is_64_with_the_usage_below(mac: Mac, command: list[str], text: str) -> None:
    """A validation error is exit code 64: the message after its prefix, then the usage."""
    make_image(mac.home, "penguin", {}, os="linux")
    result = mac.tart(*command)
    first, usage = result.stderr.splitlines()[:2]
    assert (result.returncode, first, usage[:12]) == (64, f"Error: {text}", "Usage: tart ")


def test_version_is_bare_and_can_be_chosen(mac: Mac) -> None:
    """``--version`` prints a version that is new enough, or the one asked for."""
    assert mac.good("--version") == "2.35.0\n"
    mac.faults(version="2.27.0")
    assert mac.good("--version") == "2.27.0\n"


def test_list_is_json_with_tarts_keys_and_types(mac: Mac) -> None:
    """``list`` has exactly tart's keys and types, sizes as whole numbers, and a name a line with ``-q``."""
    mac.good("clone", "golden", "a")
    row = mac.listed()["golden"]
    accessed = datetime.fromisoformat(row.pop("Accessed"))
    assert accessed.utcoffset() is not None
    assert row == {
        "Source": "local", "Name": "golden", "Disk": 50, "Size": 0, "Running": False, "State": "stopped",
    }  # fmt: skip
    assert mac.good("list", "-q") == "a\ngolden\n"


def test_list_shuffles_keys_and_escapes_slashes(mac: Mac) -> None:
    r"""A driver cannot rely on the order of keys, and meets ``/`` as ``\\/``."""
    make_image(mac.home, "ghcr.io/acme/base:latest", {}, oci=True)
    mac.good("pull", "ghcr.io/acme/base:latest")
    texts = [mac.good("list", "--format", "json") for _ in range(3)]
    assert all("ghcr.io\\/acme\\/base:latest" in text for text in texts)
    assert len(set(texts)) > 1


def test_an_empty_list_is_a_bracket_a_blank_line_and_a_bracket(mac: Mac) -> None:
    """An empty list is still JSON, printed as Swift prints it."""
    mac.good("delete", "golden")
    assert mac.good("list", "--format", "json") == "[\n\n]\n"


def test_an_old_tart_lists_size_on_disk_and_no_access(mac: Mac) -> None:
    """Before 2.31 there is ``SizeOnDisk`` and no ``Accessed``."""
    mac.faults(version="2.30.6")
    keys = mac.listed()["golden"].keys()
    assert "SizeOnDisk" in keys
    assert "Accessed" not in keys


def test_images_of_a_registry_are_listed_by_tag_and_by_digest(mac: Mac) -> None:
    """A pulled image is listed twice with source ``OCI``; ``--source`` tells them apart."""
    make_image(mac.home, "ghcr.io/acme/base:v1", {}, oci=True)
    mac.good("pull", "ghcr.io/acme/base:v1")
    names = list(mac.listed("--source", "oci"))
    assert names[0] == "ghcr.io/acme/base:v1"
    assert re.fullmatch(r"ghcr\.io/acme/base@sha256:[0-9a-f]{64}", names[1])
    assert mac.listed()[names[0]]["Source"] == "OCI"
    assert list(mac.listed("--source", "local")) == ["golden"]


def test_get_tells_size_as_text_and_memory_in_mebibytes(mac: Mac) -> None:
    """``get`` has tart's types, of which ``Size`` is a string with three decimals."""
    assert json.loads(mac.good("get", "golden", "--format", "json")) == {
        "OS": "darwin", "CPU": 4, "Memory": 8192, "Disk": 50, "DiskFormat": "raw", "Size": "0.000",
        "Display": "1024x768", "Running": False, "State": "stopped",
    }  # fmt: skip


def test_directories_without_all_three_files_are_skipped(mac: Mac) -> None:
    """A half-made VM is not listed, cannot be deleted, and cannot be cloned."""
    half = mac.vm("half")
    half.path.mkdir()
    assert "half" not in mac.listed()
    assert mac.tart("delete", "half").returncode == 2
    half.configure(mac.vm("golden").config())
    result = mac.tart("clone", "half", "b")
    assert "VM is missing some of its files (config.json, disk.img or nvram.bin)" in result.stderr
    assert result.returncode == 1


def test_a_clone_is_a_copy_with_a_mac_of_its_own(mac: Mac) -> None:
    """A clone of a local stopped VM has the guest's files, the same disk and machine, and another MAC."""
    assert mac.good("clone", "golden", "a") == ""
    golden, copy = mac.vm("golden").config(), mac.vm("a").config()
    assert copy.pop("macAddress") != golden.pop("macAddress")
    assert copy == golden
    script = mac.vm("a").guest / "Users/admin/actions-runner/run.sh"
    assert script.stat().st_mode & 0o777 == 0o755
    assert mac.vm("a").disk.stat().st_size == 50_000_000_000


def test_the_first_clone_of_an_image_carries_its_mac(mac: Mac) -> None:
    """Only from the second clone of an OCI image on does the MAC differ: every Mac in the world gets the first."""
    image = "ghcr.io/acme/base:latest"
    make_image(mac.home, image, {}, oci=True)
    mac.good("pull", image)
    mac.good("clone", image, "a")
    mac.good("clone", image, "b")
    baked = json.loads((mac.place / "registry/ghcr.io/acme/base/latest/config.json").read_text())[
        "macAddress"
    ]
    assert (mac.mac_of("a"), mac.mac_of("b") == baked) == (baked, False)


def test_a_clone_replaces_without_a_word_and_is_noted(mac: Mac) -> None:
    """Cloning over a VM succeeds in silence, which a driver must never cause."""
    mac.good("clone", "golden", "a")
    before = mac.mac_of("a")
    mac.good("clone", "golden", "a")
    assert mac.mac_of("a") != before
    assert mac.violations() == ["clone-over"]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_clone_never_replaces_the_directory_of_all_vms(mac: Mac, name: str) -> None:
    """The one thing that the stand-in will not do as tart would is noted, and harms nothing."""
    assert mac.tart("clone", "golden", name).returncode == 1
    assert mac.violations() == ["clone-name"]
    assert list(mac.listed()) == ["golden"]


def test_a_broken_configuration_breaks_every_clone(mac: Mac) -> None:
    """All MACs are compared, so one unreadable VM fails the clone of another."""
    mac.good("clone", "golden", "broken")
    mac.vm("broken").config_file.write_text("{")
    result = mac.tart("clone", "golden", "a")
    assert (result.returncode, result.stderr[:7]) == (1, "Error: ")
    assert not mac.vm("a").path.exists()


def test_delete_takes_several_names_up_to_the_first_failure(mac: Mac) -> None:
    """What stands before the failing name is gone, what stands after it is not."""
    for name in ("a", "b"):
        mac.good("clone", "golden", name)
    result = mac.tart("delete", "a", "x", "b")
    assert (result.returncode, result.stderr) == (2, MISSING)
    assert list(mac.listed()) == ["b", "golden"]


def test_set_changes_the_configuration_in_place(mac: Mac) -> None:
    """``set`` is silent, keeps the file's inode, and changes what it was asked to."""
    mac.good("clone", "golden", "a")
    inode = mac.vm("a").config_file.stat().st_ino
    before = mac.mac_of("a")
    options = [
        "--cpu",
        "6",
        "--memory",
        "4096",
        "--display",
        "1920x1080px",
        "--random-mac",
        "--disk-size",
        "60",
    ]
    assert mac.good("set", "a", *options) == ""
    got = json.loads(mac.good("get", "a", "--format", "json"))
    assert (got["CPU"], got["Memory"], got["Display"], got["Disk"]) == (6, 4096, "1920x1080px", 60)
    assert mac.mac_of("a") != before
    assert mac.vm("a").config_file.stat().st_ino == inode


def test_a_failing_disk_leaves_the_rest_changed(mac: Mac) -> None:
    """The configuration is written before the disk is tried."""
    mac.good("clone", "golden", "a")
    assert mac.tart("set", "a", "--cpu", "3", "--disk-size", "10").returncode == 1
    assert mac.vm("a").config()["cpuCount"] == 3


def test_rename_and_delete_of_a_cached_image(mac: Mac) -> None:
    """A VM is found under its new name; deleting a tag removes the image that nothing else names."""
    image = "ghcr.io/acme/base:latest"
    make_image(mac.home, image, {}, oci=True)
    mac.good("pull", image)
    mac.good("rename", "golden", "silver")
    mac.good("delete", image)
    assert list(mac.listed()) == ["silver"]


@pytest.mark.parametrize(
    ("fault", "command", "text"),
    [
        pytest.param("list_fails", ["list"], "couldn’t be opened because there is no such file", id="list"),
        pytest.param(
            "clone_disk_full", ["clone", "golden", "a"], "because there isn’t enough space.", id="disk full"
        ),
        pytest.param(
            "clone_unlockable", ["clone", "golden", "a"], "failed to lock", id="a collection meets a clone"
        ),
        pytest.param(
            "delete_fails", ["delete", "golden"], "couldn’t be removed", id="a directory that stays"
        ),
    ],
)
def test_a_fault_hits_as_often_as_it_says(mac: Mac, fault: str, command: list[str], text: str) -> None:
    """A fault with a count of one fails one command, leaves nothing behind, and the next one succeeds."""
    mac.faults(Fault(fault, count=1))
    result = mac.tart(*command)
    assert (result.returncode, text in result.stderr) == (1, True)
    assert list((mac.home / "tmp").iterdir()) == []
    assert mac.tart(*command).returncode == 0


def test_a_fault_hits_only_the_vms_it_names(mac: Mac) -> None:
    """A fault can be limited to a pattern of names."""
    mac.faults(Fault("clone_disk_full", vm="mini-*"))
    assert mac.tart("clone", "golden", "mini-1").returncode == 1
    mac.good("clone", "golden", "other")


def test_a_mistake_in_the_faults_is_told(mac: Mac) -> None:
    """A fault that does not exist fails every command, with the ones that do."""
    mac.faults(Fault("no_such_fault"))
    result = mac.tart("list")
    assert result.returncode == 1
    assert "there is no fault 'no_such_fault': use one of agent_never_answers, " in result.stderr


def test_garbage_is_collected_by_all_but_clone_and_pull(mac: Mac) -> None:
    """An unlocked entry of ``tmp`` outlives a clone, and no other command; a warning about it is no failure."""
    garbage = mac.home / "tmp" / "left"
    garbage.mkdir(parents=True, exist_ok=True)
    mac.good("clone", "golden", "a")
    assert garbage.is_dir()
    mac.faults(Fault("gc_noise"))
    result = mac.tart("get", "a")
    assert result.returncode == 0
    assert result.stderr.startswith("Failed to perform garbage collection: ")
    assert not garbage.exists()


def test_an_interrupted_clone_leaves_nothing_and_a_killed_one_leaves_garbage(mac: Mac) -> None:
    """SIGINT cancels and cleans up, SIGTERM leaves what the next collection takes."""
    mac.faults(Fault("clone_slow", seconds=30))
    (mac.home / "tmp").mkdir(exist_ok=True)
    for sign, code, left in (("SIGINT", 1, 0), ("SIGTERM", -15, 1)):
        process = mac.begin("clone", "golden", "a")
        mac.until(lambda: list((mac.home / "tmp").iterdir()))
        process.send_signal(getattr(signal, sign))
        _, stderr = process.communicate(timeout=5)
        assert process.returncode == code
        assert stderr == ("Error: CancellationError()\n" if sign == "SIGINT" else "")
        assert len(list((mac.home / "tmp").iterdir())) == left
    assert list(mac.listed()) == ["golden"]
    assert list((mac.home / "tmp").iterdir()) == []


def test_old_hosts_know_no_suspend_and_no_exec(mac: Mac) -> None:
    """On macOS 13 ``suspend`` is no sub-command, and ``exec`` says what it needs."""
    mac.faults(macos=13)
    assert mac.tart("suspend", "golden").returncode == 64
    result = mac.tart("exec", "golden", "true")
    expected = '"tart exec" is only available on macOS 14 (Sonoma) or newer\n'
    assert (result.returncode, result.stderr) == (1, expected)


def test_prune_removes_images_by_age_and_size(mac: Mac) -> None:
    """With a budget of nothing no image stays; local VMs do."""
    make_image(mac.home, "ghcr.io/acme/base:latest", {}, oci=True)
    mac.good("pull", "ghcr.io/acme/base:latest")
    mac.good("prune", "--older-than", "1")
    assert len(mac.listed("--source", "oci")) == 2
    mac.good("prune", "--space-budget", "0")
    assert mac.listed("--source", "oci") == {}
    assert list(mac.listed()) == ["golden"]


def test_a_shared_directory_is_seen_while_the_vm_runs(mac: Mac) -> None:
    """Under its name where it has one; when the VM has ended the guest has nothing of it, nor has a clone."""
    shared = mac.place / "shared"
    shared.mkdir()
    (shared / "file").write_text("for the guest")
    mac.boot("a", f"--dir=mine:{shared}:ro")
    read = 'cat "$CIDERMILL_SHARE_DIR/mine/file"'
    assert mac.good("exec", "a", "sh", "-c", read) == "for the guest"
    mac.good("stop", "a")
    mac.good("clone", "a", "b")
    mac.boot("b")
    assert mac.tart("exec", "b", "sh", "-c", read).returncode == 1
    assert (shared / "file").exists()
