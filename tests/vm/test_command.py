"""The tart command line, and how its log is read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from app.ports import VMError
from app.vm.command import Tart, environment
from app.vm.process import Result
from app.vm.refusals import refusal
from app.vm.runlog import cause_of, note_exit
from app.vm.trouble import cannot_start, told_as_vm_error
from tests.builders import a_pool


def test_environment(tmp_path: Path) -> None:
    """No setting of ours and no tracing reaches tart; nothing may prune images; Homebrew is on the path."""
    given = {
        "PATH": "/usr/bin", "CIDERMILL_GITHUB_TOKEN": "x", "TRACEPARENT": "x", "OTEL_X": "x",
        "TART_REGISTRY_USERNAME": "u",
    }  # fmt: skip
    made = environment(given, tmp_path)
    assert not {"CIDERMILL_GITHUB_TOKEN", "TRACEPARENT", "OTEL_X"} & set(made)
    assert (made["TART_NO_AUTO_PRUNE"], made["TART_HOME"]) == ("1", str(tmp_path))
    assert made["TART_REGISTRY_USERNAME"] == "u"
    assert "/opt/homebrew/bin" in made["PATH"].split(":")


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        pytest.param({"network": "nat"}, [], id="nat"),
        pytest.param({"network": "softnet"}, ["--net-softnet"], id="softnet"),
        pytest.param(
            {
                "network": "softnet",
                "network_allow": ("10.0.0.1/32", "10.0.0.2/32"),
                "network_block": ("1.1.1.1/32",),
            },
            [
                "--net-softnet",
                "--net-softnet-allow",
                "10.0.0.1/32,10.0.0.2/32",
                "--net-softnet-block",
                "1.1.1.1/32",
            ],
            id="softnet with rules",
        ),
        pytest.param({"network": "bridged:en0"}, ["--net-bridged", "en0"], id="bridged"),
        pytest.param(
            {"disk_options": "sync=fsync"}, ["--root-disk-opts", "sync=fsync"], id="a disk that is kept"
        ),
        pytest.param({"disk_options": ""}, [], id="tart's own disk options"),
    ],
)
def test_run(tmp_path: Path, pool: dict[str, Any], options: list[str]) -> None:
    """Each network mode becomes tart's options, and the name comes last."""
    argv = Tart("tart", tmp_path, {}).run_argv("mini-mac-aaaaaaaa", a_pool(**{"disk_options": ""} | pool))
    assert argv[:2] == ["tart", "run"]
    assert argv[-1] == "mini-mac-aaaaaaaa"
    assert [a for a in argv[2:-1] if a not in {"--no-graphics", "--no-audio", "--no-clipboard"}] == options


def test_exec_flags_come_before_the_name(tmp_path: Path) -> None:
    """What follows the name goes to the guest as it is."""
    assert Tart("tart", tmp_path, {}).exec_argv("n", ("sh", "-i"), stdin=True) == [
        "tart",
        "exec",
        "-i",
        "n",
        "sh",
        "-i",
    ]


@pytest.mark.parametrize(
    ("text", "code", "host_wide"),
    [
        ("guest has stopped the virtual machine", "guest_powered_off", False),
        ("guest has stopped the virtual machine due to error: x", "guest_crashed", False),
        (
            "virtual machine's network attachment en0 has been disconnected with error: x",
            "network_lost",
            False,
        ),
        ("Stopping VM...", "stopped", False),
        ("The number of VMs exceeds the system limit (other running VMs: a, b)", "vm_limit", True),
        ('Error: RuntimeFailed(why: "Softnet process terminated prematurely")', "softnet_died", True),
        ('Error Domain=VZErrorDomain Code=1 "The virtual machine failed to start."', "host_locked", True),
        ('Error Domain=VZErrorDomain Code=12 "failed to restore"', "restore_failed", False),
        ("", "vm_ended", False),
    ],
)
def test_how_a_vm_ended(tmp_path: Path, text: str, code: str, host_wide: bool) -> None:
    """The log tells what the exit code does not; what any VM would have met is the host's."""
    log = tmp_path / "run.log"
    log.write_text(text + "\n")
    cause = cause_of(log)
    assert (cause.code, cause.host_wide) == (code, host_wide)
    assert cause_of(tmp_path / "none").code == "vm_ended"


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        pytest.param(0, "vm_ended", "does not say why", id="an end that says nothing"),
        pytest.param(3, "vm_ended", "exit code 3", id="an exit code is better than nothing"),
        pytest.param(-9, "vm_killed", "SIGKILL", id="killed"),
        pytest.param(-5, "vm_killed", "SIGTRAP", id="tart crashed"),
        pytest.param(-99, "vm_killed", "signal 99", id="a signal nobody has heard of"),
    ],
)
def test_how_the_process_ended(tmp_path: Path, code: int, reason: str, words: str) -> None:
    """What the exit code tells is noted in the log, and counts where tart said nothing."""
    log = tmp_path / "run.log"
    log.touch()
    note_exit(log, code)
    cause = cause_of(log)
    assert cause.code == reason
    assert words in cause.detail
    log.write_text("Stopping VM...\n")
    note_exit(log, code)
    assert cause_of(log).code == "stopped"


