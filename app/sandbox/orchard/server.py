"""The model controller on a socket, with its workers: what tests and the demo stand in front of.

Over TLS its certificate is as Orchard makes it: self-signed, and made out to ``orchard-controller`` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.clock import utcnow
from app.sandbox.image import install
from app.sandbox.orchard.controller import OrchardModel
from app.sandbox.orchard.http import OrchardFace
from app.sandbox.orchard.values import TART_VMS, WorkerRecord
from app.sandbox.orchard.worker import ModelWorker
from app.sandbox.serving import loopback, serving

SERVER_NAME = "orchard-controller"
ACCOUNT, TOKEN = "cidermill", "orchard-sandbox-token"  # of the sandbox


@dataclass(slots=True)
class Shelf:
    """A controller and its Macs."""

    model: OrchardModel
    place: Path
    url: str = ""
    certificate: Path | None = None
    workers: dict[str, ModelWorker] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """What a CiderMill is to be told to work with it."""
        told = {
            "CIDERMILL_BACKEND": "orchard",
            "CIDERMILL_ORCHARD_URL": self.url,
            "CIDERMILL_ORCHARD_ACCOUNT": ACCOUNT,
            "CIDERMILL_ORCHARD_TOKEN": TOKEN,
        }
        if self.certificate is not None:
            told["CIDERMILL_ORCHARD_CA_PATH"] = str(self.certificate)
            told["CIDERMILL_ORCHARD_SERVER_NAME"] = SERVER_NAME
        return told

    def add(self, name: str, *, vms: int = 2, labels: dict[str, str] | None = None) -> ModelWorker:
        """Put a Mac up. What it may clone is in its ``home``."""
        record = WorkerRecord(name=name, resources={TART_VMS: vms}, labels=labels or {})
        worker = ModelWorker(
            self.model, record, tart=self.place / "bin" / "tart", home=self.place / "workers" / name
        )
        worker.home.mkdir(parents=True, exist_ok=True)
        self.model.workers[name], self.workers[name] = record, worker
        record.created_at = record.last_seen = self.model.clock()
        self._tasks[name] = asyncio.create_task(worker.run())
        return worker

    async def settled(self) -> None:
        """Wait until no Mac has a VM left that the controller has forgotten."""
        while any(worker.is_tidying for worker in self.workers.values()):  # noqa: ASYNC110  # other tasks: it is seen
            await asyncio.sleep(self.model.pace)

    async def close(self) -> None:
        """Take every Mac down, with what runs on it."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@asynccontextmanager
async def shelf(
    place: Path,
    clock: Callable[[], datetime],
    *,
    macs: tuple[str, ...] = ("mini1", "mini2"),
    tls: bool = False,
) -> AsyncIterator[Shelf]:
    """Run a controller with Macs in the directory *place*."""
    install(place / "bin")
    model = OrchardModel(clock)
    model.account(ACCOUNT, TOKEN, "compute:read", "compute:write")
    made = Shelf(model, place)
    scheduler = asyncio.create_task(model.schedule())
    try:
        for name in macs:
            made.add(name)
        async with listening(made, tls=tls):
            yield made
    finally:
        await made.close()
        scheduler.cancel()
        await asyncio.gather(scheduler, return_exceptions=True)


@asynccontextmanager
async def listening(made: Shelf, *, tls: bool = False, port: int = 0) -> AsyncIterator[None]:
    """Have the controller answer; leave this to take it away, and begin again on the same *port*."""
    listener = loopback(port)
    scheme = "https" if tls else "http"
    made.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    made.certificate = make_certificate(made.place) if tls else None
    async with serving(
        OrchardFace(made.model, made.workers).app(),
        listener,
        date_header=False,  # the model tells its own time
        ws="websockets-sansio",
        ssl_certfile=made.certificate,
        ssl_keyfile=made.place / "controller.key" if tls else None,
    ):
        yield


def make_certificate(place: Path) -> Path:
    """Make ``controller.crt`` and ``controller.key`` as the controller does at its first start."""
    certificate = place / "controller.crt"
    if certificate.exists():
        return certificate
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Orchard Controller")])
    now = utcnow()
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (place / "controller.key").write_bytes(private)
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    return certificate
