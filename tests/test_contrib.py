"""What is shipped beside the program: the systemd unit, the alert rules, the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib"


def program(name: str) -> str:
    """Return the program's path, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH")
    return found


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_systemd_unit(tmp_path: Path) -> None:
    """The unit is read by systemd without a complaint, and finds little that it exposes."""
    analyze = program("systemd-analyze")
    text = (CONTRIB / "systemd/cidermill.service").read_text(encoding="utf-8")
    assert "ExecStart=/opt/cidermill/bin/cidermill serve\n" in text
    unit = tmp_path / "cidermill.service"
    unit.write_text(text.replace("/opt/cidermill/bin/cidermill serve", sys.executable), encoding="utf-8")
    assert run(analyze, "verify", "--man=no", str(unit)) == ""
    run(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))


# --- Prometheus and Grafana ---------------------------------------------------------------------------------------


def metrics() -> dict[str, set[str]]:
    """Return every series that docs/metrics.md tells of, with its labels."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `(\w+)` \| (\w+) \| (.*?) \|", line):
            name, kind, labels = match[1], match[2], set(re.findall(r"`(\w+)`", match[3]))
            found |= (
                {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
                if kind == "histogram"
                else {name: labels}
            )
    assert found
    return found


def unknown(expression: str) -> list[str]:
    """Return the metrics of ours in *expression* that do not exist, and the labels that they do not have."""
    known, wrong = metrics(), []
    for name, selector in re.findall(r"\b(cidermill_\w+)(?:\{([^}]*)\})?", expression):
        if name not in known:
            wrong.append(name)
            continue
        asked = set(re.findall(r"(\w+) ?(?:=~|!~|!=|=)", selector)) - {"instance"}
        wrong += [f"{name}: {label}" for label in sorted(asked - known[name])]
    by = {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(", ")}
    named = [known[name] for name in re.findall(r"\bcidermill_\w+", expression) if name in known]
    return wrong + [f"by {label}" for label in sorted(by - {"instance"} - set().union(*named))]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    text = (CONTRIB / "grafana/cidermill.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


def expressions(dashboard: dict[str, Any]) -> list[str]:
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return asked + [variable["definition"] for variable in dashboard["templating"]["list"][1:]]


def test_a_wrong_expression_is_found() -> None:
    """The check itself sees a metric, a label and a grouping that do not exist."""
    assert unknown("sum by (pool, wrong) (cidermill_jobs_queued{state='x'}) + cidermill_nothing") == [
        "cidermill_jobs_queued: state",
        "cidermill_nothing",
        "by wrong",
    ]


def test_the_dashboard_asks_for_what_there_is(dashboard: dict[str, Any]) -> None:
    """Every metric and label that the dashboard asks for is in docs/metrics.md, and every metric is shown."""
    asked = expressions(dashboard)
    assert {expression: unknown(expression) for expression in asked if unknown(expression)} == {}
    shown = set(re.findall(r"\bcidermill_\w+", " ".join(asked)))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics()}


def test_the_dashboard_is_whole(dashboard: dict[str, Any]) -> None:
    """Panels have ids of their own, say what they show, and none lies on another; any data source can be chosen."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(across < 24 for across, _ in cells)
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["datasource"]["uid"] == "${datasource}"


def test_the_dashboards_expressions_are_promql(dashboard: dict[str, Any], tmp_path: Path) -> None:
    """Prometheus's own parser takes every expression."""
    promtool = program("promtool")
    asked = [expression for expression in expressions(dashboard) if not expression.startswith("label_values")]
    rules = [
        {"record": f"asked:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}), encoding="utf-8")
    assert f"SUCCESS: {len(asked)} rules found" in run(promtool, "check", "rules", str(file))


def test_the_alerts_ask_for_what_there_is() -> None:
    """Every metric and label in the alert rules is in docs/metrics.md."""
    text = (CONTRIB / "prometheus/alerts.yml").read_text(encoding="utf-8")
    asked = re.findall(r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*)$)", text, re.MULTILINE)
    assert len(asked) == text.count("- alert:")
    assert [wrong for many, one in asked for wrong in unknown(many or one)] == []


def test_the_alerts() -> None:
    """Prometheus takes the rules, and each one fires when it should and not before (alerts_test.yml)."""
    promtool, folder = program("promtool"), CONTRIB / "prometheus"
    run(promtool, "check", "rules", "alerts.yml", cwd=folder)
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts_test.yml", cwd=folder)
    alerts = re.findall(r"- alert: (\w+)", (folder / "alerts.yml").read_text(encoding="utf-8"))
    tests = (folder / "alerts_test.yml").read_text(encoding="utf-8")
    assert [name for name in alerts if name not in tests] == []
