"""GitHub's actions runner, in miniature, for the sandbox's guests: the files that its image holds.

``run.sh`` and ``bin/Runner.Listener`` look and end as the real ones do (docs/contracts/github.md §6); behind
them are :mod:`app.sandbox.runner_listener` and :mod:`app.sandbox.runner_worker`, copied into the guest, where they
run by themselves.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from functools import cache
from pathlib import Path

VERSION = "2.336.0"
PARTS = {"bin/listener.py": "runner_listener.py", "bin/worker.py": "runner_worker.py"}

RUN_SH = """#!/bin/bash
# Starts the listener, and again where its exit code asks for that. Exits 0 in every case but one, as the real one.
cd "$(dirname "$0")" || exit 1
child=
if [ -n "$RUNNER_MANUALLY_TRAP_SIG" ]; then
  trap '[ -z "$child" ] || kill -TERM "$child"' TERM
  trap '[ -z "$child" ] || kill -INT "$child"' INT
fi
while :; do
  ./bin/Runner.Listener run "$@" &
  child=$!
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the listener
    wait "$child"
    code=$?
  done
  case $code in
  0) echo "Runner listener exit with 0 return code, stop the service, no retry needed." ;;
  1) echo "Runner listener exit with terminated error, stop the service, no retry needed." ;;
  2)
    echo "Runner listener exit with retryable error, re-launch runner in 5 seconds."
    sleep 5
    continue
    ;;
  3 | 4)
    echo "Runner listener exit because of updating, re-launch runner after successful update"
    continue
    ;;
  5) echo "Runner listener exit with Session Conflict error, stop the service, no retry needed." ;;
  7)
    echo "Runner listener exit with deprecated version exit code: 7."
    [ "$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE" != 1 ] || exit 7
    ;;
  *) echo "Exiting with unknown error code: $code" ;;
  esac
  echo "Exiting runner..."
  exit 0
done
"""
LISTENER_SH = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
case $1 in
--version) echo @VERSION@ ;;
warmup) ;;
*) exec @PYTHON@ -S "$here/listener.py" "$here/Runner.Listener" @VERSION@ "$@" ;;
esac
"""


def runner_files(python: str = sys.executable, *, version: str = VERSION) -> dict[str, tuple[str, int]]:
    """Return the runner's files: path below the runner directory → (text, mode)."""
    quoted = "'" + python.replace("'", "'\\''") + "'"
    listener = LISTENER_SH.replace("@PYTHON@", quoted).replace("@VERSION@", version)
    here = Path(__file__).parent
    return {
        "run.sh": (RUN_SH, 0o755),
        "bin/Runner.Listener": (listener, 0o755),
        **{path: ((here / name).read_text(encoding="utf-8"), 0o644) for path, name in PARTS.items()},
    }


@cache
def runner_archive(version: str) -> bytes:
    """Return the runner as GitHub offers it for download, the same bytes each time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path, (text, mode) in sorted(runner_files(version=version).items()):
            entry = tarfile.TarInfo(f"./{path}")
            entry.size, entry.mode = len(text.encode()), mode
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)
