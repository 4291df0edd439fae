"""The stand-in's entry point: run as a script by what ``app.sandbox.image.install`` writes, or with ``-m``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])

if __name__ == "__main__":
    if ROOT not in sys.path:
        sys.path.append(ROOT)  # as a script, started with -I, Python knows only its own library
    from app.sandbox.tart.program import main

    main(sys.argv[1:])
