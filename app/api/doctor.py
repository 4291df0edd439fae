"""The doctor inside the server: an SSH shell sees another keychain, session and PATH than the VMs get."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request

from app.api.context import AdminOnly, Ctx
from app.api.models import Out, Refusal
from app.doctor.examine import worst
from app.doctor.finding import Finding, Level
from app.doctor.inside import Doctor

router = APIRouter(
    prefix="/api/v1",
    tags=["admin"],
    dependencies=[AdminOnly],
    responses={401: {"model": Refusal, "description": "No valid admin token"}},
)


class FindingOut(Out):
    """What one check found."""

    area: Literal["mac", "host", "github", "server", "boot"]
    check: str
    level: Level
    what: str
    why: str
    mend: str  # empty where there is nothing to mend
    code: str  # which of the check's troubles (docs/doctor.md) it is


class DoctorOut(Out):
    """Everything that was found."""

    version: str
    worst: Level
    findings: list[FindingOut]


async def _doctor_of(request: Request) -> Doctor:
    found: Doctor = request.app.state.doctor
    return found


Inside = Annotated[Doctor, Depends(_doctor_of)]


def _shown(version: str, findings: list[Finding]) -> DoctorOut:
    return DoctorOut(
        version=version,
        worst=worst(findings),
        findings=[FindingOut.model_validate(finding) for finding in findings],
    )


@router.get("/doctor")
async def doctor(context: Ctx, inside: Inside) -> DoctorOut:
    """Check this machine, GitHub and our own files; takes some seconds. GitHub is asked to send a delivery again."""
    return _shown(context.version, await inside.examine())


@router.post("/doctor/boot")
async def boot(context: Ctx, inside: Inside) -> DoctorOut:
    """Boot a VM of each image in a free slot, and say what its guest holds; takes as long as the boots."""
    return _shown(context.version, await inside.boot())
