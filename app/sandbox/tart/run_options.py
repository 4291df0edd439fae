"""The command line of ``run``: what is refused before anything starts (docs/contracts/tart.md §3.1, §3.2, §3.8)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.sandbox.tart.home import VM, Home
from app.sandbox.tart.options import Options, Spec, parse
from app.sandbox.tart.refusals import Absent, Failure, Misuse, Refusal
from app.sandbox.tart.snapshot import Devices

RUN = Spec(
    "run",
    ("name",),
    flags=(
        "--no-graphics", "--graphics", "--suspendable", "--net-softnet", "--net-host", "--no-audio",
        "--no-clipboard", "--nested", "--serial", "--vnc", "--vnc-experimental", "--recovery", "--no-trackpad",
        "--no-pointer", "--no-keyboard", "--capture-system-keys",
    ),
    values=(
        "--dir", "--disk", "--root-disk-opts", "--net-bridged", "--net-softnet-allow", "--net-softnet-block",
        "--net-softnet-expose", "--serial-path", "--rosetta", "--net-softnet-control-fd",
    ),
)  # fmt: skip
INPUTS = ("--no-trackpad", "--no-pointer", "--no-keyboard")
UNSIMULATED = ("--vnc", "--vnc-experimental", "--serial", "--recovery")
SHARES = ("ro", "tag=")


class Launch:
    """What ``run`` was asked for, checked."""

    def __init__(self, home: Home, arguments: list[str]) -> None:
        """Parse and validate. Raises Misuse; a VM that is missing is exit code 1 here, and here alone."""
        self.options = options = parse(RUN, arguments)
        name = options.names[0]
        try:
            self.vm: VM = home.vm(name)
        except (Absent, Refusal) as error:
            raise Failure(str(error)) from error
        self._conflicts()
        is_mac = self.vm.config()["os"] == "darwin"
        self.suspendable = "--suspendable" in options.flags or self.vm.state == "suspended"
        if self.suspendable:
            if not is_mac:
                raise options.misuse("You can only suspend macOS VMs")
            for flag in INPUTS:
                if flag in options.flags:
                    raise options.misuse(f"{flag} cannot be used with --suspendable")
        elif not is_mac and "--no-trackpad" in options.flags:
            raise options.misuse("--no-trackpad can only be used with macOS VMs")
        for flag in UNSIMULATED:
            if flag in options.flags:
                raise Failure(f"the stand-in does not simulate {flag}")

    @property
    def softnet(self) -> bool:
        """Whether the VM's network goes through softnet; its options imply it."""
        softnets = [option for option in self.options.values if option.startswith("--net-softnet")]
        return bool(softnets) or bool(self.options.flags & {"--net-softnet", "--net-host"})

    @property
    def devices(self) -> Devices:
        """What must be the same when a snapshot is restored."""
        flags = {"--no-audio", "--no-clipboard", "--net-softnet", "--net-host"} & self.options.flags
        shares = {
            option: self.options.values.get(option, []) for option in ("--dir", "--disk", "--net-bridged")
        }
        return {"flags": sorted(flags), **shares}

    @property
    def shares(self) -> dict[str, Path]:
        """The directories of the host that the guest sees, by name; an empty name: the only one."""
        found = {}
        for share in self.options.values.get("--dir", []):
            name, path, _ = _parts(share)
            found[name or ""] = Path(path).expanduser()
        return found

    def build(self, home: Home) -> None:
        """Check what tart finds out only under the global lock. Raises Misuse or Failure."""
        interfaces = home.settings.interfaces
        for interface in self.options.values.get("--net-bridged", []):
            if interface not in interfaces:
                text = f'no bridge interfaces matched "[{interface}]", available interfaces: [{", ".join(interfaces)}]'
                raise Misuse(text)
        _check_shares(self.options.values.get("--dir", []))
        if "--nested" in self.options.flags and self.vm.config()["os"] == "darwin":
            raise Failure("macOS virtual machines do not support nested virtualization")

    def _conflicts(self) -> None:
        options = self.options
        _at_most_one(options, ("--vnc", "--vnc-experimental"), "--vnc and --vnc-experimental")
        _at_most_one(options, ("--graphics", "--no-graphics"), "--graphics and --no-graphics")
        networks = ("--net-bridged", "--net-softnet", "--net-host")
        _at_most_one(options, networks, "--net-bridged, --net-softnet and --net-host")


def _at_most_one(options: Options, names: Iterable[str], shown: str) -> None:
    if len([name for name in names if name in options.flags or name in options.values]) > 1:
        raise options.misuse(f"{shown} are mutually exclusive")


def _parts(share: str) -> tuple[str | None, str, list[str]]:
    """Return a share's name, if it has one, its path and its options."""
    parts = share.split(":")
    options = parts.pop().split(",") if len(parts) > 1 and parts[-1].startswith(SHARES) else []
    return (parts[0], ":".join(parts[1:]), options) if len(parts) > 1 else (None, parts[0], options)


def _check_shares(shares: list[str]) -> None:
    tags: dict[str, list[bool]] = {}
    for share in shares:
        name, path, options = _parts(share)
        tag = next((option for option in options if option.startswith("tag=")), "")
        tags.setdefault(tag, []).append(name is not None)
        if not Path(path).expanduser().exists():
            raise Failure(f"The file “{Path(path).name}” doesn’t exist.")
    if any(len(named) > 1 and not all(named) for named in tags.values()):
        text = "invalid --dir syntax: for multiple directory shares each one of them should be named"
        raise Misuse(text)
