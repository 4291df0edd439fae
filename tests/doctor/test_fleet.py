"""What is wrong with a fleet, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from app.doctor import fleet_checks
from app.doctor.fleet_checks import Fleet
from app.domain.pools import MACOS_VM, Kind
from app.domain.world import Host
from tests.builders import a_host, a_pool
from tests.doctor.seen import expect

MINI1, PAUSED = (
    Host(name="mini1", room={MACOS_VM: 2}),
    Host(name="mini2", room={MACOS_VM: 2}, closed="it is paused"),
)
REFUSED = "the controller does not let us in: check orchard_account and orchard_token [GET /vms: 401]"


def fleet(*hosts: Host, **changes: Any) -> Fleet:
    return Fleet(**{"pools": (a_pool(),), "look": a_host(hosts=hosts)} | changes)


TABLE = [
    pytest.param("controller", "unusable", fleet(look=None, trouble=REFUSED), id="not let in"),
    pytest.param("controller", "ok", fleet(MINI1), id="let in"),
    pytest.param("workers", "none", fleet(), id="no worker"),
    pytest.param("workers", "closed", fleet(PAUSED), id="all paused"),
    pytest.param("workers", "ok", fleet(MINI1), id="a Mac that takes VMs"),
    pytest.param("workers", "skipped", fleet(look=None), id="workers that nobody lists"),
    pytest.param("worker-labels", "unnamed", fleet(Host(name="mini1", room={MACOS_VM: 2}, can_be_chosen=False)), id="a Mac without a label of its own"),
    pytest.param("worker-labels", "ok", fleet(MINI1), id="a Mac that can be chosen"),
    pytest.param("worker-labels", "skipped", fleet(look=None), id="labels that nobody lists"),
    pytest.param("pool-places", "nowhere", fleet(MINI1, pools=(a_pool(kind=Kind(labels=(("room", "2"),))),)), id="a label that no Mac has"),
    pytest.param("pool-places", "ok", fleet(MINI1, PAUSED), id="a Mac for the pool"),
    pytest.param("pool-places", "skipped", fleet(look=None), id="nothing to compare with"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "code", "facts"), TABLE)
def test_what_is_wrong_is_found(check: str, code: str, facts: Fleet) -> None:
    """Each trouble is found, with its mend."""
    look = {one.name: look for one, look in fleet_checks.CHECKS}[check]
    (found,) = look(facts)
    expect(found, code)
