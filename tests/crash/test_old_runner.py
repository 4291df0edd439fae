"""An image whose runner GitHub takes no longer, on the real process: one VM shows it, and the mend is named."""

from __future__ import annotations

import pytest

from app.sandbox.outside import IMAGE
from tests.crash.site import Site, a_site


@pytest.mark.crash
async def test_one_vm_shows_it() -> None:
    """Nothing more is launched from the image until somebody mended it; then the job runs."""
    async with a_site(7) as site:
        expected = site.model.runners.expected
        oldest, expected.oldest = expected.oldest, "9.0.0"
        await site.start()
        job = site.queue()
        await site.until(lambda: held(site))
        assert site.rows("SELECT scope, reason FROM cooldown") == [(f"image:{IMAGE}", "runner_too_old")]
        assert site.rows("SELECT reason FROM runner") == [("runner_too_old",)]
        answer = await site.ask("GET", f"/api/v1/jobs/{job.id}")
        assert answer is not None
        assert "build the image anew" in answer.json()["explanation"]
        expected.oldest = oldest
        await site.ask("POST", "/api/v1/reconcile")
        await site.until(site.is_drained)
        assert (job.conclusion, await site.problems()) == ("success", [])


def held(site: Site) -> bool:
    return bool(site.rows("SELECT 1 FROM cooldown")) and not site.vms()
