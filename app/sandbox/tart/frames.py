"""What goes over ``control.sock`` between ``tart exec`` and the guest's agent: one byte of kind, a length, the content.

The agent says HELLO when it is up; the client then sends its REQUEST, and both pass the streams on.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

REQUEST, STDIN, STDIN_END, CANCEL = b"Q", b"i", b"z", b"c"
HELLO, STDOUT, STDERR, EXIT, FAILED = b"H", b"o", b"e", b"x", b"f"
CHUNK = 4096  # bytes of a stream in one frame, as with tart

_HEAD = struct.Struct("!cI")


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return _HEAD.pack(kind, len(content)) + content


def request(command: list[str], *, stdin: bool, merged: bool) -> bytes:
    """Return the frame that asks for a command."""
    # JSON escapes what was not UTF-8 in an argument, so any byte arrives.
    return frame(REQUEST, json.dumps([command, stdin, merged]).encode())


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take bytes in, and yield each frame that is whole."""
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._rest)
            end = _HEAD.size + length
            if len(self._rest) < end:
                return
            content = bytes(self._rest[_HEAD.size : end])
            del self._rest[:end]
            yield kind, content