@pytest.mark.parametrize(
    ("verb", "text", "reason", "host_wide"),
    [
        pytest.param("clone", "Error: “disk.img” … isn’t enough space.", "disk_full", True, id="no space"),
        pytest.param("delete", "Error: Too many open files", "host_exhausted", True, id="tart has no files"),
        pytest.param(
            "set", 'the specified VM "x" does not exist', "vm_vanished", False, id="someone deleted it"
        ),
        pytest.param(
            "pull",
            'Error: AuthFailed(why: "received unexpected HTTP status code 401", details: "…")',
            "pull_refused",
            False,
            id="a registry that asks for a password",
        ),
        pytest.param(
            "pull",
            'Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: "…")',
            "image_unknown",
            False,
            id="no such image",
        ),
        pytest.param("pull", "Error: cancelled", "pull_failed", False, id="any other end of a pull"),
        pytest.param("list", "", "list_failed", True, id="a list that fails without a word"),
    ],
)
def test_how_a_command_failed(verb: str, text: str, reason: str, host_wide: bool) -> None:
    """The text decides on reason and scope, noise before it does not, and it is passed on without control characters."""
    noise = "Failed to perform garbage collection: no matter\n"
    error = refusal(verb, Result(1, "", f"{noise}\x1b[31m{text}\n"))
    assert (error.reason, error.host_wide) == (reason, host_wide)
    assert text in str(error)
    assert "\x1b" not in str(error)
    assert "garbage" not in str(error)


@pytest.mark.parametrize(
    ("number", "reason", "of_a_program"),
    [
        pytest.param(errno.ENOSPC, "disk_full", "disk_full", id="disk full"),
        pytest.param(errno.EDQUOT, "disk_full", "disk_full", id="quota used up"),
        pytest.param(errno.EMFILE, "host_exhausted", "host_exhausted", id="our open files"),
        pytest.param(errno.ENFILE, "host_exhausted", "host_exhausted", id="all open files"),
        pytest.param(errno.EAGAIN, "host_exhausted", "host_exhausted", id="no more processes"),
        pytest.param(errno.ENOMEM, "host_exhausted", "host_exhausted", id="no memory"),
        pytest.param(errno.EACCES, "not_permitted", "tart_missing", id="may not"),
        pytest.param(errno.EROFS, "not_permitted", "tart_missing", id="read-only"),
        pytest.param(errno.ENOENT, "path_lost", "tart_missing", id="not there"),
        pytest.param(errno.EIO, "host_trouble", "tart_missing", id="a disk that dies"),
        pytest.param(errno.ENOEXEC, "host_trouble", "tart_missing", id="half a program"),
    ],
)
def test_trouble_of_the_host(number: int, reason: str, of_a_program: str) -> None:
    """What the system refuses has a reason, concerns every VM, and names what it was about."""
    trouble = OSError(number, "as the system says")
    with pytest.raises(VMError, match="cannot do it") as told, told_as_vm_error("cannot do it"):
        raise trouble
    assert (told.value.reason, told.value.host_wide) == (reason, True)
    error = cannot_start("tart", trouble)
    assert (error.reason, error.host_wide) == (of_a_program, True)
