"""The documents tell the truth about the code: names, defaults, routes, the diagram, links and citations."""

from __future__ import annotations

import plistlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app import metrics
from app.advice import advice
from app.cli.program import program
from app.configfile import CONFIG, PREFIX, load
from app.domain.runners import TRANSITIONS, RunnerState
from app.durations import parse_duration
from app.main import ROUTERS
from app.poolsettings import PoolSettings
from app.service.agent import LaunchAgent
from app.settings import Settings
from app.web import pages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SKIPPED = {".venv", ".git", "node_modules", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}

SETTINGS = set(Settings.model_fields) - {"pool"}
FLAT_KEYS = set(PoolSettings.model_fields) - {"orchard"}
SECRETS = {
    "github_private_key",
    "github_token",
    "github_webhook_secret",
    "github_webhook_secret_previous",
    "admin_token",
    "notify_url",
    "notify_secret",
    "orchard_token",
}
NOT_BUILT = "Not built yet"
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def documents() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts))


def section(text: str, title: str) -> str:
    """Return what stands under the heading *title*, up to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert match is not None, f"there is no heading {title!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table row that begins with a code span."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def state_diagram() -> str:
    """Draw the life of a runner, as mermaid, from the table that governs it."""
    lines = ["stateDiagram-v2", f"    [*] --> {RunnerState.CLAIMED}"]
    for state in RunnerState:
        lines += [f"    {state} --> {to}" for to in RunnerState if to in TRANSITIONS[state]]
    return "\n".join([*lines, f"    {RunnerState.GONE} --> [*]"])


def test_the_picture_of_a_runners_life_is_the_table() -> None:
    """docs/architecture.md shows every transition of TRANSITIONS and no other."""
    block = re.search(r"```mermaid\n(stateDiagram-v2.*?)\n```", read("docs/architecture.md"), re.DOTALL)
    assert block is not None
    assert block[1] == state_diagram()


PROOFS = sorted({proof for path in documents() for proof in PROOF.findall(path.read_text(encoding="utf-8"))})


@pytest.mark.parametrize(("file", "test"), PROOFS)
def test_a_proof_exists(file: str, test: str) -> None:
    """Every test that a document names is there."""
    assert re.search(rf"^(async )?def {test}\(", read(file), re.MULTILINE)


# --- Settings -----------------------------------------------------------------------------------------------------


def shown_default(field: FieldInfo) -> object:
    return None if field.default is PydanticUndefined else field.default


def same(shown: str, default: object) -> bool:
    """Whether a default as the documents write it, in TOML, is the default of the code."""
    if shown in {"–", "required"} or shown.startswith("this Mac"):
        return default is None
    value = tomllib.loads(f"value = {shown.strip('`')}")["value"]
    if isinstance(default, timedelta):
        return parse_duration(value) == default
    return tuple(value) == default if isinstance(value, list) else str(value) == str(default)


@pytest.mark.parametrize(
    ("title", "model"),
    [
        pytest.param("Settings", Settings, id="every setting"),
        pytest.param("Pools", PoolSettings, id="every key of a pool"),
    ],
)
def test_configuration_is_documented(title: str, model: type[Settings | PoolSettings]) -> None:
    """docs/configuration.md lists every setting with its environment name and its true default."""
    listed: Mapping[str, list[str]] = {
        cells[0].strip("`"): cells for cells in rows(section(read("docs/configuration.md"), title))
    }
    assert set(listed) == set(model.model_fields) - {"pool"}
    for name, cells in listed.items():
        default = cells[2 if model is Settings else 1]
        assert same(default, shown_default(model.model_fields[name])), f"{name}: {default}"
        if model is Settings:
            assert cells[1] == f"`{PREFIX}{name.upper()}`"


def uncommented(text: str) -> str:
    """Return an example with each line that shows a default put in force; "Example:" lines stay comments."""
    return re.sub(r"^# (?=[A-Za-z_]+ ?=)", "", text, flags=re.MULTILINE)


def filled_env(folder: Path) -> str:
    """Return .env.example with the required lines filled in."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = folder / "app.pem"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    given = {
        "GITHUB_APP_ID": "12345",
        "GITHUB_PRIVATE_KEY_PATH": str(path),
        "GITHUB_WEBHOOK_SECRET": "s" * 32,
    }
    text = read(".env.example")
    for name, value in given.items():
        text, found = re.subn(
            rf"^{PREFIX}{name}=$", f"{PREFIX}{name}={value}", text, count=1, flags=re.MULTILINE
        )
        assert found, f"{name} is required and must stand uncommented in .env.example"
    return text


