"""What may be configured, and the sentence each mistake is answered with."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from app.advice import advice
from app.configfile import ConfigError, load
from app.domain.pools import MACOS_VM, Forks, Kind, Scope
from app.reload import changes
from app.settings import Settings, default_host_name

SECRET = "correct-horse-battery-staple"
POOL = {"name": "mac", "labels": ["sequoia"], "image": "sequoia", "repositories": ["acme/*"]}
TOP = {"github_token": "ghp_of-the-tests", "github_webhook_secret": SECRET, "host_name": "mini"}
FLEET = {
    "backend": "orchard",
    "orchard_url": "https://fleet.example:6120",
    "orchard_account": "cidermill",
    "orchard_token": "the-token-of-a-fleet",
}


def as_toml(values: dict[str, Any]) -> str:
    """Write flat values as TOML: what JSON writes for them is TOML too. None leaves a key out."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None)


def read(folder: Path, pool: dict[str, Any] | None = None, **top: Any) -> Settings:
    """Load a configuration that is right but for the changes given."""
    text = as_toml(TOP | top) + "[[pool]]\n" + as_toml(POOL | (pool or {}))
    (folder / "cidermill.toml").write_text(text)
    environ = {} if "state_dir" in top else {"CIDERMILL_STATE_DIR": str(folder / "state")}
    return load(environ, folder)


def problems(folder: Path, pool: dict[str, Any] | None = None, **top: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, pool, **top)
    return refused.value.problems


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


