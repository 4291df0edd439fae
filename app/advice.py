"""What settings allow and an operator should think about: said at the start, by `config check` and by `doctor`."""

from __future__ import annotations

import psutil

from app.domain.pools import Forks
from app.settings import Settings
from app.values import LOOPBACK

GHES_VERSION = "2022-11-28"
HOST_MEMORY_MIB = 4096  # left to macOS itself


def advice(settings: Settings) -> tuple[str, ...]:
    """Return what is allowed and should be thought about."""
    found = []
    if settings.address[0] not in LOOPBACK:
        found.append(
            f"listen = {settings.listen!r} can be reached from the network: put a reverse proxy or a tunnel in "
            "front that passes POST /webhooks/github alone"
        )
    if settings.github_api_url.endswith("/api/v3") and settings.github_api_version != GHES_VERSION:
        found.append(
            f'github_api_version = "{settings.github_api_version}" is newer than GitHub Enterprise Server knows: '
            f'set github_api_version = "{GHES_VERSION}"'
        )
    secret = settings.github_webhook_secret
    if secret is not None and len(secret.get_secret_value()) < 16:
        found.append("github_webhook_secret is short: make one with `openssl rand -hex 32`")
    found += [
        f'pool {pool.name}: network = "{pool.network}" lets a guest reach the local network, and forks = '
        '"allow" lets strangers use it: set network = "softnet"'
        for pool in settings.pool
        if pool.network != "softnet" and pool.forks is Forks.ALLOW
    ]
    if settings.backend == "orchard":
        found += [
            f"pool {pool.name}: without cpu and memory_mib its VMs get what each worker gives by default, whatever "
            "the image says: set both"
            for pool in settings.pool
            if pool.cpu is None or pool.memory_mib is None
        ]
        return tuple(found)
    kept = sum(pool.min_ready for pool in settings.pool)
    if kept > settings.slots:
        found.append(
            f"the pools keep {kept} VMs ready in all (min_ready), and slots = {settings.slots}: those of the highest "
            "priority are kept first; lower some"
        )
    largest = max((pool.memory_mib or 0 for pool in settings.pool), default=0)
    room = psutil.virtual_memory().total // 2**20 - HOST_MEMORY_MIB
    if settings.slots * largest > room:
        found.append(
            f"slots × memory_mib = {settings.slots} × {largest} MiB is more than the {room} MiB that this host "
            f"has beside {HOST_MEMORY_MIB} MiB for itself"
        )
    return tuple(found)
