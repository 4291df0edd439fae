"""The simulated outside in a place of its own: a GitHub on loopback, a tart with an image, and a directory for all."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.clock import utcnow
from app.sandbox.github import ModelGitHub
from app.sandbox.http import serve
from app.sandbox.image import install, make_image
from app.sandbox.runner import runner_files

IMAGE = "macos-sequoia-ci"


@asynccontextmanager
async def outside(seed: int, *, base_path: str = "") -> AsyncIterator[tuple[ModelGitHub, str, Path]]:
    """Make the simulated outside in a place of its own, and take it away again.

    With *base_path* ``/api/v3`` it is a GitHub Enterprise Server.
    """
    place = Path(tempfile.mkdtemp(prefix="cidermill-demo-"))
    model = ModelGitHub(utcnow, random.Random(seed), hook_url=None)  # noqa: S311  # a simulation's chance
    for name in ("acme/app", "acme/lib", "stranger/tool"):
        model.accounts.add_repository(name, visibility="public")
    model.accounts.install("acme")
    model.accounts.install("stranger")
    try:
        (place / "bin").mkdir()
        install(place / "bin")
        softnet = place / "bin" / "softnet"  # looked for on PATH, and never run by the simulated tart
        softnet.write_text("#!/bin/sh\n", encoding="ascii")
        softnet.chmod(0o755)
        make_image(place / "tart", IMAGE, runner_files())
        async with serve(model, base_path=base_path) as url:
            yield model, url, place
    finally:
        shutil.rmtree(place, ignore_errors=True)
