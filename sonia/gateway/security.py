"""The front door: everything that is checked before any route of any module is reached.

Pure ASGI, the same for HTTP and WebSocket: the Host header with its port, Origin and
Sec-Fetch-Site, the body's type and size and how long it may take to arrive. It also names the
exchange (correlation id, trace) and turns a service port's own paths into prefixed ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from sonia.dialects import dialect_of, request_id_header
from sonia.envelope import (
    Exchange,
    correlation_id,
    current,
    encode_failure,
    enter,
    shown_path,
    translate,
)
from sonia.errors import Forbidden, Internal, SoniaError
from sonia.gateway.receiving import (
    MEDIA_TYPES,
    ReceiveTimeout,
    check_type,
    one,
    replayed,
    too_large,
    upload,
)
from sonia.intake import Intake
from sonia.log import get_logger, tell
from sonia.types import Value, new_id

Scope = dict[str, Any]
# An ASGI app for one path, reached without the framework's way to it.
Express = Callable[[Scope, Any, Any], Awaitable[None]]
# Whose key came with a request, if one is needed; raises what keeps it out.
Admit = Callable[[Scope, Mapping[str, list[str]]], str | None]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
DISCARD_BYTES = 64 * 1024 * 1024
OPENINGS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_VISIBLE = re.compile(r"^[\x21-\x7e]{1,128}$")
_TRACE = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Doorway(Value):
    """One module's way in. `segments` are the first path segments of its own routes."""

    service: str
    prefix: str
    segments: frozenset[str]


