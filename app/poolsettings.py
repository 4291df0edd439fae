"""``[[pool]]`` of the TOML file: every key, its default and its rule."""

from __future__ import annotations

import hashlib
import re
import stat
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.domain.pools import (
    MACOS_VM,
    MAX_POOL_NAME,
    RESERVED_POOL_NAMES,
    Forks,
    Kind,
    Pool,
    Scope,
    Script,
    Start,
)
from app.durations import Duration

# Labels that say what any Mac is; a pool needs one that says which.
COMMON_LABELS = frozenset({"self-hosted", "macos", "arm64", "x64", "arm", "linux", "windows"})
POOL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
REPOSITORY_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+/[A-Za-z0-9._*?-]+")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
RUNNER_DIR = re.compile(r"(~|/[A-Za-z0-9._-]+)(/[A-Za-z0-9._-]+)*")
DISK_OPTION = re.compile(r"sync=(none|fsync|full)|caching=(automatic|cached|uncached)")
NETWORK = re.compile(r"softnet|nat|bridged:[A-Za-z0-9]+")
TART_VMS = "org.cirruslabs.tart-vms"  # what Orchard calls a macOS guest's place
MIN_CPU = 4  # tart refuses fewer for a macOS guest


class KindSettings(BaseModel):
    """``[pool.orchard]``: what the pool's guests are on an Orchard fleet, and which of its Macs get them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    os: Literal["darwin", "linux"] = "darwin"
    arch: Literal["arm64", "amd64"] = "arm64"
    runtime: Literal["tart", "vetu"] = "tart"
    resources: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, value: dict[str, int]) -> dict[str, int]:
        if any(amount < 1 for amount in value.values()):
            msg = "each amount is a whole number from 1"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_is_limited(self) -> Self:
        if self.os == "linux" and not self.resources:
            msg = (
                "Linux guests take none of the places that Apple allows, so nothing limits how many run: set resources, "
                'such as {"org.cirruslabs.logical-cores" = 4}'
            )
            raise ValueError(msg)
        if self.os == "darwin" and (self.arch, self.runtime) != ("arm64", "tart"):
            msg = 'macOS guests have arch = "arm64" and runtime = "tart"'
            raise ValueError(msg)
        return self

    def kind(self) -> Kind:
        """Return the kind as the rest of the program knows it."""
        room = {MACOS_VM if name == TART_VMS else name: amount for name, amount in self.resources.items()}
        return Kind(
            os=self.os,
            arch=self.arch,
            runtime=self.runtime,
            resources=tuple(sorted(room.items())),
            labels=tuple(sorted(self.labels.items())),
        )


class PoolSettings(BaseModel):
    """One pool as it is written; :meth:`pool` is what the rest works with."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    labels: tuple[str, ...] = Field(min_length=1, max_length=97)
    image: str
    repositories: tuple[str, ...] = Field(min_length=1)
    scope: Scope = Scope.AUTO
    runner_group: str | None = Field(default=None, min_length=1)
    forks: Forks = Forks.ALLOW
    default_labels: bool = True
    cpu: int | None = Field(default=None, ge=MIN_CPU, le=64)
    memory_mib: int | None = Field(default=None, ge=2048, le=1048576)
    disk_gb: int | None = Field(default=None, ge=20, le=8000)
    max_runners: int | None = Field(default=None, ge=1)
    max_per_repository: int | None = Field(default=None, ge=1)
    priority: int = Field(default=0, ge=-1000, le=1000)
    min_ready: int = Field(default=0, ge=0, le=1000)
    start: Start = Start.COLD
    network: str = "softnet"
    network_allow: tuple[str, ...] = ()
    network_block: tuple[str, ...] = ()
    disk_options: str = "sync=none,caching=cached"
    runner_dir: str = "~/actions-runner"
    prepare: bool = True
    prepare_script: Script | None = None
    boot_timeout: Duration = timedelta(minutes=5)
    idle_timeout: Duration = timedelta(minutes=5)
    job_timeout: Duration = timedelta(hours=6, minutes=15)
    orchard: KindSettings | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if POOL_NAME.fullmatch(value) is None or len(value) > MAX_POOL_NAME:
            msg = f"use a-z, 0-9 and inner dashes, at most {MAX_POOL_NAME} characters"
            raise ValueError(msg)
        if value in RESERVED_POOL_NAMES:
            msg = f"{value!r} is part of the names of our own VMs: choose another"
            raise ValueError(msg)
        return value

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for label in value:
            if not label.strip() or len(label) > 256 or "," in label or not label.isprintable():
                msg = f"{label[:40]!r} is no label: 1 to 256 printable characters, no comma"
                raise ValueError(msg)
        if all(label.casefold() in COMMON_LABELS for label in value):
            msg = "name at least one label of your own, such as the image's name: others would take any Mac's jobs"
            raise ValueError(msg)
        return value

    @field_validator("image")
    @classmethod
    def _check_image(cls, value: str) -> str:
        if IMAGE.fullmatch(value) is None:
            msg = "name a local VM, or an image such as ghcr.io/OWNER/NAME:TAG"
            raise ValueError(msg)
        return value

    @field_validator("repositories")
    @classmethod
    def _check_repositories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if REPOSITORY_PATTERN.fullmatch(pattern) is None:
                msg = f'{pattern[:100]!r} is no pattern of repositories: write "owner/name" or "owner/*"'
                raise ValueError(msg)
            if not pattern.partition("/")[0].strip("*?"):
                msg = (
                    f"{pattern!r} would let anyone who installs the App run code on this Mac: name the owner"
                )
                raise ValueError(msg)
        return value

    @field_validator("network")
    @classmethod
    def _check_network(cls, value: str) -> str:
        if NETWORK.fullmatch(value) is None:
            msg = 'write "softnet", "nat" or "bridged:INTERFACE"'
            raise ValueError(msg)
        return value

    @field_validator("network_allow", "network_block")
    @classmethod
    def _check_cidrs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for cidr in value:
            try:
                ip_network(cidr)
            except ValueError as error:
                msg = f'{cidr[:60]!r} is no network: write it as "192.168.1.0/24"'
                raise ValueError(msg) from error
        return value

    @field_validator("disk_options")
    @classmethod
    def _check_disk_options(cls, value: str) -> str:
        if not all(DISK_OPTION.fullmatch(option) for option in value.split(",") if value):
            msg = 'write "sync=none|fsync|full" and "caching=automatic|cached|uncached" with a comma between, or ""'
            raise ValueError(msg)
        return value

    @field_validator("runner_dir")
    @classmethod
    def _check_runner_dir(cls, value: str) -> str:
        if RUNNER_DIR.fullmatch(value) is None:
            msg = 'write an absolute path or one below "~/", of letters, digits, ".", "_" and "-"'
            raise ValueError(msg)
        return value

    @field_validator("prepare_script", mode="before")
    @classmethod
    def _read_script(cls, value: object) -> object:
        return read_script(value) if isinstance(value, str) else value

    @field_validator("prepare_script")
    @classmethod
    def _check_prepares(cls, value: Script | None, info: ValidationInfo) -> Script | None:
        if value is not None and info.data.get("prepare") is False:
            msg = "it is run when a base is prepared: leave prepare = false out"
            raise ValueError(msg)
        return value

    @field_validator("boot_timeout", "idle_timeout", "job_timeout")
    @classmethod
    def _check_times(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(days=5):
            msg = "from 1 second to 5 days"
            raise ValueError(msg)
        return value

    # Rules between keys hang on the later of the two, so that all that is wrong is found in one reading.

    @field_validator("max_per_repository")
    @classmethod
    def _check_max_per_repository(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("scope") is Scope.ORGANIZATION:
            msg = (
                'it cannot be kept with scope = "organization", where GitHub and not CiderMill picks the job: '
                'leave scope out or set it to "repository"'
            )
            raise ValueError(msg)
        return value

    @field_validator("runner_group")
    @classmethod
    def _check_runner_group(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("scope") is Scope.REPOSITORY:
            msg = 'it is for organizations: leave it out with scope = "repository"'
            raise ValueError(msg)
        return value

    @field_validator("network_allow", "network_block")
    @classmethod
    def _check_is_softnet(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        network = info.data.get("network", "softnet")
        if value and network != "softnet":
            msg = f'it needs network = "softnet", not "{network}"'
            raise ValueError(msg)
        return value

    @field_validator("min_ready")
    @classmethod
    def _check_min_ready(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("max_runners")
        if most is not None and value > most:
            msg = (
                f"{value} VMs cannot be kept ready where max_runners = {most}: lower it, or raise max_runners"
            )
            raise ValueError(msg)
        return value

    def pool(self) -> Pool:
        """Return the pool as the rest of the program knows it."""
        values = self.model_dump(exclude={"orchard", "prepare_script"})
        kind = self.orchard.kind() if self.orchard else Kind()
        return Pool(**values, prepare_script=self.prepare_script, kind=kind)


def read_script(text: str) -> Script:
    """Return the script at a path, as it is now. Raises ValueError where it cannot be used."""
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if not path.is_absolute():
        msg = f'write the whole path, or one below "~/", not {text!r}'
        raise ValueError(msg)
    try:
        mode, script = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        msg = f"cannot read {path} ({error.strerror})"
        raise ValueError(msg) from error
    if stat.S_IMODE(mode) & stat.S_IWOTH:
        msg = f"everyone may write to {path}, and it is run in every base: run `chmod o-w {path}`"
        raise ValueError(msg)
    if not script.strip():
        msg = f"{path} is empty: leave prepare_script out"
        raise ValueError(msg)
    return Script(str(path), hashlib.sha256(script).hexdigest())
