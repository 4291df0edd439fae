"""``pull`` and ``fqn``: images come from a directory that plays the registry, into the cache of ``TART_HOME``.

The registry is ``registry`` beside ``TART_HOME`` (or as the settings say), laid out by host, namespace and tag.
A pull works in ``tmp``, as the real one, so a killed one leaves its part there for the next collection
(docs/contracts/tart.md §1.13, §7.5).
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from app.sandbox.tart import faults
from app.sandbox.tart.copying import copy_image, workspace
from app.sandbox.tart.home import Home
from app.sandbox.tart.locking import flocked, try_flock
from app.sandbox.tart.names import Remote, remote
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Failure, Refusal

PULL = Spec("pull", ("remote-name",), flags=("--insecure",), values=("--concurrency",))
FQN = Spec("fqn", ("name",))
STEPS = 5
OFFLINE = 'Error Domain=NSURLErrorDomain Code=-1005 "The network connection was lost."'
UNKNOWN = (
    'UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: '
    r'"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}")'
)
UNAUTHORIZED = (
    'AuthFailed(why: "received unexpected HTTP status code 401 while retrieving an authentication token", '
    r'details: "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}")'
)


def pull(home: Home, arguments: list[str]) -> None:
    """Pull an image, or say that a local one needs no pull."""
    options = parse(PULL, arguments)
    name = options.names[0]
    image = remote(name)
    if image is None:
        if (home.local / name).is_dir():
            print(f'"{name}" is a local image, nothing to pull here!')
            return
        raise Refusal(f"failed to parse remote name: {name}")
    print(f"pulling {name}...")
    fetch(home, image)


def fetch(home: Home, image: Remote) -> Path:
    """Bring an image into the cache unless it is there, and return its directory."""
    lock = image.registry_lock(home.cache)
    lock.mkdir(parents=True, exist_ok=True)
    free = try_flock(lock)
    if free is None:
        print("waiting for lock...")
    else:
        os.close(free)
    with flocked(lock):
        return _fetch(home, image)


def _fetch(home: Home, image: Remote) -> Path:
    print("pulling manifest...")
    source = _in_registry(home, image)
    digest = f"sha256:{hashlib.sha256((source / 'manifest.json').read_bytes()).hexdigest()}"
    place = image.at(digest).path(home.cache)
    link = image.path(home.cache)
    if place.is_dir():
        linked = image.is_digest or link.resolve() == place
        print(
            "image is already cached and linked!"
            if linked
            else "image is already cached! creating a symlink..."
        )
    else:
        _download(home, image, source, place)
    if image.is_digest:
        (place / ".explicitly-pulled").touch()
    else:
        link.unlink(missing_ok=True)
        link.symlink_to(place)
    return place


def _in_registry(home: Home, image: Remote) -> Path:
    name = str(image)
    if faults.take(home.root, "pull_unauthorized", name):
        raise Failure(UNAUTHORIZED)
    if faults.take(home.root, "pull_fails", name):
        raise Failure(OFFLINE)
    tags = image.path(registry_of(home)).parent
    for tag in tags.iterdir() if tags.is_dir() else ():
        manifest = tag / "manifest.json"
        if tag.name == image.reference or (
            image.is_digest
            and image.reference == f"sha256:{hashlib.sha256(manifest.read_bytes()).hexdigest()}"
        ):
            return tag
    raise Failure(UNKNOWN)


def _download(home: Home, image: Remote, source: Path, place: Path) -> None:
    name = hashlib.md5(str(image).encode(), usedforsecurity=False).hexdigest()
    with workspace(home.temporary, name) as part:
        print("pulling disk (16.0 GB compressed)...")
        slow = faults.take(home.root, "pull_slow", str(image))
        for step in range(STEPS):
            _progress(step * 100 // (STEPS - 1), first=step == 0)
            time.sleep(slow.seconds / STEPS if slow else 0)
        copy_image(source, part)
        print("pulling NVRAM...")
        place.parent.mkdir(parents=True, exist_ok=True)
        part.rename(place)


def _progress(percent: int, *, first: bool) -> None:
    plain = first or "CI" in os.environ
    print(f"{percent}%" if plain else f"\x1b[1A\x1b[2K{percent}%")


def registry_of(home: Home) -> Path:
    """Return the directory that plays the registry."""
    return Path(home.settings.registry or home.root.parent / "registry")


def fqn(home: Home, arguments: list[str]) -> None:
    """Print the name with the digest that a tag points to."""
    name = parse(FQN, arguments).names[0]
    image = remote(name)
    if image is None:
        print(name)
        return
    place = image.path(home.cache)
    if not place.is_dir():
        raise Refusal(f"OCI storage error: {image} is not a digest and doesn't point to a digest")
    print(image.at(place.resolve().name))
