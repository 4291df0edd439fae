"""The tart command line, and how its log is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.vm.command import Tart, environment
from app.vm.runlog import cause_of
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
    ],
)
def test_run(tmp_path: Path, pool: dict[str, Any], options: list[str]) -> None:
    """Each network mode becomes tart's options, and the name comes last."""
    argv = Tart("tart", tmp_path, {}).run_argv("mini-mac-aaaaaaaa", a_pool(**pool))
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
