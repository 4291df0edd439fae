"""The worker of the stub runner: it runs one job in the sandbox's guests, as ``Runner.Worker``.

The job comes on standard input; what the job says goes to a file that the listener reports, also when the worker
was killed. The job-started hook is a child of the worker itself, as with the real one, so that a guard may
end the worker; a hook that merely fails still lets a step with ``if: always()`` run.

This file is copied into the guest and runs there by itself: see :mod:`app.sandbox.runner_listener`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

Json = dict[str, Any]  # JSON from the sandbox; its keys are the types

STARTED, COMPLETED = "ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"
CODES = {"success": 100, "failure": 102, "cancelled": 103}


class Cancelled(BaseException):
    """The job is to stop."""


class Worker:
    """One job: its set-up, the hooks, its steps. Its log is a file that the listener reports."""

    def __init__(self, message: Json) -> None:
        self._job: Json = message["job"]
        self._settings: Json = message["settings"]
        self._version = str(message["version"])
        self._log = open("_diag/job.log", "ab", buffering=0)  # noqa: PTH123, SIM115  # lives as long as we do
        self._child: subprocess.Popen[bytes] | None = None
        self._root = os.getcwd()  # noqa: PTH109
        name = self._job["environment"]["GITHUB_REPOSITORY"].partition("/")[2]
        self._workspace = f"{self._root}/{self._settings['WorkFolder']}/{name}/{name}"
        self._temp = f"{self._root}/{self._settings['WorkFolder']}/_temp"
        signal.signal(signal.SIGTERM, self._cancel)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the listener decides

    def run(self) -> int:
        """Run the job and return the exit code that says how it ended."""
        try:
            conclusion = self._steps()
        except Cancelled:
            self._kill()
            self.log("##[error]The operation was canceled.")
            conclusion = "cancelled"
        self._hook(COMPLETED, self._environment())
        self.log(f"Job is over: {conclusion}")
        return CODES.get(conclusion, CODES["failure"])

    def _steps(self) -> str:
        os.makedirs(self._workspace, exist_ok=True)  # noqa: PTH103
        os.makedirs(self._temp, exist_ok=True)  # noqa: PTH103
        self._set_up()
        environment = self._environment()
        ready = self._hook(STARTED, environment)
        passed = ready and self._script("script", environment)
        passed = self._script("always", environment) and passed
        if passed:
            time.sleep(self._job["seconds"])
        return str(self._job["outcome"]) if passed else "failure"

    def _set_up(self) -> None:
        self.log(f"Current runner version: '{self._version}'")
        self.log(f"Runner name: '{self._settings['AgentName']}'")
        try:
            with open(".setup_info", encoding="utf-8") as file:  # noqa: PTH123
                groups = json.load(file)
        except (OSError, ValueError):
            groups = []
        for group in groups:
            self.log(f"##[group]{group['group']}\n{group['detail']}\n##[endgroup]")

    def _environment(self) -> dict[str, str]:
        path = f"{self._temp}/_github_workflow/event.json"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(self._job["event"], file)
        own: Mapping[str, str] = self._job["environment"]
        return {
            **os.environ,
            **own,
            "CI": "true",
            "GITHUB_EVENT_PATH": path,
            "GITHUB_WORKSPACE": self._workspace,
            "RUNNER_ARCH": "ARM64",
            "RUNNER_ENVIRONMENT": "self-hosted",
            "RUNNER_NAME": self._settings["AgentName"],
            "RUNNER_OS": "macOS",
            "RUNNER_TEMP": self._temp,
            "RUNNER_WORKSPACE": os.path.dirname(self._workspace),  # noqa: PTH120
        }

    def _hook(self, name: str, environment: dict[str, str]) -> bool:
        path = os.environ.get(name)
        if not path:
            return True
        self.log(f"A job {'started' if name == STARTED else 'completed'} hook has been configured: {path}")
        return self._spawn(["bash", "-e", path], environment)

    def _script(self, key: str, environment: dict[str, str]) -> bool:
        text = self._job[key]
        if text is None:
            return True
        path = f"{self._temp}/{key}.sh"
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        return self._spawn(["bash", "-e", path], environment)

    def _spawn(self, command: list[str], environment: dict[str, str]) -> bool:
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self._workspace,
            env=environment,
            process_group=0,
        )
        code = self._child.wait()
        self._child = None
        if code:
            self.log(f"##[error]Process completed with exit code {code}.")
        return code == 0

    def log(self, text: str) -> None:
        """Write to the job's log."""
        self._log.write(f"{text}\n".encode())

    def _kill(self) -> None:
        if self._child is not None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _cancel(self, number: int, frame: object) -> NoReturn:
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Cancelled


def main(argv: list[str]) -> int:
    """Run the job on standard input; *argv* holds our file and ``…/bin/Runner.Worker``."""
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(argv[1]))))  # noqa: PTH100, PTH120
    return Worker(json.load(sys.stdin)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
