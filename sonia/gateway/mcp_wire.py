"""What goes over the wire in the Model Context Protocol, in both of its eras.

Until 2025-11-25 a client begins with `initialize` and has a session from then on; since
2026-07-28 every request carries what it needs to be understood. Streamable HTTP, one endpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request

from sonia.version import VERSION

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
VERSIONS = (MODERN, *LEGACY)
UNNAMED = "2025-03-26"  # what a client speaks that has a session and names no version

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR = -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
_STATUS = {METHOD_NOT_FOUND: 404, INTERNAL_ERROR: 200}

META = "io.modelcontextprotocol/"
CAPABILITIES = META + "clientCapabilities"
TOOLS_CHANGED = "notifications/tools/list_changed"
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_NAMED = {"tools/call": "name"}  # the methods whose header Mcp-Name repeats a parameter

Id = int | str
Headers = Mapping[str, str]
Http = Request[Any, Any, Any]


class Mistake(Exception):
    """A request that is answered with a JSON-RPC error. Not a tool's failure, which is a result."""

    def __init__(self, code: int, message: str, data: Any = None, *, status: int | None = None):
        super().__init__(message)
        self.code, self.message, self.data = code, message, data
        self._status = status

    def http_status(self, modern: bool) -> int:
        """Only the newer era tells by the status, but for what is no request at all."""
        if self._status is not None:
            return self._status
        refused = self.code in (PARSE_ERROR, INVALID_REQUEST)
        return _STATUS.get(self.code, 400) if modern or refused else 200


class Incoming(msgspec.Struct, frozen=True):
    """A request, or a notification when it has no id."""

    jsonrpc: str
    method: str
    params: dict[str, Any] = {}
    id: Id | msgspec.UnsetType = msgspec.UNSET

    @property
    def meta(self) -> dict[str, Any]:
        """What the client says beside the parameters."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def modern(self) -> bool:
        """Whether it is of the era without sessions."""
        return META + "protocolVersion" in self.meta


class Replied(msgspec.Struct, frozen=True):
    """A client's answer to a request of ours."""

    jsonrpc: str
    id: Id
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def read(body: bytes) -> Incoming | Replied:
    """Raises `Mistake` for what is not one message of JSON-RPC 2.0."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Mistake(PARSE_ERROR, "The body is not JSON.") from error
    if isinstance(decoded, dict) and "id" in decoded and isinstance(decoded["id"], bool):
        decoded["id"] = None
    answers = isinstance(decoded, dict) and "method" not in decoded
    kind: type[Incoming | Replied] = Replied if answers else Incoming
    try:
        message = msgspec.convert(decoded, kind)
    except msgspec.ValidationError as error:
        why = "The body must be one JSON-RPC request, notification or response."
        raise Mistake(INVALID_REQUEST, why) from error
    if message.jsonrpc != "2.0":
        raise Mistake(INVALID_REQUEST, "jsonrpc must be '2.0'.")
    return message


def check_version(version: Any) -> str:
    """The version, if it is spoken here. Raises `Mistake`."""
    if version not in VERSIONS:
        data = {"supported": list(VERSIONS), "requested": str(version)[:100]}
        said = f"Version {str(version)[:100]!r} is not spoken here."
        raise Mistake(UNSUPPORTED_VERSION, said, data, status=400)
    return str(version)


def check_headers(message: Incoming, headers: Headers) -> None:
    """In the newer era headers repeat the body, for those who route. Raises `Mistake`."""
    check_version(message.meta[META + "protocolVersion"])
    named = {
        "mcp-protocol-version": message.meta[META + "protocolVersion"],
        "mcp-method": message.method,
    }
    if parameter := _NAMED.get(message.method):
        named["mcp-name"] = message.params.get(parameter)
    for header, said in named.items():
        if plain(headers.get(header, "")) != said:
            raise Mistake(HEADER_MISMATCH, f"The header {header} must say what the body says.")


def plain(value: str) -> str | None:
    """A header's value as it was meant; None for one that is broken."""
    found = _SENTINEL.fullmatch(value)
    if found is None:
        return value
    try:
        decoded = base64.b64decode(found[1], validate=True)
        return decoded.decode() if base64.b64encode(decoded).decode() == found[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def answer(request_id: Id | None, result: dict[str, Any]) -> bytes:
    """A response."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result})


def told(message: Incoming, request_id: Id, result: dict[str, Any]) -> bytes:
    """A response, as the era of the request has it."""
    return answer(request_id, {"resultType": "complete", **result} if message.modern else result)


def failure(request_id: Id | None, mistake: Mistake) -> bytes:
    """An error; without an id it answers what could not be read."""
    told: dict[str, Any] = {"code": mistake.code, "message": mistake.message}
    if mistake.data is not None:
        told["data"] = mistake.data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": told})


def request(request_id: Id, method: str, params: dict[str, Any]) -> bytes:
    """What is asked of the client."""
    asked = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return msgspec.json.encode(asked)


def notification(method: str, params: dict[str, Any]) -> bytes:
    """What the client is told."""
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params})


def event(message: bytes, event_id: str | None = None) -> bytes:
    """One message as a server-sent event."""
    numbered = f"id: {event_id}\n".encode() if event_id else b""
    return numbered + b"event: message\ndata: " + message + b"\n\n"


def asking(message: str) -> dict[str, Any]:
    """The parameters of an elicitation that has nothing to fill in."""
    return {
        "mode": "form",
        "message": message,
        "requestedSchema": {"type": "object", "properties": {}},
    }


def can_ask(capabilities: Any) -> bool:
    """Whether the client shows its person what is asked of them."""
    elicitation = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(elicitation, dict) and (not elicitation or "form" in elicitation)


def ours() -> dict[str, Any]:
    """Who answers."""
    return {"name": "sonia", "title": "Sonia", "version": VERSION}
