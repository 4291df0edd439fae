"""The one Settings model: every setting, its default and its rule.

:func:`app.configfile.load` fills it from the environment, ``.env`` and the TOML file; it is built in the
composition root and never imported elsewhere as a value. A bad value stops the start with a sentence that names
the key and the mend, and never shows a secret.
"""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from app.domain.pools import Pool, Start
from app.durations import Duration
from app.poolsettings import PoolSettings
from app.values import LOOPBACK, holds_certificates, is_plain_url, read_private, split

APPLE_LIMIT = 2  # macOS VMs that run at a time on one Mac; docs/contracts/tart.md §3.7
HOST_NAME = re.compile(r"[a-z0-9]{1,20}")
LISTEN = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
FOR_FLEETS = frozenset({"image_pulls", "placement"})  # settings that mean nothing where there is one Mac


def default_host_name() -> str:
    """Return this machine's name, reduced to what names of ours may hold."""
    return re.sub(r"[^a-z0-9]", "", socket.gethostname().split(".")[0].lower())[:20] or "mac"


class Settings(BaseModel):
    """Everything that can be configured."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    github_app_id: str | None = None
    github_private_key: SecretStr | None = None
    github_private_key_path: Path | None = None
    github_token: SecretStr | None = None
    github_webhook_secret: SecretStr | None = None
    github_webhook_secret_previous: SecretStr | None = None
    github_api_url: str = "https://api.github.com"
    github_ca_path: Path | None = None
    github_api_version: Literal["2026-03-10", "2022-11-28"] = "2026-03-10"
    admin_token: SecretStr | None = None
    listen: str = "127.0.0.1:8000"
    public_url: str | None = None
    metrics_public: bool = False
    state_dir: Path = Field(default=Path("~/.cidermill"), validate_default=True)
    host_name: str = Field(default_factory=default_host_name)
    backend: Literal["tart", "orchard"] = "tart"
    slots: int = Field(default=2, ge=1)
    min_free_disk_gb: float = Field(default=30, ge=0, allow_inf_nan=False)
    poll_interval: Duration = timedelta(seconds=60)
    image_refresh: Duration = timedelta(days=1)
    image_keep: int = Field(default=1, ge=0, le=20)
    image_pulls: int = Field(default=1, ge=1, le=100)
    placement: Literal["pack", "spread"] = "pack"
    tart_path: str = "tart"
    tart_home: Path | None = None
    orchard_url: str | None = None
    orchard_account: str | None = None
    orchard_token: SecretStr | None = None
    orchard_ca_path: Path | None = None
    orchard_server_name: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    log_path: Path | None = None
    notify_url: SecretStr | None = None  # a secret: those of chats hold a token in their path
    notify_secret: SecretStr | None = None
    notify_after: Duration = timedelta(minutes=30)
    retention_days: int = Field(default=30, ge=1)
    pool: tuple[PoolSettings, ...] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # An empty state_dir would be the working directory, and an empty secret no secret.
        if isinstance(value, str) and not value.strip():
            msg = "it is empty: give it a value, or leave it out"
            raise ValueError(msg)
        return value

    @field_validator("github_app_id", mode="before")
    @classmethod
    def _number_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("github_private_key_path", mode="before")
    @classmethod
    def _is_no_key(cls, value: object) -> object:
        if isinstance(value, str) and "PRIVATE KEY" in value:
            msg = "it holds the key itself: give the file's path, or use github_private_key"
            raise ValueError(msg)
        return value

    @field_validator(
        "state_dir",
        "github_private_key_path",
        "github_ca_path",
        "tart_home",
        "orchard_ca_path",
        "log_path",
        mode="after",
    )
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        try:
            return value.expanduser().absolute() if value else None
        except RuntimeError as error:
            msg = f"there is no home directory for {value}: write the whole path"
            raise ValueError(msg) from error

    @field_validator("github_api_url", "public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not is_plain_url(value):
            msg = "write a URL such as https://HOST, without user, query or fragment"
            raise ValueError(msg)
        return value.rstrip("/")

    @field_validator("github_api_url")
    @classmethod
    def _check_api_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            msg = "plain http would show tokens to the network: use https"
            raise ValueError(msg)
        return value

    @field_validator("orchard_url")
    @classmethod
    def _check_orchard_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value) if is_plain_url(value) else None
        if parts is None:
            msg = "write a URL such as https://HOST:6120, without user, query or fragment"
            raise ValueError(msg)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            msg = "plain http would show orchard_token to the network: use https"
            raise ValueError(msg)
        return value.rstrip("/").removesuffix("/v1")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        match = LISTEN.fullmatch(value)
        if match is None or not 0 < int(match["port"]) < 65536:
            msg = 'write "HOST:PORT", such as "127.0.0.1:8000"'
            raise ValueError(msg)
        return value

    @field_validator("host_name")
    @classmethod
    def _check_host_name(cls, value: str) -> str:
        if HOST_NAME.fullmatch(value) is None:
            msg = "1 to 20 of a-z and 0-9, no dash: it begins the name of everything CiderMill makes"
            raise ValueError(msg)
        return value

    @field_validator("poll_interval")
    @classmethod
    def _check_poll_interval(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=10) <= value <= timedelta(days=1):
            msg = "from 10 seconds to 1 day"
            raise ValueError(msg)
        return value

    @field_validator("image_refresh")
    @classmethod
    def _check_image_refresh(cls, value: timedelta) -> timedelta:
        if value and not timedelta(hours=1) <= value <= timedelta(days=60):
            msg = "from 1 hour to 60 days, or 0 for never"
            raise ValueError(msg)
        return value

    @field_validator("notify_url")
    @classmethod
    def _check_notify_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        parts = split(value.get_secret_value())
        if parts is None or not (parts.scheme == "https" or parts.hostname in LOOPBACK):
            msg = "write an https URL; plain http only on loopback, or the network could read what is told"
            raise ValueError(msg)
        return value

    @field_validator("notify_after")
    @classmethod
    def _check_notify_after(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= timedelta(days=7):
            msg = "from 1 minute to 7 days"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        problems = [*self._missing(), *self._orchard(), *self._contradictions(), *self._unusable()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _missing(self) -> list[str]:
        found = []
        key = self.github_private_key or self.github_private_key_path
        if self.github_token is None and (self.github_app_id is None or key is None):
            found.append(
                "github_app_id with github_private_key_path (or github_token): CiderMill needs a GitHub App, or a "
                "token, to register runners. Make one with `cidermill setup`"
            )
        if self.github_webhook_secret is None:
            found.append(
                "github_webhook_secret: it proves that webhooks come from GitHub. Make one with "
                "`openssl rand -hex 32` and set the same in the App's webhook settings"
            )
        if not self.pool:
            found.append(
                "[[pool]]: no pool is configured. Copy cidermill.toml.example to cidermill.toml and change it"
            )
        return found

    def _orchard(self) -> list[str]:
        """Want all of it or nothing of it, and nothing beside it that is about tart on this machine."""
        names = [
            name for name in type(self).model_fields if name.startswith("orchard_") and getattr(self, name)
        ]
        if self.backend == "tart":
            names += sorted(self.model_fields_set & FOR_FLEETS)
            found = [f'{name}: it is for backend = "orchard", which is not set' for name in names]
            return found + [
                f'pool "{pool.name}": orchard: it is for backend = "orchard", which is not set'
                for pool in self.pool
                if pool.orchard is not None
            ]
        found = [
            f'{name}: backend = "orchard" needs it, see docs/orchard.md'
            for name in ("orchard_url", "orchard_account", "orchard_token")
            if name not in names
        ]
        beside = self.model_fields_set & {"slots", "tart_path", "tart_home", "min_free_disk_gb"}
        found += [
            f'{name}: it is about tart on this machine, and backend = "orchard" uses none: leave it out'
            for name in sorted(beside)
        ]
        found += [
            f'pool "{pool.name}": prepare_script: it is run in a base on this machine, and backend = "orchard" makes '
            "none: build it into the image"
            for pool in self.pool
            if pool.prepare_script is not None
        ]
        found += [
            f'pool "{pool.name}": start: "snapshot" keeps suspended VMs on this machine, and backend = "orchard" boots every '
            "VM: leave it out"
            for pool in self.pool
            if pool.start is Start.SNAPSHOT
        ]
        if self.orchard_server_name is not None and (self.orchard_url or "").startswith("http:"):
            found.append(
                "orchard_server_name: there is no certificate over plain http: leave it out, or use https"
            )
        return found

    def _contradictions(self) -> list[str]:
        found = []
        if self.github_token is not None and self.github_app_id is not None:
            found.append("github_token and github_app_id: set one of them, not both")
        if self.github_private_key is not None and self.github_private_key_path is not None:
            found.append("github_private_key and github_private_key_path: set one of them, not both")
        if self.notify_secret is not None and self.notify_url is None:
            found.append("notify_secret: it signs what is sent to notify_url, which is not set")
        if self.slots > APPLE_LIMIT and self.backend == "tart":
            found.append(f"slots = {self.slots}: Apple allows {APPLE_LIMIT} macOS VMs at a time on one Mac")
        names = [pool.name for pool in self.pool]
        found += [
            f"[[pool]] {name!r} is there twice: names must differ" for name in names if names.count(name) > 1
        ]
        prepared: dict[str, PoolSettings] = {}
        for pool in self.pool:
            first = prepared.setdefault(pool.image, pool) if pool.prepare else pool
            found += [
                f"{key}: pools {first.name!r} and {pool.name!r} share the image {pool.image}, whose base is prepared "
                "once: give both the same, or set prepare = false in one"
                for key in ("runner_dir", "prepare_script")
                if getattr(first, key) != getattr(pool, key)
            ]
        return list(dict.fromkeys(found))

    def _unusable(self) -> list[str]:
        found = []
        if self.github_app_id is not None and (self.github_private_key or self.github_private_key_path):
            try:
                self.private_key()
            except ValueError as problem:
                found.append(str(problem))
        if self.orchard_ca_path is not None and not holds_certificates(self.orchard_ca_path):
            found.append(
                f"orchard_ca_path: {self.orchard_ca_path} holds no certificate in PEM form: copy controller.crt from "
                "the controller's data directory"
            )
        if self.github_ca_path is not None and not self.github_ca_path.is_file():
            found.append(f"github_ca_path: there is no file {self.github_ca_path}")
        folder = self.log_path.parent if self.log_path else self.state_dir  # which is made at the start
        if folder != self.state_dir and not folder.is_dir():
            found.append(f"log_path: there is no directory {folder}: make it, or name another")
        return found

    @property
    def where(self) -> str:
        """What runs the VMs, in words."""
        if self.backend == "orchard":
            return f"the Macs of the Orchard controller at {self.orchard_url}, as {self.host_name}"
        return f"{self.slots} slots on {self.host_name}"

    def private_key(self) -> str:
        """Return the App's private key as PEM text. Raises ValueError with the mend."""
        source, text = "github_private_key", ""
        if self.github_private_key is not None:
            text = self.github_private_key.get_secret_value().replace("\\n", "\n")
        elif self.github_private_key_path is not None:
            source, text = "github_private_key_path", read_private(self.github_private_key_path)
        try:
            key = load_pem_private_key(text.encode(), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, RSAPrivateKey):
            msg = f"{source}: not an RSA private key in PEM form, without a passphrase, as GitHub gives it"
            raise ValueError(msg)  # noqa: TRY004  # what is wrong is the text, not its type
        return text

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools, as the rest of the program knows them."""
        return tuple(pool.pool() for pool in self.pool)

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen: host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def host_names(self) -> frozenset[str]:
        """The names under which we are reached: where we listen, and the public URL's host."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return frozenset({self.address[0], *([public] if public else [])})

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that may sign a webhook, the present one first."""
        both = (self.github_webhook_secret, self.github_webhook_secret_previous)
        return tuple(secret.get_secret_value() for secret in both if secret is not None)

    def differing(self, other: Settings) -> tuple[str, ...]:
        """Return the settings beside the pools in which *other* differs: a reload leaves those as they are."""
        names = (name for name in type(self).model_fields if name != "pool")
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))

    def secrets(self) -> tuple[str, ...]:
        """Return every secret text there is in here, for redaction."""
        named = (
            self.github_private_key,
            self.github_token,
            self.github_webhook_secret,
            self.github_webhook_secret_previous,
            self.admin_token,
            self.orchard_token,
            self.notify_url,
            self.notify_secret,
        )
        return tuple(value.get_secret_value() for value in named if value is not None)
