"""Pools, labels, allow-lists and names."""

from __future__ import annotations

import pytest

from app.domain.pools import MAX_NAME, MAX_POOL_NAME, Names, Scope, Target, pool_for, runner_name
from tests.builders import a_pool


@pytest.mark.parametrize(
    ("labels", "suits"),
    [
        (["mac"], True),
        (["self-hosted", "macOS", "ARM64", "mac"], True),
        (["SELF-HOSTED", "MAC"], True),
        (["mac", "gpu"], False),
        ([], False),
    ],
)
def test_suits(labels: list[str], suits: bool) -> None:
    """A pool suits a job whose labels, at least one, it has all of; case does not matter."""
    assert a_pool().suits(labels) is suits


def test_default_labels_can_be_left_out() -> None:
    """Without default labels a runner carries only its own."""
    pool = a_pool(default_labels=False)
    assert pool.runner_labels == ("mac",)
    assert not pool.suits(["self-hosted", "mac"])


def test_labels_are_carried_once() -> None:
    """A label that repeats a default one is carried once."""
    assert len(a_pool(labels=("macos", "mac")).runner_labels) == 4


@pytest.mark.parametrize(
    ("pattern", "repository", "serves"),
    [
        ("acme/*", "acme/app", True),
        ("acme/*", "ACME/App", True),
        ("acme/*", "acme-evil/app", False),
        ("acme/app", "acme/app2", False),
        ("acme/app-?", "acme/app-1", True),
    ],
)
def test_serves(pattern: str, repository: str, serves: bool) -> None:
    """The allow-list matches whole names by glob, in any case."""
    assert a_pool(repositories=(pattern,)).serves(repository) is serves


def test_fewest_labels_then_priority_then_name() -> None:
    """A job is demand of exactly one pool."""
    big = a_pool(name="big", labels=("mac", "xcode"))
    small = a_pool(name="small")
    urgent = a_pool(name="urgent", priority=1)
    elsewhere = a_pool(name="elsewhere", priority=9, repositories=("other/*",))
    pools = (big, small, urgent, elsewhere)
    assert pool_for(["mac"], "acme/app", pools) is urgent
    assert pool_for(["mac", "xcode"], "acme/app", pools) is big
    assert pool_for(["mac"], "other/x", pools) is elsewhere
    assert pool_for(["mac"], "stranger/x", pools) is None


def test_cap_per_repository_means_repository_scope() -> None:
    """With organization scope GitHub picks the job, so a cap per repository needs the other."""
    assert a_pool(max_per_repository=1).effective_scope is Scope.REPOSITORY
    assert a_pool().effective_scope is Scope.AUTO


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("mini-mac-abcdefgh", True),
        ("mini-mac-xl-abcdefg2", True),
        ("mini-base-abcdefgh", True),
        ("mini-base-abcdefabcdef", False),
        ("mini-base-abcdefabcdef-abcdefabcdef", False),
        ("mini-golden-abcdefgh", True),
        ("mini2-mac-abcdefgh", False),
        ("mini-mac-abcdefgh-x", False),
        ("xmini-mac-abcdefgh", False),
        ("mini-mac-abcdefg1", False),
        ("mini--abcdefgh", False),
        ("mini-mac-ABCDEFGH", False),
        ("mini-mac-abcdefgh\n", False),
    ],
)
def test_names(name: str, ours: bool) -> None:
    """One anchored pattern tells what is ours; nothing else is ever touched."""
    assert Names("mini").is_runner(name) is ours


def test_longest_name_fits() -> None:
    """The longest host and pool names make a name of the allowed length."""
    assert len(runner_name("h" * 20, "p" * MAX_POOL_NAME, "a" * 8)) == MAX_NAME


@pytest.mark.parametrize("target", [Target("acme"), Target("acme", "app")])
def test_target_round_trip(target: Target) -> None:
    """A target reads back as it was written."""
    assert Target.parse(str(target)) == target
