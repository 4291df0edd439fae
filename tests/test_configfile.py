"""Where configuration is read from, and the two files that the state directory is given."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from app.configfile import ConfigError, admin_token, load, prepare_state_dir
from app.settings import Settings

SECRET = "correct-horse-battery-staple"
POOL = '[[pool]]\nname = "mac"\nlabels = ["m"]\nimage = "sequoia"\nrepositories = ["acme/*"]\n'
ENOUGH = f'github_token = "t-of-the-tests"\ngithub_webhook_secret = "{SECRET}"\n'


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def read(cwd: Path, state: Path, **environ: str) -> Settings:
    given = {f"CIDERMILL_{name.upper()}": text for name, text in environ.items()}
    return load({"CIDERMILL_STATE_DIR": str(state), "PATH": "/bin"} | given, cwd)


def problems(cwd: Path, state: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(cwd, state, **environ)
    return refused.value.problems


def test_precedence(cwd: Path, state: Path) -> None:
    """The environment outweighs ``.env``, which outweighs the TOML file, which outweighs the default."""
    (cwd / "cidermill.toml").write_text(f'{ENOUGH}listen = "h:1"\nlog_level = "error"\nslots = 1\n{POOL}')
    (cwd / ".env").write_text("CIDERMILL_LISTEN=h:2\nCIDERMILL_LOG_LEVEL=debug\n")
    settings = read(cwd, state, listen="h:3")
    assert (settings.listen, settings.log_level, settings.slots) == ("h:3", "debug", 1)
    assert settings.retention_days == 30


@pytest.mark.parametrize("name", ["cidermill.toml", ".env"])
def test_working_directory_first(cwd: Path, state: Path, name: str) -> None:
    """Each file is taken from the working directory, and from the state directory where there is none."""
    (state / "cidermill.toml").write_text(ENOUGH + 'listen = "far:1"\n' + POOL)
    (state / ".env").write_text("CIDERMILL_LOG_LEVEL=debug\n")
    far = read(cwd, state)
    assert (far.listen, far.log_level) == ("far:1", "debug")
    (cwd / name).write_text(
        ENOUGH + 'listen = "near:1"\n' + POOL if name != ".env" else "CIDERMILL_LOG_LEVEL=error\n"
    )
    near = read(cwd, state)
    assert (near.listen, near.log_level) == (
        ("near:1", "debug") if name == "cidermill.toml" else ("far:1", "error")
    )


def test_state_dir_named_in_dotenv(cwd: Path, state: Path) -> None:
    """Where ``.env`` says which state directory it is, the TOML file is found there."""
    (cwd / ".env").write_text(f"CIDERMILL_STATE_DIR={state}\n")
    (state / "cidermill.toml").write_text(ENOUGH + POOL)
    assert load({}, cwd).state_dir == state


@pytest.mark.parametrize("absolute", [True, False])
def test_named_file(cwd: Path, state: Path, absolute: bool) -> None:
    """CIDERMILL_CONFIG names another file, from the working directory on where it is not absolute."""
    (cwd / "cidermill.toml").write_text("this is not read")
    (cwd / "other.toml").write_text(ENOUGH + POOL)
    assert read(cwd, state, config=str(cwd / "other.toml") if absolute else "other.toml").pools


def test_named_file_missing(cwd: Path, state: Path) -> None:
    """A named file that is not there stops the start: it is never passed over for the default."""
    (cwd / "cidermill.toml").write_text(ENOUGH + POOL)
    (problem,) = problems(cwd, state, config="gone.toml")
    assert problem == f"CIDERMILL_CONFIG: cannot read {cwd}/gone.toml (No such file or directory)"
    (problem,) = problems(cwd, state, config=str(state))
    assert "(Is a directory)" in problem


def test_environment_alone(cwd: Path, state: Path) -> None:
    """Everything but pools may come from the environment, where all is text."""
    (cwd / "cidermill.toml").write_text(POOL)
    settings = read(
        cwd,
        state,
        github_token="t-of-the-tests",
        github_webhook_secret=SECRET,
        slots="1",
        metrics_public="true",
        min_free_disk_gb="12.5",
    )
    assert (settings.slots, settings.metrics_public, settings.min_free_disk_gb) == (1, True, 12.5)


def test_dotenv_is_taken_as_written(cwd: Path, state: Path) -> None:
    """A secret in ``.env`` may hold what a shell would replace; quotes and comments are the file's own."""
    (cwd / "cidermill.toml").write_text(POOL)
    (cwd / ".env").write_text(
        "# ours\nexport CIDERMILL_GITHUB_TOKEN='t$HOME${PATH}'  # a comment\n"
        f'CIDERMILL_GITHUB_WEBHOOK_SECRET="{SECRET}"\nOTHER=1\n'
    )
    settings = read(cwd, state)
    assert settings.github_token is not None
    assert settings.github_token.get_secret_value() == "t$HOME${PATH}"


