"""plan() of what no runner of ours owns: a row per situation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TARGET, a_host, a_registration, a_vm, ago, listing
from tests.domain.situations import NAME, OTHER, S, decide, run

SITUATIONS = [
    pytest.param(
        {"registrations": {TARGET: listing()}}
        | run(S.GONE, target=TARGET, registration_id=7, deregistered=False),
        [("settledebt", NAME)],
        id="a registration left behind is a debt",
    ),
    pytest.param(
        {"registrations": {TARGET: listing()}}
        | run(S.GONE, target=TARGET, deregistered=False, since=ago(hours=26)),
        [],
        id="GitHub removes it by itself after a day",
    ),
    pytest.param({"host": a_host(a_vm(OTHER))}, [], id="an orphaned VM seen once may be a race"),
    pytest.param(
        {"host": a_host(a_vm(OTHER)), "seen_before": frozenset({f"vm:{OTHER}"})},
        [("sweep", OTHER)],
        id="seen twice it goes",
    ),
    pytest.param(
        {
            "host": a_host(a_vm("mini-base-0123456789ab"), a_vm("mini-2-mac-aaaaaaaa"), a_vm("my-vm")),
            "seen_before": frozenset({"vm:mini-base-0123456789ab", "vm:mini-2-mac-aaaaaaaa", "vm:my-vm"}),
        },
        [("sweep", "mini-2-mac-aaaaaaaa")],
        id="strangers and bases are never touched",
    ),
    pytest.param(
        {
            "registrations": {TARGET: listing(a_registration(OTHER))},
            "seen_before": frozenset({f"registration:acme/app:{OTHER}"}),
        },
        [("sweep", f"acme/app:{OTHER}")],
        id="a stale registration seen twice goes",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected
