"""One log format for everything, ours and the libraries', with secrets taken out wherever they turn up.

Text of strangers (names, what a guest or a command said) cannot begin a line, nor steer a terminal.
"""

from __future__ import annotations

import logging
import re
import sys
import textwrap
from collections.abc import Iterable, MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

# Tokens; base64 of JSON, as JWTs and JIT configs are ("eyJ" begins `{"a`, "eyI" begins `{".`); any very long run of
# base64; private keys.
PATTERNS = re.compile(
    r"ghs_[A-Za-z0-9._-]{20,}"
    r"|gh[opur]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}"
    r"|ey[IJ][A-Za-z0-9_=+/-]{10,}(?:\.[A-Za-z0-9_=-]+){0,2}"
    r"|[A-Za-z0-9=]{200,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
# What moves a terminal's cursor, or the order in which text is read. JSON escapes all of it by itself.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
HIDDEN = "[redacted]"
FILE_BYTES = 20_000_000  # some 80,000 lines; then the next file begins
OLD_FILES = 5  # kept beside it: server.log.1 is the youngest
FORMATTER_KEYS = frozenset({"_record", "_from_structlog"})  # structlog's own, dropped before rendering
QUIET = ("alembic", "httpx", "httpcore", "apscheduler", "asyncio", "hishel", "uvicorn.access", "websockets")


class Redactor:
    """A structlog processor that takes known secrets, and what looks like one, out of every value."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True)

    def __call__(
        self, _logger: object, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Redact one event."""
        for key, value in event.items():
            if key not in FORMATTER_KEYS:
                event[key] = self.redact(value)
        return event

    def redact(self, value: Any) -> Any:
        """Return *value* without secrets: containers are searched, and objects become their text first."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self._redact_text(str(key)): self.redact(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.redact(item) for item in value]
        return self._redact_text(str(value))

    def _redact_text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return PATTERNS.sub(HIDDEN, text)


def legible(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what is no text; the lines of a traceback stay lines, and are indented."""
    for key, value in event.items():
        if isinstance(value, str) and key in {"exception", "stack"}:
            event[key] = textwrap.indent("\n".join(map(_escaped, value.split("\n"))), "    ")
        elif isinstance(value, str):
            event[key] = _escaped(value)
    return event


def _escaped(text: str) -> str:
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _handler(path: Path | None) -> logging.Handler:
    if path is None:
        return logging.StreamHandler(sys.stderr)
    # Opened at the first line: by then we are known to be the only one that writes there.
    return RotatingFileHandler(
        path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8", errors="replace", delay=True
    )


def configure(level: str, form: str, secrets: Iterable[str], path: Path | None = None) -> None:
    """Send all logs to standard error, or to the file *path*, which never grows without end.

    They are readable on a terminal, JSON lines otherwise, or as *form* says.
    """
    terminal = path is None and sys.stderr.isatty()
    console = form == "console" or (form == "auto" and terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        Redactor(secrets),
    ]
    renderers: list[Any] = (
        [
            legible,
            structlog.dev.ConsoleRenderer(
                colors=terminal,
                # Tracebacks are text by now; the default would print the values of locals, secrets among them.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
        if console
        else [structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _handler(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("app.api.connection").setLevel(logging.ERROR)  # anybody can make it warn, at any rate
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