@pytest.fixture
def key_file(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    path = tmp_path / "app.pem"
    path.touch(mode=0o600)
    path.write_text(pem(key))
    return path


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


POOL_MISTAKES = [
    pytest.param({"name": "Mac"}, "name: use a-z, 0-9 and inner dashes", id="a capital letter"),
    pytest.param({"name": "mac-"}, "name: use a-z, 0-9 and inner dashes", id="a dash at the end"),
    pytest.param({"name": "a" * 34}, "name: use a-z, 0-9 and inner dashes, at most 33", id="a name too long"),
    pytest.param({"name": "base"}, "name: 'base' is part of the names of our own VMs", id="base"),
    pytest.param({"name": "golden"}, "name: 'golden' is part of the names", id="golden"),
    pytest.param({"name": None}, "name: it is required", id="no name"),
    pytest.param({"labels": None}, "labels: it is required", id="no key labels"),
    pytest.param({"labels": []}, "labels: ", id="no label"),
    pytest.param({"labels": "mac"}, 'labels: write a list, such as ["one", "two"]', id="labels as text"),
    pytest.param({"labels": ["macOS", "arm64"]}, "labels: name at least one label of your own", id="any Mac's"),
    pytest.param({"labels": ["a,b"]}, "labels: 'a,b' is no label", id="a comma in a label"),
    pytest.param({"labels": ["ok", " "]}, "labels: ' ' is no label", id="a blank label"),
    pytest.param({"image": None}, "image: it is required", id="no image"),
    pytest.param({"image": "--help"}, "image: name a local VM, or an image such as", id="an option as image"),
    pytest.param({"image": "a b"}, "image: name a local VM", id="a blank in the image"),
    pytest.param({"repositories": None}, "repositories: it is required", id="no key repositories"),
    pytest.param({"repositories": []}, "repositories: ", id="no repository"),
    pytest.param({"repositories": ["acme"]}, 'repositories: \'acme\' is no pattern of repositories: write "owner/name"', id="an owner alone"),
    pytest.param({"repositories": ["*/*"]}, "would let anyone who installs the App run code", id="everyone"),
    pytest.param({"repositories": ["acme/*", "?*/x"]}, "name the owner", id="any owner among others"),
    pytest.param({"scope": "enterprise"}, "scope: Input should be 'auto', 'repository'", id="no such scope"),
    pytest.param({"scope": "organization", "max_per_repository": 1}, 'max_per_repository: it cannot be kept with scope = "organization"', id="a cap GitHub would not keep"),
    pytest.param({"scope": "repository", "runner_group": "g"}, "runner_group: it is for organizations", id="a group of a repository"),
    pytest.param({"runner_group": ""}, "runner_group: ", id="a blank group"),
    pytest.param({"forks": "maybe"}, "forks: Input should be 'allow' or 'deny'; it is 'maybe'", id="forks, perhaps"),
    pytest.param({"cpu": 2}, "cpu: Input should be greater than or equal to 4; it is '2'", id="too few cores"),
    pytest.param({"memory_mib": 1024}, "memory_mib: Input should be greater", id="too little memory"),
    pytest.param({"disk_gb": 5}, "disk_gb: Input should be greater", id="too little disk"),
    pytest.param({"max_runners": 0}, "max_runners: Input should be greater", id="a pool without runners"),
    pytest.param({"priority": 5000}, "priority: Input should be less", id="beyond all priorities"),
    pytest.param({"network": "host"}, 'network: write "softnet", "nat" or "bridged:INTERFACE"', id="no such net"),
    pytest.param({"network": "bridged:"}, 'network: write "softnet"', id="bridged to nothing"),
    pytest.param({"network_allow": ["10.0.0.1/8"]}, "network_allow: '10.0.0.1/8' is no network", id="host bits"),
    pytest.param({"network": "nat", "network_block": ["10.0.0.0/8"]}, 'network_block: it needs network = "softnet", not "nat"', id="a list that nat would not keep"),
    pytest.param({"disk_options": "sync=off"}, 'disk_options: write "sync=none|fsync|full"', id="no such disk option"),
    pytest.param({"runner_dir": "runner"}, "runner_dir: write an absolute path", id="a relative path"),
    pytest.param({"runner_dir": "~/a b"}, "runner_dir: write an absolute path", id="a blank in a path"),
    pytest.param({"runner_dir": "~/$(id)"}, "runner_dir: write an absolute path", id="a command in a path"),
    pytest.param({"boot_timeout": 0}, "boot_timeout: from 1 second to 5 days", id="no time to boot"),
    pytest.param({"job_timeout": "6d"}, "job_timeout: from 1 second to 5 days", id="longer than GitHub lets a job run"),
    pytest.param({"idle_timeout": "∞"}, "idle_timeout: write seconds", id="idle for ever"),
    pytest.param({"min_ready": -1}, "min_ready: Input should be greater", id="fewer than none kept ready"),
    pytest.param({"min_ready": 2, "max_runners": 1}, "min_ready: 2 VMs cannot be kept ready where max_runners = 1", id="more ready than may be"),
    pytest.param({"start": "warm"}, "start: ", id="a start that there is none of"),
    pytest.param({"repository": ["a/b"]}, "repository: there is no such key; did you mean repositories?", id="a misspelt key"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), POOL_MISTAKES)
def test_a_wrong_pool(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """One mistake in a pool is one sentence, which says in which pool it is."""
    (problem,) = problems(tmp_path, pool=change)
    assert sentence in problem
    name = (POOL | change)["name"]
    assert problem.startswith(f'pool "{name}": ' if name else "pool 1: ")


def test_a_fleet_prepares_no_base(tmp_path: Path) -> None:
    """A script that nothing would ever run is refused, with where it belongs."""
    (problem,) = problems(tmp_path, {"prepare_script": str(a_script(tmp_path))}, **FLEET)
    assert problem.startswith('pool "mac": prepare_script: ')
    assert "build it into the image" in problem


def test_a_fleet(tmp_path: Path) -> None:
    """A fleet is its controller, an account and a token; pools without sizes are warned about, and the URL may be long."""
    settings = read(tmp_path, **FLEET | {"orchard_url": "https://fleet.example:6120/v1/"})
    assert settings.orchard_url == "https://fleet.example:6120"
    assert "the-token-of-a-fleet" in settings.secrets()
    assert "the-token-of-a-fleet" not in repr(settings)
    (warning,) = advice(settings)
    assert "set both" in warning
    assert advice(read(tmp_path, {"cpu": 4, "memory_mib": 8192}, **FLEET)) == ()


def kind_of(folder: Path, table: str, **top: Any) -> Kind:
    text = as_toml(TOP | top) + "[[pool]]\n" + as_toml(POOL) + f"[pool.orchard]\n{table}\n"
    (folder / "cidermill.toml").write_text(text)
    (folder / "cidermill.toml").chmod(0o600)
    (pool,) = load({}, folder).pools
    return pool.kind


def test_a_kind_of_guest(tmp_path: Path) -> None:
    """The sub-table says what the guests are, where they may run, and what they take."""
    table = 'os = "linux"\nresources = { "org.cirruslabs.logical-cores" = 4 }\nlabels = { room = "2" }'
    kind = kind_of(tmp_path, table, **FLEET)
    assert (kind.os, kind.arch, kind.labels) == ("linux", "arm64", (("room", "2"),))
    assert kind.resources == (("org.cirruslabs.logical-cores", 4),)
    assert kind_of(tmp_path, 'resources = { "org.cirruslabs.tart-vms" = 2 }', **FLEET).resources == (
        (MACOS_VM, 2),
    )


@pytest.mark.parametrize(
    ("table", "top", "sentence"),
    [
        pytest.param('arch = "arm64"', {}, "orchard: it is for backend", id="on one Mac"),
        pytest.param('os = "linux"', FLEET, "so nothing limits how many run", id="Linux without a limit"),
        pytest.param('runtime = "vetu"', FLEET, "macOS guests have arch", id="macOS on vetu"),
        pytest.param('resources = { "x" = 0 }', FLEET, "a whole number from 1", id="nothing taken"),
        pytest.param('colour = "red"', FLEET, "there is no such key", id="no such key"),
    ],
)
def test_a_wrong_kind_of_guest(tmp_path: Path, table: str, top: dict[str, Any], sentence: str) -> None:
    """One mistake is one sentence, which says in which pool it is."""
    with pytest.raises(ConfigError) as refused:
        kind_of(tmp_path, table, **top)
    (problem,) = refused.value.problems
    assert problem.startswith('pool "mac": orchard')
    assert sentence in problem


@pytest.mark.parametrize(
    ("pools", "sentence"),
    [
        pytest.param("", "[[pool]]: no pool is configured", id="none"),
        pytest.param("[pool]\n" + as_toml(POOL), "pool: write [[pool]], with two brackets", id="one bracket"),
        pytest.param("pool = 5\n", "pool: write [[pool]], with two brackets", id="a number"),
        pytest.param('pool = ["mac"]\n', "pool 1: ", id="a name alone"),
        pytest.param(
            2 * ("[[pool]]\n" + as_toml(POOL)), "[[pool]] 'mac' is there twice", id="one name twice"
        ),
    ],
)
def test_wrong_tables(tmp_path: Path, pools: str, sentence: str) -> None:
    """Pools that are not written as pools are one sentence with the mend."""
    (tmp_path / "cidermill.toml").write_text(as_toml(TOP) + pools)
    with pytest.raises(ConfigError) as refused:
        load({}, tmp_path)
    (problem,) = refused.value.problems
    assert sentence in problem


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


def test_ipv6_and_app(tmp_path: Path, key_file: Path) -> None:
    """An IPv6 address is written in brackets, and an App id may be a number."""
    settings = read(
        tmp_path,
        github_token=None,
        github_app_id=12,
        github_private_key_path=str(key_file),
        listen="[::1]:9000",
    )
    assert settings.address == ("::1", 9000)
    assert settings.github_app_id == "12"
    assert "PRIVATE KEY" in settings.private_key()


APP = {"github_token": None, "github_app_id": "7"}


def test_key_in_one_line(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """A key in the environment may have its line ends written out, as one-line stores keep them."""
    one_line = pem(key).replace("\n", "\\n")
    assert read(tmp_path, **APP, github_private_key=one_line).private_key() == pem(key)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_key_modes_allowed(tmp_path: Path, key_file: Path, mode: int) -> None:
    """A key that its owner alone may read is fine."""
    key_file.chmod(mode)
    assert read(tmp_path, **APP, github_private_key_path=str(key_file)).github_private_key_path == key_file


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o660, 0o602, 0o777])
def test_key_modes_refused(tmp_path: Path, key_file: Path, mode: int) -> None:
    """A key that its group or others may read or write is refused, with the command that mends it."""
    key_file.chmod(mode)
    (problem,) = problems(tmp_path, **APP, github_private_key_path=str(key_file))
    assert problem == f"github_private_key_path: others may read {key_file}: run `chmod 600 {key_file}`"


def a_locked_key() -> str:
    return pem(rsa.generate_private_key(65537, 2048), b"open sesame")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("not a key", id="some text"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", id="a torn key"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), id="a key of another kind"),
        pytest.param(a_locked_key(), id="a key with a passphrase"),
    ],
)
def test_wrong_keys(tmp_path: Path, text: str) -> None:
    """What is no usable key is refused where it was given, and is not shown."""
    path = tmp_path / "wrong.pem"
    path.touch(mode=0o600)
    path.write_text(text)
    end = "not an RSA private key in PEM form, without a passphrase, as GitHub gives it"
    assert problems(tmp_path, **APP, github_private_key=text) == [f"github_private_key: {end}"]
    assert problems(tmp_path, **APP, github_private_key_path=str(path)) == [f"github_private_key_path: {end}"]


