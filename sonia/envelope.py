"""The shape of every answer, and the one place where errors become responses.

A handler returns `answer(data)` and is annotated `-> Envelope[Data]`. What it raises is
turned into the same shape here: `SoniaError` by its class, Litestar's own errors by their
status, anything else as `internal` with the cause in the log.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap

from sonia.dialects import dialect_of, encode_error
from sonia.errors import (
    Conflict,
    Forbidden,
    Internal,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    SoniaError,
    Unauthorized,
    Unavailable,
)
from sonia.log import get_logger
from sonia.types import Value, new_id

T = TypeVar("T")

PROBLEM_JSON = "application/problem+json"


_OUR_ID = re.compile("[a-z]{2,8}_[0-9a-f]{32}")
FIRST = frozenset({"v1", "router", "memory", "voice", "tools", "control"})


class Failure(Value):
    """What went wrong. `code` is one of the contract's; `retryable` as it stands now."""

    code: str
    message: str
    details: dict[str, Any]
    retryable: bool


class Envelope(Value, Generic[T]):
    """Every JSON answer of our own routes. Exactly one of `data` and `error` is null."""

    ok: bool
    service: str
    operation: str
    correlation_id: str
    duration_ms: float
    data: T | None = None
    error: Failure | None = None


class Exchange(msgspec.Struct, kw_only=True):
    """One request while it is being answered. `user_id` is whose key came with it, if any."""

    service: str = "sonia"
    operation: str = "request"
    correlation_id: str = msgspec.field(default_factory=lambda: new_id("req"))
    trace_id: str | None = None
    user_id: str | None = None
    started_s: float = msgspec.field(default_factory=time.perf_counter)

    @property
    def duration_ms(self) -> float:
        """Since the request came in."""
        return round((time.perf_counter() - self.started_s) * 1000, 2)


_exchange: ContextVar[Exchange | None] = ContextVar("sonia_exchange", default=None)


def current() -> Exchange:
    """The exchange this code runs for; a fresh one outside any request."""
    exchange = _exchange.get()
    if exchange is None:
        exchange = Exchange()
        _exchange.set(exchange)
    return exchange


def enter(exchange: Exchange) -> None:
    """Make `exchange` current for this task and what it starts, log lines included."""
    _exchange.set(exchange)
    structlog.contextvars.bind_contextvars(correlation_id=exchange.correlation_id)
    if exchange.trace_id:
        structlog.contextvars.bind_contextvars(trace_id=exchange.trace_id)


def correlation_id() -> str:
    """The id that ties answers, events, log lines and ledger rows of one request together."""
    return current().correlation_id


def answer(data: T) -> Envelope[T]:
    """Wrap a success."""
    exchange = current()
    return Envelope(
        ok=True,
        service=exchange.service,
        operation=exchange.operation,
        correlation_id=exchange.correlation_id,
        duration_ms=exchange.duration_ms,
        data=data,
    )


def failed(error: SoniaError) -> Envelope[None]:
    """Wrap a failure."""
    exchange = current()
    return Envelope(
        ok=False,
        service=exchange.service,
        operation=exchange.operation,
        correlation_id=exchange.correlation_id,
        duration_ms=exchange.duration_ms,
        error=describe(error),
    )


def describe(error: SoniaError) -> Failure:
    """The public part of an error."""
    return Failure(
        code=error.code, message=error.message, details=error.details, retryable=error.retryable
    )