def test_env_example_names_every_setting() -> None:
    """.env.example names every setting, CIDERMILL_CONFIG and nothing else, each once."""
    named = re.findall(r"^(?:# (?:Example: )?)?(CIDERMILL_[A-Z_]+)=", read(".env.example"), re.MULTILINE)
    assert sorted(named) == sorted({f"{PREFIX}{name.upper()}" for name in SETTINGS} | {CONFIG})


def test_toml_example_names_every_key() -> None:
    """cidermill.toml.example names every setting that is no secret and every key of a pool, once."""
    settings, _, pool = read("cidermill.toml.example").partition("[[pool]]\n")
    pattern = re.compile(r"^(?:# (?:Example: )?)?([a-z_]+) =", re.MULTILINE)
    assert sorted(pattern.findall(settings)) == sorted(SETTINGS - SECRETS)
    assert sorted(pattern.findall(pool)) == sorted(FLAT_KEYS)


def test_examples_load(tmp_path: Path) -> None:
    """cidermill.toml.example loads as it stands, with .env.example filled in."""
    (tmp_path / ".env").write_text(filled_env(tmp_path), encoding="utf-8")
    (tmp_path / "cidermill.toml").write_text(read("cidermill.toml.example"), encoding="utf-8")
    settings = load({}, tmp_path)
    assert settings.github_app_id == "12345"
    assert [pool.name for pool in settings.pools] == ["sequoia"]
    assert advice(settings) == ()


def test_examples_show_the_true_defaults(tmp_path: Path) -> None:
    """With every shown default put in force nothing changes."""
    env, toml = filled_env(tmp_path), read("cidermill.toml.example")
    found = []
    for name, change in (("as it stands", str), ("uncommented", uncommented)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".env").write_text(change(env), encoding="utf-8")
        (folder / "cidermill.toml").write_text(change(toml), encoding="utf-8")
        found.append(load({}, folder))
    assert uncommented(toml) != toml
    assert found[0].model_dump() == found[1].model_dump()


# --- What runs ----------------------------------------------------------------------------------------------------


def test_every_metric_is_documented() -> None:
    """docs/metrics.md lists every metric that app/metrics.py makes, under the name Prometheus sees."""
    made = {
        f"{name}_total" if kind.startswith("Counter") else name
        for kind, name in re.findall(
            r'\b(Counter|Gauge|Histogram|Summary|CounterMetricFamily|GaugeMetricFamily)\(\s*"(cidermill_\w+)"',
            Path(metrics.__file__).read_text(encoding="utf-8"),
        )
    }
    listed = [cells[0].strip("`") for cells in rows(read("docs/metrics.md"))]
    assert made
    assert sorted(listed) == sorted(made)


def test_every_route_is_documented() -> None:
    """docs/design.md lists every route that is served, and no other."""
    served = {
        f"{method} {route.path}" for router in (*ROUTERS, pages.router) for method, route in routes(router)
    }
    listed = {cells[0].strip("`") for cells in rows(section(read("docs/design.md"), "HTTP"))}
    assert listed == served


def routes(router: APIRouter) -> Iterator[tuple[str, APIRoute]]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                yield method, route


def test_every_key_of_the_launch_agent_is_explained() -> None:
    """docs/service.md has a row for every key that launchd is given, and for no other."""
    agent = LaunchAgent(program=Path("/p"), state_dir=Path("/s"), config=None, log=Path("/l"))
    named = {key for cells in rows(read("docs/service.md")) for key in re.findall(r"`([A-Z]\w+)`", cells[0])}
    assert named == set(plistlib.loads(agent.plist()))


