#!/usr/bin/env python3
"""A stand-in for launchctl that keeps state in the directory named by its own place, and answers as macOS 15 does.

It knows print, enable, bootstrap and bootout. A service that is booted out stays listed for a few looks, as the
real one does until its process has ended; a loaded one is not loaded again; without a session nothing is.
"""

from __future__ import annotations

import json
import os
import plistlib
import sys
from pathlib import Path
from typing import Any

STATE = Path(__file__).with_name("state.json")

PRINT = """{domain}/{label} = {{
	active count = {active}
	path = {path}
	type = LaunchAgent
	state = {state}

	program = {program}
	arguments = {{
		{program}
		serve
	}}

	working directory = {folder}

	inherited environment = {{
		SSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners
		pid = 1
	}}

	domain = {domain} [100005]
	asid = 100005
	minimum runtime = 10
	exit timeout = 20
	runs = {runs}
{pid}	last exit code = {last}

	spawn type = interactive (4)
	properties = keepalive | runatload | inferred program
}}
"""


def fail(status: int, text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.exit(status)


def show(state: dict[str, Any], domain: str, label: str) -> None:
    service = state["services"].get(label)
    if service is None:
        fail(113, f'Bad request.\nCould not find service "{label}" in domain for user gui: {domain[4:]}')
    pid = service.get("pid")
    sys.stdout.write(
        PRINT.format(
            domain=domain, label=label, path=service["path"], program=service["program"],
            folder=service["folder"], state="running" if pid else "spawn scheduled", active=1 if pid else 0,
            runs=service["runs"], pid=f"\tpid = {pid}\n" if pid else "", last=service["last"],
        )
    )  # fmt: skip
    if service.get("leaving") is not None:
        service["leaving"] -= 1
        if service["leaving"] <= 0:
            del state["services"][label]


def bootstrap(state: dict[str, Any], plist: str) -> None:
    agent = plistlib.loads(Path(plist).read_bytes())
    label = agent["Label"]
    if label in state["services"] or label in state["disabled"] or state.get("refuses"):
        fail(
            5,
            "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.",
        )
    if not os.path.isdir(agent["WorkingDirectory"]):  # noqa: PTH112
        state["exits"] = "78: EX_CONFIG"
    exits = state.get("exits")
    state["services"][label] = {
        "path": plist, "program": agent["ProgramArguments"][0], "folder": agent["WorkingDirectory"],
        "runs": 1, "pid": None if exits else 4242, "last": exits or "(never exited)",
    }  # fmt: skip


def main(verb: str, target: str, *rest: str) -> None:
    state = json.loads(STATE.read_text(encoding="utf-8"))
    state["calls"].append([verb, target, *rest])
    domain, _, label = target[4:].partition("/")
    domain = f"gui/{domain}"
    try:
        if not state["session"]:
            fail(125, "Domain does not support specified action")
        match verb:
            case "print" if label:
                show(state, domain, label)
            case "print":
                sys.stdout.write(f"{domain} = {{\n\ttype = login\n}}\n")
            case "enable":
                state["disabled"] = [name for name in state["disabled"] if name != label]
            case "bootstrap":
                bootstrap(state, rest[0])
            case "bootout" if label not in state["services"]:
                fail(3, "Boot-out failed: 3: No such process")
            case "bootout":
                state["services"][label] |= {"leaving": state["lingers"], "pid": None}
            case _:
                fail(64, f"Unrecognized subcommand: {verb}")
    finally:
        STATE.write_text(json.dumps(state), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
