"""What is said to a guest that is to be suspended, and what its answer means; no I/O here.

As in :mod:`app.vm.guest`, the script is a file in ``scripts/`` and only a whole line that was agreed on counts.
"""

from __future__ import annotations

import re

from app.domain.pools import Pool
from app.ports import VMError
from app.vm.causes import GUEST_SILENT
from app.vm.guest import REFUSED, image_input

SETTLED = re.compile(r"^cidermill-settled$", re.MULTILINE)


def settle_command(spec: Pool) -> tuple[str, ...]:
    """Return the command that runs :func:`settle_input`."""
    return ("/bin/sh", "-s", "--", spec.runner_dir)


def settle_input() -> bytes:
    """Return the script that warms the runner up and removes what clones must not share."""
    return image_input("settle.sh")


def check_settled(output: str) -> None:
    """Raise VMError unless the guest is as its clones shall be."""
    refused = REFUSED.search(output)
    if refused:
        why = "".join(filter(str.isprintable, refused[1][:300]))
        raise VMError(f"no golden can be made: {why}", reason="golden_unfit")
    if SETTLED.search(output) is None:
        raise VMError(f"the guest did not settle: {GUEST_SILENT.detail}", reason=GUEST_SILENT.code)