class FrontDoor:
    """An ASGI app around the real one.

    `ports` maps the port a connection came in on to that module's `Doorway`; `doorways` are all
    of them. `express` has the apps of single routes by method and path: of those where the
    framework's own time would be felt. `hosts` and `origins` extend the loopback names; `admit`
    looks at keys.
    """

    def __init__(
        self,
        app: Any,
        *,
        ports: Mapping[int, Doorway],
        doorways: Iterable[Doorway],
        max_body_bytes: int,
        receive_timeout_s: float,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        intakes: Mapping[str, Intake] | None = None,
        admit: Admit | None = None,
        express: Mapping[tuple[str, str], Express] | None = None,
    ) -> None:
        self._app = app
        self._express = dict(express or {})
        self._ports = dict(ports)
        self._prefixes = {door.prefix.strip("/"): door for door in doorways}
        self._max_body_bytes = max_body_bytes
        self._receive_timeout_s = receive_timeout_s
        self._intakes = dict(intakes or {})
        self._admit = admit
        names = [*LOOPBACK_NAMES, *hosts]
        self._hosts = {f"{name}:{port}" for name in names for port in self._ports}
        self._origins = {f"http://{host}" for host in self._hosts} | set(origins)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Let it in, or answer for it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        scope = self._named(scope, headers)
        sent = _Sent(send, scope["path"])
        try:
            await self._answer(scope, headers, receive, sent)
        finally:
            _log(scope, sent.status)

    async def _answer(
        self, scope: Scope, headers: Mapping[str, list[str]], receive: Any, send: _Sent
    ) -> None:
        try:
            self._check(scope, headers)
            if self._admit:
                current().user_id = self._admit(scope, headers)
            if intake := self._intakes.get(scope["path"]):
                receive = upload(intake, headers, receive)
            elif scope["type"] == "http":
                receive = await self._receive_body(scope, headers, receive)
        except SoniaError as error:
            await _refuse(scope, headers, error, send)
            return
        if express := self._express.get((scope.get("method", ""), scope["path"])):
            scope["path_template"] = scope["path"]
            await _served(express, scope, headers, receive, send)
            return
        await self._app(scope, receive, send)

    # --- naming --------------------------------------------------------------------------

    def _named(self, scope: Scope, headers: Mapping[str, list[str]]) -> Scope:
        given = one(headers, "x-correlation-id")
        trace = _TRACE.match(one(headers, "traceparent"))
        path, door = self._resolve(scope)
        service = door.service if door else "api-gateway"
        enter(
            Exchange(
                service=service,
                correlation_id=given if _VISIBLE.match(given) else new_id("req"),
                trace_id=trace[1] if trace else None,
            )
        )
        if path == scope["path"]:
            return scope
        return {**scope, "path": path, "raw_path": path.encode()}

    def _resolve(self, scope: Scope) -> tuple[str, Doorway | None]:
        path: str = scope["path"]
        first, _, rest = path.lstrip("/").partition("/")
        server = scope.get("server") or ("", 0)
        own = self._ports.get(server[1])
        named = self._prefixes.get(first) if first else None
        if own is None or not own.prefix:
            return path, named or own
        if named is own and rest.partition("/")[0] in own.segments - {""}:
            return path, own
        if named is not None and named is not own:
            return path, named
        return own.prefix + path, own

    # --- checking ------------------------------------------------------------------------

    def _check(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            shown = ", ".join(hosts) or "none"
            raise Forbidden(f"Host {shown!r} is not served here. Use localhost with this port.")
        origin = ", ".join(headers.get("origin", []))
        if origin and origin.lower() not in self._origins:
            raise Forbidden(f"Pages of {origin!r} may not talk to Sonia.")
        if one(headers, "sec-fetch-site") in ("cross-site", "same-site") and not origin:
            raise Forbidden("Pages of other sites may not talk to Sonia.")

    async def _receive_body(
        self, scope: Scope, headers: Mapping[str, list[str]], receive: Any
    ) -> Any:
        length = one(headers, "content-length")
        if not length.isdigit() and not headers.get("transfer-encoding"):
            return receive
        try:
            async with asyncio.timeout(self._receive_timeout_s):
                body, gone = await self._read(receive, length, headers)
        except TimeoutError as error:
            raise ReceiveTimeout(
                f"The body did not arrive within {self._receive_timeout_s:g} s."
            ) from error
        if body:
            check_type(headers, MEDIA_TYPES)
        return replayed(body, gone, receive)

    async def _read(
        self, receive: Any, length: str, headers: Mapping[str, list[str]]
    ) -> tuple[bytes, bool]:
        excess = length.isdigit() and int(length) > self._max_body_bytes
        waits = one(headers, "expect").lower() == "100-continue"
        chunks: list[bytes] = []
        size, more = 0, not (excess and waits)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"", True
            chunk = message.get("body", b"")
            size += len(chunk)
            excess = excess or size > self._max_body_bytes
            if excess:
                chunks.clear()
            else:
                chunks.append(chunk)
            more = message.get("more_body", False) and size <= DISCARD_BYTES
        if excess:
            raise too_large(self._max_body_bytes)
        return b"".join(chunks), False


class _Sent:
    """A `send` that puts the correlation id on the answer and keeps its status."""

    def __init__(self, send: Any, path: str) -> None:
        self._send = send
        name = correlation_id().encode()
        self._names = [(b"x-correlation-id", name)]
        if dialect := dialect_of(path):
            self._names.append((request_id_header(dialect), name))
        self.status = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] in OPENINGS:
            self.status = message.get("status", 101)
            headers = [*message.get("headers", ()), *self._names]
            message = {**message, "headers": headers}
        await self._send(message)


def _log(scope: Scope, status: int) -> None:
    exchange = current()
    if scope["path"].endswith("/healthz"):
        return
    tell(
        exchange.service,
        "request",
        method=scope.get("method", "WS"),
        path=shown_path(scope),
        status=status,
        duration_ms=exchange.duration_ms,
    )


async def _served(
    express: Express, scope: Scope, headers: Mapping[str, list[str]], receive: Any, send: _Sent
) -> None:
    """What fails before the answer began becomes one, as it does within the framework."""
    try:
        await express(scope, receive, send)
    except Exception as error:
        if send.status:
            raise
        known = translate(error)
        if isinstance(known, Internal):
            get_logger(current().service).error("unhandled", path=shown_path(scope), exc_info=error)
        await _refuse(scope, headers, known, send, closes=False)


async def _refuse(
    scope: Scope,
    headers: Mapping[str, list[str]],
    error: SoniaError,
    send: Any,
    *,
    closes: bool = True,
) -> None:
    status, fields, body = encode_failure(error, one(headers, "accept"), scope["path"])
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
            return
        prefix = "websocket.http.response"
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    raw += [(b"content-length", str(len(body)).encode())]
    raw += [(b"connection", b"close")] if closes else []
    await send({"type": f"{prefix}.start", "status": status, "headers": raw})
    await send({"type": f"{prefix}.body", "body": body})


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found