def test_key_file_missing(tmp_path: Path) -> None:
    """A key file that is not there is named."""
    (problem,) = problems(tmp_path, **APP, github_private_key_path=str(tmp_path / "no.pem"))
    assert problem == f"github_private_key_path: cannot read {tmp_path}/no.pem (No such file or directory)"


def test_key_where_its_path_belongs(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    """A key pasted where its path belongs is not shown as a path that cannot be read."""
    found = problems(tmp_path, **APP, github_private_key_path=pem(key))
    assert found == [
        "github_private_key_path: it holds the key itself: give the file's path, or use github_private_key"
    ]


def test_key_and_path(tmp_path: Path, key: rsa.RSAPrivateKey, key_file: Path) -> None:
    """A key and a path contradict each other."""
    found = problems(tmp_path, **APP, github_private_key=pem(key), github_private_key_path=str(key_file))
    assert found == ["github_private_key and github_private_key_path: set one of them, not both"]


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


def a_script(folder: Path, text: str = "#!/bin/sh\n", mode: int = 0o700) -> Path:
    path = folder / "prepare.sh"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_prepare_script_is_known_by_what_it_says(tmp_path: Path) -> None:
    """Its content is read with the configuration, so that a reload notices a change and nothing else does."""
    path = a_script(tmp_path)
    before = read(tmp_path, {"prepare_script": str(path)})
    a_script(tmp_path, "#!/bin/sh\nexit\n")
    assert before.pools == before.pools
    (change,) = changes(before.pools[0], read(tmp_path, {"prepare_script": str(path)}).pools[0])
    assert (change.key, change.old != change.new) == ("prepare_script", True)
    assert str(change.old).startswith(f"{path} (")


@pytest.mark.parametrize(
    ("script", "pool", "sentence"),
    [
        pytest.param({}, {"prepare_script": "prepare.sh"}, "write the whole path", id="a part of a path"),
        pytest.param({}, {"prepare_script": "/nowhere/prepare.sh"}, "cannot read", id="no such file"),
        pytest.param({"text": " \n"}, {}, "is empty", id="empty"),
        pytest.param({"mode": 0o702}, {}, "chmod o-w", id="everyone may write to it"),
        pytest.param({}, {"prepare": False}, "leave prepare = false out", id="nothing is prepared"),
    ],
)
def test_a_wrong_prepare_script(
    tmp_path: Path, script: dict[str, Any], pool: dict[str, Any], sentence: str
) -> None:
    """A script that could not, or must not, be run is refused with the mend."""
    path = a_script(tmp_path, **script)
    (problem,) = problems(tmp_path, {"prepare": None, "prepare_script": str(path)} | pool)
    assert problem.startswith('pool "mac": prepare_script: ')
    assert sentence in problem


@pytest.mark.parametrize(
    ("second", "told"),
    [
        pytest.param("", 0, id="alike"),
        pytest.param('runner_dir = "/opt/runner"\n', 1, id="another runner_dir"),
        pytest.param('runner_dir = "/opt/runner"\nprepare = false\n', 0, id="one of them is not prepared"),
        pytest.param('runner_dir = "/opt/runner"\nimage = "tahoe"\n', 0, id="another image"),
    ],
)
def test_pools_that_share_an_image_agree_on_its_base(tmp_path: Path, second: str, told: int) -> None:
    """An image has one base: what is put in it cannot be two things."""
    image = "" if "image" in second else 'image = "sequoia"\n'
    text = as_toml(TOP) + "[[pool]]\n" + as_toml(POOL)
    text += f'[[pool]]\nname = "two"\nlabels = ["two"]\n{image}repositories = ["acme/*"]\n{second}'
    (tmp_path / "cidermill.toml").write_text(text)
    try:
        load({"CIDERMILL_STATE_DIR": str(tmp_path / "state")}, tmp_path)
        found: list[str] = []
    except ConfigError as error:
        found = error.problems
    assert len(found) == told
    assert all("share the image sequoia" in problem for problem in found)
