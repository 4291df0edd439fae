"""What is kept of the looks between two passes."""

from __future__ import annotations

from app.sight import Sight
from tests.builders import TARGET, a_host, a_registration, a_vm, a_world, listing

STRAY = "mini-mac-zzzzzzzz"


def test_an_orphan_is_seen_twice_by_looks_of_its_own_kind() -> None:
    """A look at GitHub shows no VM a second time, nor a look at the host a registration."""
    sight = Sight()
    host, listed = a_host(a_vm(STRAY)), listing(a_registration(STRAY))
    world = a_world(runners=(), host=host, registrations={TARGET: listed})
    sight.saw_host(host, world)
    assert sight.seen_before == {f"vm:{STRAY}"}
    sight.saw_registrations(TARGET, listed, world)
    assert sight.seen_before == {f"vm:{STRAY}", f"registration:{TARGET}:{STRAY}"}
    sight.saw_host(a_host(), a_world(runners=(), host=a_host()))
    assert sight.seen_before == {f"registration:{TARGET}:{STRAY}"}
