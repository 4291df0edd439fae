"""The files that setting up writes: nothing lost, nothing shown to others, all or nothing."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from app.configfile import sources
from app.setup.files import Files, Unwritable, commented, example, with_value, write

POOL = {"name": "mac", "labels": ["x"], "image": "img", "repositories": ["acme/app"], "forks": "allow"}


def files(home: Path, **environ: str) -> Files:
    return Files(sources({"CIDERMILL_STATE_DIR": str(home), **environ}, home))


@pytest.mark.parametrize(
    ("text", "after"),
    [
        pytest.param("", "A=new\n", id="an empty file"),
        pytest.param("# c\n\nA=old\nB=1\n", "# c\n\nA=new\nB=1\n", id="its line changes alone"),
        pytest.param("A=old # why\nB=1", "A=new # why\nB=1", id="a comment after it stays"),
        pytest.param("export A='o # d'\n", "A=new\n", id="what looks like a comment in quotes is none"),
        pytest.param("A=1\nA=2\n", "A=1\nA=new\n", id="the last of two, which is the one in force"),
        pytest.param("# Example: A=\n# next\n", "# Example: A=\nA=new\n# next\n", id="below its example"),
        pytest.param("# A=default", "# A=default\nA=new\n", id="below its default, without a last newline"),
        pytest.param("B=1", "B=1\nA=new\n", id="else at the end"),
        pytest.param("K='-\nA=no\n-'\nA=1\n", "K='-\nA=no\n-'\nA=new\n", id="not within another's value"),
        pytest.param("AA=1\n", "AA=1\nA=new\n", id="not a longer name's"),
    ],
)
def test_a_setting_is_set(text: str, after: str) -> None:
    """One line of .env changes, or comes; every other stays as it is."""
    assert with_value(text, "A", "new") == after


@pytest.mark.parametrize("value", ["plain", "with space", "it's", "back\\slash", "a#b", '"', "$HOME", "${X}"])
def test_values_are_read_back(tmp_path: Path, value: str) -> None:
    """Whatever is written is what is read."""
    found = files(tmp_path)
    found.write_settings({"public_url": value})
    assert sources({}, tmp_path).dotenv["CIDERMILL_PUBLIC_URL"] == value


def test_a_setting_becomes_a_comment() -> None:
    """All lines of it, and no other's."""
    assert commented("K='a\nb'\nKK=1\n", "K") == "# K='a\n# b'\nKK=1\n"


def test_new_files_are_the_examples_filled_in(tmp_path: Path) -> None:
    """A new .env and a new TOML file are the commented examples, their owner's alone."""
    found = files(tmp_path)
    found.write_settings({"github_app_id": "1"})
    found.write_pool(POOL)
    env, toml = (tmp_path / ".env"), (tmp_path / "cidermill.toml")
    assert env.read_text() == example(".env.example").replace("GITHUB_APP_ID=\n", "GITHUB_APP_ID=1\n")
    before, after = example("cidermill.toml.example").splitlines(), toml.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [old.split()[0] for old, _ in changed] == ["name", "labels", "image", "repositories"]
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed)
    assert tomllib.loads(toml.read_text())["pool"] == [
        {key: value for key, value in POOL.items() if key != "forks"}
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (env, toml)} == {0o600}


TOML = """\
# mine
slots = 1  # one for me

[[pool]]
name = "mac"     # the first
labels = ["old"]
image = "img"
repositories = [
  "acme/app",  # ours
]
forks = "deny"
job_timeout = "2h"

[[pool]]
name = "other"
labels = ["other"]
image = "img"
repositories = ["acme/app"]
"""


def test_a_pool_changes_in_its_place(tmp_path: Path) -> None:
    """Only what differs changes: comments, other keys, other pools and the form of a list stay."""
    (tmp_path / "cidermill.toml").write_text(TOML)
    files(tmp_path).write_pool(POOL)
    expected = TOML.replace('labels = ["old"]', 'labels = ["x"]').replace('"deny"', '"allow"')
    assert (tmp_path / "cidermill.toml").read_text() == expected


def test_a_pool_of_another_name_is_added(tmp_path: Path) -> None:
    """The pools there are stay as they are."""
    (tmp_path / "cidermill.toml").write_text(TOML)
    files(tmp_path).write_pool(POOL | {"name": "third"})
    text = (tmp_path / "cidermill.toml").read_text()
    assert text.startswith(TOML)
    assert [pool["name"] for pool in tomllib.loads(text)["pool"]] == ["mac", "other", "third"]


def test_a_pool_is_added_where_there_is_none(tmp_path: Path) -> None:
    """Settings that stand in the file already stay."""
    (tmp_path / "cidermill.toml").write_text("# mine\nslots = 1\n")
    files(tmp_path).write_pool(POOL)
    text = (tmp_path / "cidermill.toml").read_text()
    assert text.startswith("# mine\nslots = 1\n")
    assert tomllib.loads(text)["pool"][0]["name"] == "mac"


def test_the_files_are_where_the_service_looks(tmp_path: Path) -> None:
    """The one in the working directory, the one that is named, else the state directory."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    cwd.mkdir()
    (cwd / ".env").touch()
    environ = {"CIDERMILL_STATE_DIR": str(home), "CIDERMILL_CONFIG": "mine.toml"}
    found = Files(sources(environ, cwd))
    assert (found.env, found.toml, found.state_dir) == (cwd / ".env", cwd / "mine.toml", home)


def test_a_key_never_takes_anothers_place(tmp_path: Path) -> None:
    """The key of the App before stays on disk; the same key twice is one file."""
    found = files(tmp_path)
    assert found.write_key("one", 1).name == "app.pem"
    assert found.write_key("one", 1).name == "app.pem"
    second = found.write_key("two", 2)
    assert second.name == "app-2.pem"
    assert (tmp_path / "app.pem").read_text() == "one"
    assert stat.S_IMODE(second.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Where .env is a link, what it leads to changes."""
    (tmp_path / "real").write_text("A=1\n")
    (tmp_path / ".env").symlink_to(tmp_path / "real")
    write(tmp_path / ".env", "A=2\n")
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "real").read_text() == "A=2\n"


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A folder that is a file, and a file that is a folder, are named; no half is left behind."""
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable, match="file/state"):
        files(tmp_path / "file" / "state").check()
    (tmp_path / "home" / ".env").mkdir(parents=True)
    with pytest.raises(Unwritable, match=r"\.env"):
        write(tmp_path / "home" / ".env", "A=1\n")
    assert [path.name for path in (tmp_path / "home").iterdir()] == [".env"]


def test_a_broken_toml_file_is_not_overwritten(tmp_path: Path) -> None:
    """What cannot be understood is left alone, and told."""
    (tmp_path / "cidermill.toml").write_text("slots = = 1\n")
    with pytest.raises(Unwritable, match="is not TOML"):
        files(tmp_path).write_pool(POOL)
    assert (tmp_path / "cidermill.toml").read_text() == "slots = = 1\n"
