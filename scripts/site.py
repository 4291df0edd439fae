"""What the documents need to become a site: a hook of MkDocs.

The documents are written to be read on GitHub too, so a few things are done here: their lists are indented as Python's
Markdown wants them, links that leave ``docs/`` lead to the repository, a diagram of states, which GitHub draws by itself,
is drawn here (the theme would fetch a script for it from elsewhere), and the reference of the command line and of the
HTTP API is written from the code itself.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from app.cli.program import program
from app.main import create_app
from app.settings import Settings

REPOSITORY = "https://github.com/cidermill/cidermill/blob/main/"
INTRODUCTION = """# HTTP API

Written from `/openapi.json`, which the server answers with and which has all of it. What the routes are for stands in the
[design](../design.md#http)."""
INDENT = 4  # what Python's Markdown takes for one level
ITEM = re.compile(r"([-*]|\d+\.) +")
FENCE = re.compile(r" *```")
DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EDGE = re.compile(r"(\S+) --> (\S+)")
OUTSIDE = "[*]"  # where a life begins and ends
WIDTH, HEIGHT, STEP, BULGE = (
    110,
    30,
    54,
    20,
)  # of a state as it is drawn, from one to the next, and of a way past one
TIP = (
    '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 6 3 0 6z"/></marker></defs>'
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are written from the code."""
    for uri, text in {"reference/commands.md": commands(), "reference/http.md": http()}.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a document as GitHub shows it into one that MkDocs shows alike."""
    del config, files
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    return pictured(indented(outward(markdown, folder)))


def outward(markdown: str, folder: str) -> str:
    """Let links that leave ``docs/`` lead to the repository; *folder* is the document's own, from its root."""

    def whole(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        return match[0] if path.startswith("docs/") else f"]({REPOSITORY}{path})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", whole, markdown)


def indented(markdown: str) -> str:
    """Indent what belongs to a list item by four, and begin each list after an empty line."""
    lines: list[str] = []
    width, fenced = 0, False  # of the item's marker, 0 outside a list
    for line in markdown.split("\n"):
        inside = width > 0 and line.startswith(" " * width)
        if not fenced and (item := ITEM.match(line)):
            if not width and lines and lines[-1].strip():
                lines.append("")
            width = len(item[0])
        elif inside:
            line = " " * (INDENT - width) + line
        elif line.strip() and not fenced:
            width = 0
        fenced ^= bool(FENCE.match(line))
        lines.append(line)
    return "\n".join(lines)


def pictured(markdown: str) -> str:
    """Put a picture in the place of each diagram of states."""
    return DIAGRAM.sub(lambda match: drawn(EDGE.findall(match[1])), markdown)


def drawn(edges: list[tuple[str, str]]) -> str:
    """Draw states below each other, with the ways past others beside them: forward at the right, back at the left."""
    named = [one for one, _ in edges] + [other for _, other in edges]
    states = [state for state in dict.fromkeys(named) if state != OUTSIDE]
    place = {state: n + 1 for n, state in enumerate(states)}
    width, height = WIDTH + 2 * BULGE * len(states), STEP * (len(states) + 1)
    middle = width // 2
    ways = [way(middle, place.get(one, 0), place.get(other, len(states) + 1)) for one, other in edges]
    boxes = [
        f'<rect x="{middle - WIDTH // 2}" y="{STEP * n - HEIGHT}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle}" y="{STEP * n - 10}">{state}</text>'
        for state, n in place.items()
    ]
    said = "; ".join(f"{one} to {other}" for one, other in edges if OUTSIDE not in (one, other))
    return (
        f'<div class="states"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{TIP}'
        f"{''.join(ways + boxes)}</svg></div>"
    )


def way(middle: int, one: int, other: int) -> str:
    """Draw the way from one place to another, straight to the next and round whatever lies between."""
    steps = other - one
    if steps == 1:
        return f'<path d="M{middle} {STEP * one} V{STEP * other - HEIGHT}"/>'
    side = middle + (WIDTH // 2 if steps > 0 else -WIDTH // 2)
    out, begin, end = side + BULGE * steps, STEP * one - HEIGHT // 3, STEP * other - HEIGHT * 2 // 3
    return f'<path d="M{side} {begin} C{out} {begin} {out} {end} {side} {end}"/>'


def commands() -> str:
    """Write the reference of the command line."""
    command = typer.main.get_command(program)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="cidermill")
    return html.unescape(text).replace("# `cidermill`\n", "# Commands\n", 1)


def http() -> str:
    """Write the reference of the HTTP API from the OpenAPI document that the server answers with."""
    with TemporaryDirectory() as folder:
        made_up = {
            "github_token": "none",
            "github_webhook_secret": "s" * 32,
            "state_dir": folder,
            "pool": [{"name": "p", "labels": ["l"], "image": "i", "repositories": ["o/r"]}],
        }
        described = create_app(Settings.model_validate(made_up)).openapi()
    parts = [INTRODUCTION]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts += operation_of(f"{method.upper()} {path}", operation)
    parts.append("## Bodies")
    for name, schema in described["components"]["schemas"].items():
        parts += body_of(name, schema)
    return "\n\n".join(parts) + "\n"


def operation_of(title: str, operation: dict[str, Any]) -> Iterator[str]:
    """Write one route: what it takes and what it answers."""
    yield f"## `{title}`"
    yield operation.get("description") or operation["summary"]
    parameters = [
        (one["name"], one["in"], kind(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    if parameters:
        yield table(("parameter", "in", "type", "meaning"), parameters)
    yield table(
        ("status", "means", "body"),
        [
            (status, answer["description"], ", ".join(sorted(map(kind, schemas(answer)))))
            for status, answer in sorted(operation["responses"].items())
        ],
    )


def body_of(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """Write one model and its fields."""
    yield f"### {name}"
    if "description" in schema:
        yield schema["description"]
    fields = [
        (f"`{key}`", kind(field), field.get("description", ""))
        for key, field in schema.get("properties", {}).items()
    ]
    if fields:
        yield table(("field", "type", "meaning"), fields)


def schemas(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the schemas of an answer's body."""
    return (media["schema"] for media in answer.get("content", {}).values() if media.get("schema"))


def kind(schema: dict[str, Any]) -> str:
    """Say in a word what values a schema allows; a model is a link to its fields."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    return schema.get("format") or schema.get("type", "anything")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a table; a cell is one line, and a column that is empty is left out."""
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    cells = [[row[column] for column in used] for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |"
        for row in cells
    )