def commands() -> set[str]:
    found = re.findall(
        r'program\.(?:command\("(\w+)"\)|add_typer\([^)]*name="(\w+)")', read("app/cli/program.py")
    )
    return {one or other for one, other in found}


def test_every_command_is_documented() -> None:
    """docs/cli.md lists every command, with each of its options, and no other."""
    listed = {cells[0].strip("`"): cells[1] for cells in rows(read("docs/cli.md"))}
    assert set(listed) == commands()
    whole = typer.main.get_command(program)
    for name in (
        "status",
        "jobs",
        "why",
        "runners",
        "logs",
        "hold",
        "release",
        "shell",
        "stop",
        "drain",
        "reload",
    ):
        found = whole.commands[name].params  # type: ignore[attr-defined]
        options = {option for parameter in found for option in parameter.opts if option.startswith("--")}
        shown = set(re.findall(r"`(--[a-z-]+)`", listed[name]))
        assert options - {"--help"} == shown, name


def test_no_document_names_a_command_that_does_not_exist() -> None:
    """Outside a section "Not built yet" every command of ours that a document shows exists."""
    wrong, built = [], commands()
    assert "serve" in built
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if f"# {NOT_BUILT}\n" in text:
            text = text.replace(section(text, NOT_BUILT), "")
        named = re.findall(r"(?<![\w./~-])cidermill +([a-z]+)", text)
        wrong += [f"{path.relative_to(ROOT)}: cidermill {name}" for name in named if name not in built]
    assert wrong == []


def test_the_first_screen_shows_how_to_see_and_test_it() -> None:
    """Whoever opens the README finds both commands without scrolling, and both are made."""
    first = "\n".join(read("README.md").splitlines()[:25])
    for target in ("demo", "test"):
        assert re.search(rf"^make {target}\b", first, re.MULTILINE)
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)


# --- Links and citations ------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_documents_resolve() -> None:
    """Every link to a file, and to a heading in a document, leads somewhere."""
    broken = []
    for path in documents():
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name) if name else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []


def sections_of(contract: Path) -> set[str]:
    titles = re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", contract.read_text(encoding="utf-8"), re.MULTILINE)
    return set(titles)


def cited(text: str) -> Iterator[str]:
    """Yield the section numbers in ``§5.5, §11`` and the ends of ``§5.3–5.5``."""
    for start, end in re.findall(r"§\s?(\d+(?:\.\d+)?)(?:\s?[–-]\s?(\d+(?:\.\d+)?))?", text):
        yield start
        if end:
            yield end


def test_cited_sections_of_the_contracts_exist() -> None:
    """Wherever code or a document cites docs/contracts/X.md §N, that section is there."""
    pattern = re.compile(r"contracts/(\w+)\.md\)?((?:,?\s*(?:and )?§\s?[\d.]*\d(?:\s?[–-]\s?[\d.]*\d)?)*)")
    wrong, found = [], 0
    for path in sorted([*documents(), *(p for d in ("app", "migrations", "packer") for p in code(d))]):
        for name, numbers in pattern.findall(path.read_text(encoding="utf-8")):
            contract = DOCS / "contracts" / f"{name}.md"
            known = sections_of(contract) if contract.exists() else set()
            found += 1
            if not contract.exists() or not set(cited(numbers)) <= known:
                wrong.append(f"{path.relative_to(ROOT)}: {name}.md{numbers}")
    assert found
    assert wrong == []


def code(folder: str) -> Iterator[Path]:
    for suffix in ("*.py", "*.sh", "*.hcl"):
        yield from (ROOT / folder).rglob(suffix)


@pytest.mark.parametrize("contract", sorted((DOCS / "contracts").glob("*.md")), ids=lambda path: path.stem)
def test_contracts_refer_to_sections_they_have(contract: Path) -> None:
    """A contract's own § references lead to sections that were kept."""
    text = contract.read_text(encoding="utf-8")
    text = re.sub(r"[\w/]+\.md`?\)? §[\d., §–-]*", "", text)  # another document's
    text = re.sub(r"libraries.*?§[\d.]+", "", text)
    assert set(cited(text)) - sections_of(contract) == set()
