"""The site: documents written for GitHub come out right, the reference is whole, and a dead link stops the build."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from app.cli.program import program
from scripts import site

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        pytest.param("- a\n  b", "- a\n    b", id="the second line of an item"),
        pytest.param(
            "1. a\n\n   ```sh\n   x\n   ```\n2. b", "1. a\n\n    ```sh\n    x\n    ```\n2. b", id="code"
        ),
        pytest.param("1. a\n   - b", "1. a\n    - b", id="a list in a list"),
        pytest.param("a\n- b\n- c", "a\n\n- b\n- c", id="a list after a line of text"),
        pytest.param("- a\n\nb\n  c", "- a\n\nb\n  c", id="what comes after a list"),
        pytest.param("```\n- a\n  b\n```", "```\n- a\n  b\n```", id="a list in code"),
        pytest.param("- a\n```\n  b\n```", "- a\n```\n  b\n```", id="code after a list"),
    ],
)
def test_lists(written: str, wanted: str) -> None:
    """What belongs to an item is indented by four; everything else stays."""
    assert site.indented(written) == wanted


@pytest.mark.parametrize(
    ("folder", "written", "wanted"),
    [
        pytest.param("docs", "[a](b.md#c)", "[a](b.md#c)", id="a page beside it"),
        pytest.param("docs/howto", "[a](../b.md)", "[a](../b.md)", id="a page above it"),
        pytest.param(
            "docs", "[a](../SECURITY.md#b)", f"[a]({site.REPOSITORY}SECURITY.md#b)", id="a file outside"
        ),
        pytest.param(
            "docs/howto", "[a](../../packer/b)", f"[a]({site.REPOSITORY}packer/b)", id="one further out"
        ),
    ],
)
def test_links(folder: str, written: str, wanted: str) -> None:
    """A link that leaves docs/ leads to the repository."""
    assert site.outward(written, folder) == wanted


def test_a_diagram_of_states_is_drawn() -> None:
    """Every state and every way between two is in the picture and in its words, and no script is wanted for it."""
    text = "before\n\n```mermaid\nstateDiagram-v2\n    [*] --> a\n    a --> b\n    a --> c\n    b --> a\n    c --> [*]\n```\nafter"
    shown = site.pictured(text)
    assert [shown.count(f"<{tag} ") for tag in ("rect", "text")] == [3, 3]
    assert shown.count("<path") == 5 + 1  # the last is the tip of them all
    assert 'aria-label="a to b; a to c; b to a"' in shown
    assert "mermaid" not in shown
    assert re.fullmatch(r"before\n\n<div.*</div>\nafter", shown)


def test_the_readme_shows_pictures_that_are_there() -> None:
    """The README shows the dashboard, in light and dark."""
    pictures = re.findall(r'src(?:set)?="([^"]+)"', (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(pictures) == 2
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_every_command_is_in_the_reference() -> None:
    """The reference has a heading for each command, with its help."""
    text = site.commands()
    for name, command in typer.main.get_command(program).commands.items():
        assert f"## `cidermill {name}`" in text
        assert command.help.partition("\n")[0].split(";")[0] in text


def test_the_reference_of_the_http_api_is_whole() -> None:
    """Each route has its answers, each link to a body leads to one, and no cell breaks its row."""
    text = site.http()
    assert "## `POST /webhooks/github`" in text
    assert "| 404 |" in text
    bodies = {line[4:].lower() for line in text.splitlines() if line.startswith("### ")}
    linked = {part.partition(")")[0] for part in text.split("](#")[1:]}
    assert linked
    assert linked <= bodies


@pytest.mark.parametrize(
    "link",
    [
        pytest.param("missing.md", id="a page that is not there"),
        pytest.param("other.md#missing", id="a heading that is not there"),
    ],
)
def test_a_dead_link_stops_the_build(tmp_path: Path, caplog: pytest.LogCaptureFixture, link: str) -> None:
    """The configuration of the site is strict."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# One\n\n[there]({link})\n", encoding="utf-8")
    (docs / "other.md").write_text("# Other\n", encoding="utf-8")
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(docs),
        site_dir=str(tmp_path / "site"),
        hooks=[],
        plugins=[],
        nav=["index.md", "other.md"],
    )
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        build(config)
    assert link.rpartition("#")[2] in caplog.text