@pytest.mark.parametrize(
    ("where", "text", "problem"),
    [
        pytest.param(
            "environ",
            "SLOT",
            "CIDERMILL_SLOT in the environment: there is no such setting; did you mean CIDERMILL_SLOTS?",
            id="in the environment",
        ),
        pytest.param(
            ".env",
            "CIDERMILL_LOGLEVEL=debug",
            "CIDERMILL_LOGLEVEL in {cwd}/.env: there is no such setting; did you mean CIDERMILL_LOG_LEVEL?",
            id="in .env",
        ),
        pytest.param(
            "toml",
            "listens = 1",
            "listens: there is no such setting; did you mean listen?",
            id="in the TOML file",
        ),
        pytest.param("toml", "xyzzy = 1", "xyzzy: there is no such setting", id="like none of ours"),
    ],
)
def test_unknown_keys(cwd: Path, state: Path, where: str, text: str, problem: str) -> None:
    """A key that does not exist is told with its place, and with the one that was meant."""
    (cwd / "cidermill.toml").write_text((text if where == "toml" else "") + "\n" + ENOUGH + POOL)
    if where == ".env":
        (cwd / ".env").write_text(text)
    found = problems(cwd, state, **({text: "1"} if where == "environ" else {}))
    assert found == [problem.format(cwd=cwd)]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(b"slots = \n", "at line 1, column 9", id="no value"),
        pytest.param(b"slots = 1\nslots = 2\n", "line 2", id="a key twice"),
        pytest.param(b"\xff\xfe", "it is not UTF-8 text", id="not text"),
    ],
)
def test_broken_toml(cwd: Path, state: Path, content: bytes, part: str) -> None:
    """A file that is not TOML is named, with the place of the mistake."""
    (cwd / "cidermill.toml").write_bytes(content)
    (problem,) = problems(cwd, state)
    assert problem.startswith(f"{cwd}/cidermill.toml is not TOML: ")
    assert part in problem


def test_broken_dotenv(cwd: Path, state: Path) -> None:
    """A ``.env`` that is not text is named."""
    (cwd / ".env").write_bytes(b"A=\xff")
    assert problems(cwd, state) == [f"{cwd}/.env is not UTF-8 text"]


def test_nothing_at_all(cwd: Path, state: Path) -> None:
    """Without any configuration the three things to do are told, and where to look."""
    with pytest.raises(ConfigError) as refused:
        read(cwd, state)
    starts = [problem.split(":")[0] for problem in refused.value.problems]
    assert starts == [
        "github_app_id with github_private_key_path (or github_token)",
        "github_webhook_secret",
        "[[pool]]",
    ]
    report = refused.value.report()
    for mend in ("cidermill.toml.example", ".env.example", "cidermill config check", "cidermill demo"):
        assert mend in report


def test_no_secret_in_any_error(cwd: Path, state: Path) -> None:
    """Whatever is wrong, the texts of secrets appear in no sentence and no cause."""
    given = {
        name: f"{SECRET}-{name}"
        for name in ("github_token", "github_private_key", "github_webhook_secret_previous", "admin_token")
    }
    (cwd / "cidermill.toml").write_text(f'github_webhook_secret = ["{SECRET}"]\nslots = 7\n' + POOL)
    with pytest.raises(ConfigError) as refused:
        read(cwd, state, github_app_id="7", **given)
    assert len(refused.value.problems) >= 2
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__cause__


def test_no_home(cwd: Path) -> None:
    """A home directory that does not exist is a sentence, in both variables that may name one."""
    for name in ("CIDERMILL_STATE_DIR", "CIDERMILL_CONFIG"):
        with pytest.raises(ConfigError, match=f"{name}: there is no home directory for ~nobody-here"):
            load({name: "~nobody-here/x"}, cwd)


def some_settings(cwd: Path, state: Path, **environ: str) -> Settings:
    (cwd / "cidermill.toml").write_text(ENOUGH + POOL)
    return read(cwd, state, **environ)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_dir_is_private(cwd: Path, tmp_path: Path) -> None:
    """The state directory is made with its parents, and closed to others even where it was open."""
    settings = some_settings(cwd, tmp_path / "a" / "b")
    path = prepare_state_dir(settings)
    assert (path, mode_of(path)) == (tmp_path / "a" / "b", 0o700)
    path.chmod(0o755)
    assert mode_of(prepare_state_dir(settings)) == 0o700


def test_state_dir_in_the_way(cwd: Path, tmp_path: Path) -> None:
    """A file where the directory should be is a sentence, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"state_dir: cannot use .*file"):
        prepare_state_dir(some_settings(cwd, tmp_path / "file"))


def test_admin_token_is_made_once(cwd: Path, state: Path) -> None:
    """The first start makes a long token, readable by its owner alone, and the next ones keep it."""
    settings = some_settings(cwd, state)
    made = admin_token(settings)
    assert len(made) >= 40
    assert mode_of(state / "admin-token") == 0o600
    (state / "admin-token").chmod(0o644)
    assert admin_token(settings) == made
    assert mode_of(state / "admin-token") == 0o600


def test_admin_token_that_is_set(cwd: Path, state: Path) -> None:
    """A token of the configuration is used, and none is written."""
    assert admin_token(some_settings(cwd, state, admin_token="ours-and-long")) == "ours-and-long"
    assert not (state / "admin-token").exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an earlier start ended while it wrote"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"\xff\xfe\n", id="not text"),
    ],
)
def test_admin_token_file_without_token(cwd: Path, state: Path, content: bytes) -> None:
    """A file that holds no token is never taken for the empty token."""
    (state / "admin-token").write_bytes(content)
    with pytest.raises(ConfigError, match="admin-token holds no token: delete it"):
        admin_token(some_settings(cwd, state))


def test_admin_token_in_the_way(cwd: Path, state: Path) -> None:
    """What cannot be read or made is a sentence that names the path."""
    (state / "admin-token").mkdir()
    with pytest.raises(ConfigError, match=r"admin_token: cannot use .*admin-token \(Is a directory\)"):
        admin_token(some_settings(cwd, state))
    with pytest.raises(ConfigError, match=r"admin_token: cannot use .*\(No such file or directory\)"):
        admin_token(some_settings(cwd, state / "gone"))
