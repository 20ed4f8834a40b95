"""Structured logs: one JSON line per event, one file per service, secrets taken out first.

Lines go through a queue to one writer thread, so the event loop never waits for a disk.
"""

from __future__ import annotations

import datetime as dt
import logging
import logging.handlers
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import structlog

SERVICES = ("api-gateway", "model-router", "memory-engine", "pipecat", "openclaw", "eva-os")
TALKATIVE = (
    "apscheduler",
    "httpx",
    "httpcore",
    "filelock",
    "asyncio",
    "uvicorn",
)  # a line a request, or more
MAX_FILE_BYTES = 20 * 1024 * 1024
KEPT_FILES = 3

# Shapes of credentials: provider keys, bearer headers, JSON Web Tokens, key blocks.
_SHAPES = re.compile(
    r"(sk-[A-Za-z0-9_\-]{8,}|(?i:Bearer)\s+[A-Za-z0-9._~+/=\-]{8,}|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_.\-]+"
    r"|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abpr]-[A-Za-z0-9\-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
    re.DOTALL,
)
_NAMES = re.compile(r"(api_?key|token|secret|password|authorization)$", re.IGNORECASE)

BATCH_S = 0.02  # the writer waits for company: a thread that wakes for every line costs requests
_READY = "sonia_line"  # where a record carries a line that needs no more processing

_known: set[str] = set()
_waiting: _Waiting | None = None


def hide(secret: str) -> None:
    """Never let this value reach a log line again. Values under 8 characters are ignored."""
    if len(secret) >= 8:
        _known.add(secret)


@lru_cache(maxsize=1)
def _longest_first(known: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(known, key=len, reverse=True))


def redact(text: str) -> str:
    """Return `text` with known secrets and things shaped like one replaced by `***`."""
    for secret in _longest_first(frozenset(_known)):  # one may begin with another
        text = text.replace(secret, "***")
    return _SHAPES.sub("***", text)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _NAMES.search(name) is not None


def _clean(value: Any, name: str = "") -> Any:
    if isinstance(value, str):
        return "***" if value and _is_secret(name) else redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): _clean(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, name) for item in value]
    if isinstance(value, int | float | bool) or value is None:
        return value
    return redact(str(value))


def _redacted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = _clean(value, key)
    return event


def tell(service: str, event: str, **facts: Any) -> None:
    """The line of `get_logger(service).info(event, …)` by a shorter way, for one every request."""
    if _waiting is None:
        get_logger(service).info(event, **facts)
        return
    if not logging.getLogger().isEnabledFor(logging.INFO):
        return
    line = {key: _clean(value, key) for key, value in facts.items()}
    line |= structlog.contextvars.get_contextvars()
    line |= {"service": service, "event": event, "level": "info", "timestamp": _stamp()}
    record = logging.LogRecord(service, logging.INFO, "", 0, "", None, None)
    record.__dict__[_READY] = line
    _waiting.put(record)


def _stamp() -> str:
    return dt.datetime.now(dt.UTC).isoformat().removesuffix("+00:00") + "Z"


def get_logger(service: str) -> Any:
    """A logger whose lines go to `<service>.log`; events are short facts, the rest is fields."""
    return structlog.get_logger(service).bind(service=service)


@contextmanager
def open_logs(folder: Path, *, level: str, style: str) -> Iterator[Path]:
    """Write logs below `folder/services` until left; what is queued is written before leaving."""
    services = folder / "services"
    services.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamps: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ends: list[Any] = [structlog.processors.format_exc_info, _redacted]
    chain = [*stamps, structlog.contextvars.merge_contextvars, *ends]
    structlog.configure(
        processors=[*chain, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    render: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = _Formatter(
        render,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        foreign_pre_chain=[*stamps, _context_of_record, *ends],
    )
    files = [_file(services / f"{name}.log", name, formatter) for name in SERVICES]
    files.append(_file(services / "sonia.log", "", formatter))
    waiting = _Waiting(files)
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    quieted = {name: logging.getLogger(name).level for name in TALKATIVE}
    enqueue = _Enqueue(waiting)  # type: ignore[arg-type]  # it only needs `put_nowait`
    root.handlers[:] = [enqueue]
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    global _waiting
    outer, _waiting = _waiting, waiting
    waiting.start()
    try:
        yield services
    finally:
        _waiting = outer
        waiting.stop()
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        for name, was in quieted.items():
            logging.getLogger(name).setLevel(was)
        for file in files:
            file.close()
        structlog.reset_defaults()


class _Waiting:
    """Lines on their way to the files. One thread writes, several at a time."""

    def __init__(self, files: Sequence[_File]) -> None:
        self._files = files
        self._records: deque[logging.LogRecord] = deque()
        self._news = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def put(self, record: logging.LogRecord) -> None:
        """From any thread."""
        self._records.append(record)
        if not self._news.is_set():
            self._news.set()

    def put_nowait(self, record: logging.LogRecord) -> None:
        """What `QueueHandler` calls."""
        self.put(record)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Return when everything is written."""
        self._over.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self._news.wait()
            self._over.wait(BATCH_S)
            self._news.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        while self._records:
            record = self._records.popleft()
            for file in self._files:
                file.handle(record)
        for file in self._files:
            file.write_out()


class _File(logging.handlers.RotatingFileHandler):
    """Keeps lines until `write_out`."""

    def flush(self) -> None:
        """Called for every line."""

    def write_out(self) -> None:
        """Once for many."""
        super().flush()


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, render: Any, **options: Any) -> None:
        super().__init__(**options)
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        if line := record.__dict__.get(_READY):
            return str(self._render(None, "info", dict(line)))
        return super().format(record)


def _json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()


class _Enqueue(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if not isinstance(record.msg, dict):  # not ours: the writer thread has no context of it
            record.msg, record.args = record.getMessage(), ()
            record.__dict__["context"] = structlog.contextvars.get_contextvars()
        return record  # the formatter needs the event dict whole


def _context_of_record(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {**event["_record"].__dict__["context"], **event}


def _file(path: Path, service: str, formatter: logging.Formatter) -> _File:
    handler = _File(path, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
    handler.setFormatter(formatter)
    handler.addFilter(
        lambda record: record.name == service if service else record.name not in SERVICES
    )
    return handler
