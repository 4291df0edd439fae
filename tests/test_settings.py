"""What may be configured, and the sentence each mistake is answered with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.advice import advice
from app.configfile import ConfigError, load
from app.domain.pools import Forks, Scope
from app.settings import default_host_name
from tests.configuring import FLEET, POOL, SECRET, as_toml, problems, read


def test_the_least(tmp_path: Path) -> None:
    """A token, a webhook secret and a pool of four keys are enough; the rest has the documented defaults."""
    settings = read(tmp_path)
    assert settings.github_api_url == "https://api.github.com"
    assert settings.github_api_version == "2026-03-10"
    assert settings.address == ("127.0.0.1", 8000)
    assert (settings.slots, settings.min_free_disk_gb, settings.retention_days) == (2, 30, 30)
    assert settings.poll_interval == timedelta(seconds=60)
    assert (settings.backend, settings.tart_path, settings.tart_home) == ("tart", "tart", None)
    assert (settings.log_level, settings.log_format, settings.metrics_public) == ("info", "auto", False)
    (pool,) = settings.pools
    assert (pool.scope, pool.forks, pool.network) == (Scope.AUTO, Forks.ALLOW, "softnet")
    assert set(pool.runner_labels) == {"sequoia", "self-hosted", "macOS", "ARM64"}
    assert pool.boot_timeout == pool.idle_timeout == timedelta(minutes=5)
    assert pool.job_timeout == timedelta(hours=6, minutes=15)
    assert advice(settings) == ()


TOP_MISTAKES = [
    pytest.param({"github_token": None}, "github_app_id with github_private_key_path", id="no credentials"),
    pytest.param({"github_app_id": 7}, "github_token and github_app_id: set one of them", id="App and token"),
    pytest.param(
        {"github_token": None, "github_app_id": 7},
        "github_app_id with github_priv",
        id="an App without its key",
    ),
    pytest.param({"github_app_id": " "}, "github_app_id: it is empty", id="an empty App id"),
    pytest.param({"github_token": ""}, "github_token: it is empty", id="an empty token"),
    pytest.param({"github_webhook_secret": None}, "openssl rand -hex 32", id="no webhook secret"),
    pytest.param(
        {"github_webhook_secret": "  "}, "github_webhook_secret: it is empty", id="a blank webhook secret"
    ),
    pytest.param(
        {"github_webhook_secret_previous": ""},
        "github_webhook_secret_previous: it is",
        id="a blank old secret",
    ),
    pytest.param({"admin_token": ""}, "admin_token: it is empty", id="a blank admin token"),
    pytest.param({"state_dir": ""}, "state_dir: it is empty", id="a state directory that would be here"),
    pytest.param({"tart_path": ""}, "tart_path: it is empty", id="a blank program"),
    pytest.param({"github_api_url": "ftp://x"}, "github_api_url: write a URL", id="a URL of another kind"),
    pytest.param({"github_api_url": "github.com"}, "github_api_url: write a URL", id="no scheme"),
    pytest.param({"github_api_url": "https://[::1"}, "github_api_url: write a URL", id="half an IPv6 host"),
    pytest.param({"github_api_url": "https://h:99999"}, "github_api_url: write a URL", id="no such port"),
    pytest.param({"public_url": "https://h/?a=b"}, "public_url: write a URL", id="a query in the URL"),
    pytest.param(
        {"github_api_url": "http://ghes.example/api/v3"}, "plain http would show tokens", id="plain http"
    ),
    pytest.param({"github_ca_path": "/no/ca.pem"}, "github_ca_path: there is no file /no/ca.pem", id="no CA"),
    pytest.param({"github_api_version": "2020-01-01"}, "it is '2020-01-01'", id="an unknown API version"),
    pytest.param({"listen": "8000"}, 'listen: write "HOST:PORT"', id="a port alone"),
    pytest.param({"listen": ":8000"}, 'listen: write "HOST:PORT"', id="no host"),
    pytest.param({"listen": "localhost:0"}, 'listen: write "HOST:PORT"', id="port 0"),
    pytest.param({"listen": "localhost:65536"}, 'listen: write "HOST:PORT"', id="a port too high"),
    pytest.param({"listen": "localhost:²"}, 'listen: write "HOST:PORT"', id="a digit that is no number"),
    pytest.param({"listen": "http://localhost:80"}, 'listen: write "HOST:PORT"', id="a URL to listen on"),
    pytest.param({"listen": "::1:80"}, 'listen: write "HOST:PORT"', id="IPv6 without brackets"),
    pytest.param({"host_name": "mac-mini"}, "host_name: 1 to 20 of a-z and 0-9, no dash", id="a dash"),
    pytest.param({"host_name": "Mini"}, "host_name: 1 to 20 of a-z", id="a capital letter"),
    pytest.param({"host_name": "a" * 21}, "host_name: 1 to 20 of a-z", id="a host name too long"),
    pytest.param({"host_name": "mini\n"}, "host_name: 1 to 20 of a-z", id="a line feed at the end"),
    pytest.param(
        {"backend": "docker"},
        "backend: Input should be 'tart' or 'orchard'; it is 'docker'",
        id="no such backend",
    ),
    pytest.param({"slots": 0}, "slots: Input should be greater than or equal to 1; it is '0'", id="no slot"),
    pytest.param({"slots": 3}, "slots = 3: Apple allows 2 macOS VMs", id="more than Apple allows"),
    pytest.param({"slots": "two"}, "slots: Input should be a valid integer", id="a number in words"),
    pytest.param({"min_free_disk_gb": -1}, "min_free_disk_gb: Input should be", id="less than no disk"),
    pytest.param(
        {"min_free_disk_gb": "inf"}, "min_free_disk_gb: Input should be a finite", id="no end of disk"
    ),
    pytest.param(
        {"poll_interval": "often"}, "poll_interval: write seconds, or a number with", id="no duration"
    ),
    pytest.param({"poll_interval": "9s"}, "poll_interval: from 10 seconds to 1 day", id="polling too often"),
    pytest.param(
        {"poll_interval": "25h"}, "poll_interval: from 10 seconds to 1 day", id="polling too rarely"
    ),
    pytest.param({"log_level": "trace"}, "log_level: Input should be 'debug'", id="no such level"),
    pytest.param({"log_format": "xml"}, "log_format: Input should be 'auto'", id="no such format"),
    pytest.param(
        {"metrics_public": "maybe"}, "metrics_public: Input should be a valid boolean", id="no switch"
    ),
    pytest.param({"retention_days": 0}, "retention_days: Input should be greater", id="no retention"),
    pytest.param(
        {"tart_home": "~nobody-of-that-name/x"}, "tart_home: there is no home directory", id="no home"
    ),
    pytest.param(
        {"orchard_url": "https://o"}, 'orchard_url: it is for backend = "orchard"', id="an Orchard key alone"
    ),
    pytest.param(
        {"placement": "pack"}, 'placement: it is for backend = "orchard"', id="nothing to place on one Mac"
    ),
    pytest.param(
        FLEET | {"orchard_account": None}, 'orchard_account: backend = "orchard" needs it', id="no account"
    ),
    pytest.param(FLEET | {"slots": 2}, "slots: it is about tart on this machine", id="slots of a fleet"),
    pytest.param(
        FLEET | {"orchard_url": "http://far.example:6120"},
        "plain http would show orchard_token",
        id="a token in clear",
    ),
    pytest.param(
        FLEET | {"orchard_url": "far.example"}, "orchard_url: write a URL", id="no URL of a controller"
    ),
    pytest.param(
        FLEET | {"orchard_ca_path": "/no/controller.crt"},
        "holds no certificate",
        id="no certificate to trust",
    ),
    pytest.param(
        FLEET | {"orchard_url": "http://localhost:6120", "orchard_server_name": "x"},
        "orchard_server_name: there is no certificate",
        id="a name without a certificate",
    ),
    pytest.param(
        {"slotz": 1}, "slotz: there is no such setting; did you mean slots?", id="a misspelt setting"
    ),
]


@pytest.mark.parametrize(("change", "sentence"), TOP_MISTAKES)
def test_a_wrong_setting(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """One mistake is one sentence, which names the key and what to do, and never shows a secret."""
    (problem,) = problems(tmp_path, **change)
    assert sentence in problem
    assert SECRET not in problem
    assert "ghp_" not in problem


def test_a_fleet(tmp_path: Path) -> None:
    """A fleet is its controller, an account and a token; pools without sizes are warned about, and the URL may be long."""
    settings = read(tmp_path, **FLEET | {"orchard_url": "https://fleet.example:6120/v1/"})
    assert settings.orchard_url == "https://fleet.example:6120"
    assert "the-token-of-a-fleet" in settings.secrets()
    assert "the-token-of-a-fleet" not in repr(settings)
    (warning,) = advice(settings)
    assert "set both" in warning
    assert advice(read(tmp_path, {"cpu": 4, "memory_mib": 8192}, **FLEET)) == ()


def test_everything_at_once(tmp_path: Path) -> None:
    """All that is wrong is told in one go: values, keys, pools, what is missing and what contradicts."""
    (tmp_path / "cidermill.toml").write_text(
        'slots = 9\nlog_level = "loud"\nwebhook = 1\n[[pool]]\n'
        + as_toml(POOL | {"cpu": 1, "network": "nat", "network_allow": ["10.0.0.0/8"], "start": "warm"})
    )
    (tmp_path / ".env").write_text("CIDERMILL_LISTN=x\n")
    with pytest.raises(ConfigError) as refused:
        load({"CIDERMILL_POL_INTERVAL": "5s", "CIDERMILL_POLL_INTERVAL": "5s"}, tmp_path)
    found = refused.value.problems
    for part in (
        "CIDERMILL_POL_INTERVAL in the environment",
        "CIDERMILL_LISTN in ",
        "log_level: ",
        "webhook: there is no such setting",
        "poll_interval: from 10 seconds",
        'pool "mac": cpu: ',
        'pool "mac": network_allow: ',
        'pool "mac": start: ',
        "slots = 9: Apple allows",
        "github_app_id with",
        "github_webhook_secret: it proves",
    ):
        assert sum(part in problem for problem in found) == 1, part
    assert len(found) == 11
    assert refused.value.report().count("\n  - ") == 11


def test_a_wrong_value_is_not_called_missing(tmp_path: Path) -> None:
    """What is there and wrong is not told as missing besides."""
    assert problems(tmp_path, github_webhook_secret="") == [
        "github_webhook_secret: it is empty: give it a value, or leave it out"
    ]


def test_longest_names_fit(tmp_path: Path) -> None:
    """The longest host and pool names make a name that tart, GitHub and our own pattern take."""
    settings = read(tmp_path, pool={"name": "p" * 33}, host_name="h" * 20)
    assert len(f"{settings.host_name}-{settings.pools[0].name}-{'a' * 8}") == 63


def test_default_host_name_is_a_host_name(tmp_path: Path) -> None:
    """What is taken from this machine is always allowed."""
    assert read(tmp_path, host_name=None).host_name == default_host_name()


def too_much() -> int:
    return min(1048576, psutil.virtual_memory().total // 2**20)


@pytest.mark.parametrize(
    ("pool", "top", "parts"),
    [
        pytest.param({"network": "nat"}, {}, ["pool mac", '"nat"', "forks", "softnet"], id="nat and forks"),
        pytest.param({"network": "bridged:en0"}, {}, ["bridged:en0", "forks"], id="bridged and forks"),
        pytest.param({}, {"listen": "0.0.0.0:8000"}, ["listen", "POST /webhooks/github"], id="every interface"),
        pytest.param({}, {"listen": "[::]:8000"}, ["listen", "reverse proxy"], id="every IPv6 interface"),
        pytest.param(
            {"memory_mib": too_much()}, {}, [f"2 × {too_much()} MiB", "4096 MiB for itself"], id="memory"
        ),
        pytest.param({"min_ready": 3}, {}, ["keep 3 VMs ready", "slots = 2"], id="more warm VMs than slots"),
        pytest.param({}, {"github_webhook_secret": "short"}, ["openssl rand -hex 32"], id="a short secret"),
        pytest.param(
            {},
            {"github_api_url": "https://ghes.example/api/v3/"},
            ['github_api_version = "2022-11-28"'],
            id="GitHub Enterprise Server with github.com's version",
        ),
    ],
)  # fmt: skip
def test_warnings(tmp_path: Path, pool: dict[str, Any], top: dict[str, Any], parts: list[str]) -> None:
    """What is allowed and dangerous is one warning, with what to do."""
    (warning,) = advice(read(tmp_path, pool, **top))
    for part in parts:
        assert part in warning


@pytest.mark.parametrize(
    ("pool", "top"),
    [
        pytest.param({"network": "nat", "forks": "deny"}, {}, id="nat without forks"),
        pytest.param({}, {"listen": "localhost:8000"}, id="localhost"),
        pytest.param(
            {}, {"github_api_url": "http://127.0.0.1:9999"}, id="a simulated GitHub on this machine"
        ),
        pytest.param({"memory_mib": 2048}, {"slots": 1}, id="little memory"),
    ],
)
def test_no_warning(tmp_path: Path, pool: dict[str, Any], top: dict[str, Any]) -> None:
    """What is harmless is not warned about."""
    assert advice(read(tmp_path, pool, **top)) == ()


def test_secrets_are_known_and_hidden(tmp_path: Path) -> None:
    """Every secret is named for redaction, and none shows in the settings' own text."""
    given = {
        "github_token": "token-aaaa",
        "github_webhook_secret": "secret-bbbb",
        "github_webhook_secret_previous": "secret-cccc",
        "admin_token": "admin-dddd",
    }
    settings = read(tmp_path, **given)
    assert set(settings.secrets()) == set(given.values())
    assert not any(secret in repr(settings) + str(settings.model_dump()) for secret in given.values())