def encode_failure(
    error: SoniaError, accept: str = "", path: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body: in the dialect that `path` speaks, if it is a foreign one,
    else as problem details (RFC 9457) where asked for.
    """
    headers = {"content-type": "application/json"}
    if isinstance(error, RateLimited):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, _MethodNotAllowed):
        headers["allow"] = ", ".join(error.details["allowed"])  # RFC 9110, section 15.5.6
    if dialect := dialect_of(path):
        status, encoded = encode_error(error, dialect, current().correlation_id)
        return status, headers, encoded
    body: Any = failed(error)
    if PROBLEM_JSON in accept:
        headers["content-type"] = PROBLEM_JSON
        body = _problem(error)
    return error.status, headers, msgspec.json.encode(body, enc_hook=str)


def _problem(error: SoniaError) -> dict[str, Any]:
    exchange = current()
    problem: dict[str, Any] = {
        "type": f"urn:sonia:problem:{error.code.replace('_', '-')}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.message,
        "instance": f"urn:sonia:request:{exchange.correlation_id}",
        "code": error.code,
        "correlation_id": exchange.correlation_id,
        "service": exchange.service,
    }
    if isinstance(error, RateLimited):
        problem["retry_after"] = error.retry_after_s
    if pointer := error.details.get("pointer"):
        problem["errors"] = [{"pointer": pointer, "detail": error.message}]
    return problem


# --- foreign errors ----------------------------------------------------------------------

_BY_STATUS: Mapping[int, type[SoniaError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    429: RateLimited,
    503: Unavailable,
}


def translate(error: Exception, path: str = "", method: str = "") -> SoniaError:
    """Give any exception its place in our tree."""
    match error:
        case SoniaError():
            return error
        case MethodNotAllowedException():
            return _not_allowed(error, path, method)
        case NotFoundException():
            return NotFound(
                f"No route {method} {path}. GET /openapi.json on the gateway lists them.", path=path
            )
        case ValidationException():
            return _invalid(error)
        case HTTPException() if error.status_code < 500 or error.status_code in _BY_STATUS:
            kind = _BY_STATUS.get(error.status_code, InvalidRequest)
            return kind(error.detail)
        case UnicodeDecodeError():
            return InvalidRequest("The body is not valid UTF-8. Send JSON encoded as UTF-8.")
        case RecursionError():
            return InvalidRequest("The body is nested too deeply. Flatten it.")
        case _:
            return Internal("Something went wrong here. The log has the details under this id.")


class _MethodNotAllowed(InvalidRequest):
    status = 405


def _not_allowed(error: MethodNotAllowedException, path: str, method: str) -> SoniaError:
    allowed = sorted(filter(None, (error.headers or {}).get("allow", "").split(", ")))
    words = " or ".join(name for name in allowed if name != "OPTIONS") or "another method"
    return _MethodNotAllowed(f"{method} is not possible on {path}. Use {words}.", allowed=allowed)


def _invalid(error: ValidationException) -> InvalidRequest:
    extra = error.extra if isinstance(error.extra, list) else []
    problems = [item for item in extra if isinstance(item, dict)]
    if problems:
        text = "; ".join(
            f"{item['key']}: {item.get('message')}" if item.get("key") else str(item.get("message"))
            for item in problems
        )
        first = str(problems[0].get("key") or "")
    else:
        cause = error.__cause__ or error.__context__
        text, first = str(cause or error.detail), ""
    pointer = "/" + first.replace(".", "/") if first else ""
    details: dict[str, Any] = {"pointer": pointer} if pointer else {}
    if len(problems) > 1:
        details["errors"] = problems
    return InvalidRequest(text, **details)


def shown_path(scope: Mapping[str, Any]) -> str:
    """A request's path as a log may hold it: the route's, with ids of ours put in.

    What a caller names in a path (a session, a person, a word) is nobody's business there.
    """
    template: str = scope.get("path_template") or ""
    if not template:
        first = str(scope["path"]).split("/")[1:2]
        return f"/{first[0]}/…" if first and first[0] in FIRST else "/…"
    for name, value in scope.get("path_params", {}).items():
        if isinstance(value, str) and _OUR_ID.fullmatch(value):
            template = template.replace(f"{{{name}}}", value)
    return template


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for every route."""
    known = translate(error, request.url.path, request.method)
    if isinstance(known, Internal):
        get_logger(current().service).error(
            "unhandled", path=shown_path(request.scope), exc_info=error
        )
    accept = request.headers.get("accept", "")
    status, headers, body = encode_failure(known, accept, request.scope["path"])
    media_type = headers.pop("content-type")
    return Response(body, status_code=status, headers=headers, media_type=media_type)


def exception_handlers() -> ExceptionHandlersMap:
    """What the app is given; everything goes through `respond`."""
    return {HTTPException: respond, Exception: respond}
