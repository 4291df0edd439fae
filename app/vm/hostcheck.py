"""What the pools need of this host, looked at once before the start, so that a missing part is named with its mend."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from app.domain.pools import Pool
from app.ports import VMError
from app.vm.causes import SOFTNET_MISSING, TART_MISSING
from app.vm.command import MINIMUM, Tart

SECONDS = 20.0


def check_host(tart: Tart, pools: Sequence[Pool]) -> None:
    """Make sure that tart is there and new enough, and softnet where a pool uses it. Raises VMError."""
    tart_version(tart)
    needing = [pool.name for pool in pools if pool.network == "softnet"]
    if needing and shutil.which("softnet", path=tart.env["PATH"]) is None:
        msg = f'pool {needing[0]} has network = "softnet" (the default), and {SOFTNET_MISSING.detail}'
        raise VMError(msg, reason=SOFTNET_MISSING.code, host_wide=True)


def tart_version(tart: Tart) -> tuple[int, ...] | None:
    """Return the version of tart; None: an unofficial build. Raises VMError where it is missing or too old."""
    try:
        said = subprocess.run(
            [tart.program, "--version"],
            env=tart.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=True,
        ).stdout.strip()
    except OSError as error:
        msg = (
            f"tart_path: cannot run {tart.program} ({error.strerror}): `brew install openai/tools/tart`, or set "
            "tart_path to where it is"
        )
        raise VMError(msg, reason=TART_MISSING.code, host_wide=True) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        msg = f"tart_path: `{tart.program} --version` fails: is it tart?"
        raise VMError(msg, reason=TART_MISSING.code, host_wide=True) from error
    if said == "SNAPSHOT":  # whoever runs one knows
        return None
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", said, re.ASCII)
    if match is None:
        msg = f"tart_path: `{tart.program} --version` tells no version: is it tart?"
        raise VMError(msg, reason=TART_MISSING.code, host_wide=True)
    version = tuple(int(part or 0) for part in match.groups())
    if version < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        msg = f"tart {match[0]} is too old, {wanted} is the least: `brew upgrade openai/tools/tart`"
        raise VMError(msg, reason="tart_too_old", host_wide=True)
    return version
