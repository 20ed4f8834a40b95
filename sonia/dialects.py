"""The error shapes of foreign protocols: routes that speak one answer every failure in it.

Which one a path speaks is known before any route is reached, so that what the front door refuses
has the right shape, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from sonia.errors import RateLimited, SoniaError

Dialect = Literal["openai", "anthropic", "mcp"]

# Theirs whether or not there is such a route here: an SDK that calls one reads the answer.
_OPENAI = frozenset(
    {"models", "responses", "embeddings", "audio", "completions", "files", "uploads", "images"}
    | {"moderations", "batches", "assistants", "threads", "vector_stores", "fine_tuning", "evals"}
    | {"containers", "conversations", "videos"}
)
_OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_OVERLOADED = 529  # Anthropic's own status for what HTTP calls 503
_REQUEST_ID = {"openai": b"x-request-id", "anthropic": b"request-id", "mcp": b"x-request-id"}
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603  # JSON-RPC 2.0, section 5.1


def dialect_of(path: str) -> Dialect | None:
    """The foreign protocol of a path; None where the envelope is ours."""
    if path == "/mcp":
        return "mcp"
    if not path.startswith("/v1/"):
        return None
    first, _, rest = path[4:].partition("/")
    if first == "messages":
        return "anthropic"
    if first in _OPENAI or (first == "chat" and rest.startswith("completions")):
        return "openai"
    return None


def request_id_header(dialect: Dialect) -> bytes:
    """Where the protocol's clients look for the id of a request."""
    return _REQUEST_ID[dialect]


def encode_error(error: SoniaError, dialect: Dialect, request_id: str) -> tuple[int, bytes]:
    """Status and JSON body."""
    if dialect == "anthropic":
        status = _OVERLOADED if error.status == 503 else error.status
        return status, msgspec.json.encode(anthropic_error(error, request_id))
    if dialect == "mcp":
        return error.status, msgspec.json.encode(mcp_error(error))
    return error.status, msgspec.json.encode({"error": openai_error(error)})


def mcp_error(error: SoniaError) -> dict[str, Any]:
    """JSON-RPC's answer to a request that was not read, so it has no id."""
    code = _INTERNAL_ERROR if error.status >= 500 else _INVALID_REQUEST
    told = {"code": code, "message": error.message, "data": {"code": error.code}}
    return {"jsonrpc": "2.0", "id": None, "error": told}


def openai_error(error: SoniaError) -> dict[str, Any]:
    """What stands under `error`: all four keys, whatever happened."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    code = error.reason or _openai_code(error)
    kind = code if code == "insufficient_quota" else _OPENAI_TYPES.get(error.status, kind)
    return {"message": error.message, "type": kind, "param": _parameter(error), "code": code}


def anthropic_error(error: SoniaError, request_id: str) -> dict[str, Any]:
    """The whole body, which is also the data of a stream's `error` event."""
    fallback = "api_error" if error.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(error.status, fallback)
    told = error.message if (where := _parameter(error)) is None else f"{where}: {error.message}"
    return {
        "type": "error",
        "error": {"type": kind, "message": told},
        "request_id": request_id,
    }


def _openai_code(error: SoniaError) -> str | None:
    match error.status:
        case 401:
            return "invalid_api_key"
        case 429:
            return "rate_limit_exceeded" if isinstance(error, RateLimited) else error.code
        case 400:
            return None
        case _:
            return error.code


def _parameter(error: SoniaError) -> str | None:
    found = error.details.get("param") or error.details.get("field")
    if found is None and (pointer := error.details.get("pointer")):
        found = str(pointer).strip("/").replace("/", ".")
    return str(found) if found else None
