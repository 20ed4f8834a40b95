"""`/mcp`: Sonia's tools over the Model Context Protocol (streamable HTTP).

A call that needs a person's consent is answered as a stream that stays open until there is an
answer. The client can't give it: whoever can call a tool is not whoever may allow it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from litestar import Response, delete, get, post
from litestar.response import Stream

from sonia.envelope import current
from sonia.gateway import mcp_wire as wire
from sonia.gateway.mcp_calls import Call, Calls
from sonia.gateway.mcp_sessions import Session, Sessions
from sonia.gateway.mcp_streams import Told
from sonia.gateway.mcp_tools import Caller, OfferedTools
from sonia.gateway.mcp_wire import Http, Incoming, Mistake
from sonia.tools import Tools

LIST_TTL_MS = 60_000
CAPABILITIES = {"tools": {"listChanged": True}}
SUBSCRIPTION = wire.META + "subscriptionId"
INSTRUCTIONS = (
    "Sonia acts on her owner's machine. What changes something asks the owner first: such a call "
    "answers when they have, which may take minutes. A refusal is final; don't try other ways."
)


class McpServer:
    """What `/mcp` answers. Its streams end when `stopping` is set."""

    def __init__(self, tools: Tools, stopping: asyncio.Event) -> None:
        self._tools = OfferedTools(tools)
        self._calls = Calls(self._tools, stopping)
        self._sessions = Sessions()
        self._stopping = stopping
        self._listening: dict[Told, wire.Id] = {}
        self._tools.watch(self._changed)

    async def post(self, request: Http) -> Response[bytes] | Stream:
        """One message of a client."""
        message: Incoming | wire.Replied | None = None
        try:
            _check_accept(request.headers.get("accept", ""), "application/json")
            message = wire.read(await request.body())
            if isinstance(message, wire.Replied):
                await self._calls.replied(self._sessions.find(request.headers), message)
                return Response(b"", status_code=202)
            return await self._take(message, request)
        except Mistake as mistake:
            asked = message if isinstance(message, Incoming) else None
            request_id = asked.id if asked and asked.id is not msgspec.UNSET else None
            body = wire.failure(request_id, mistake)
            return _json(body, mistake.http_status(asked is not None and asked.modern))

    def listen(self, request: Http) -> Stream:
        """What a session is told unasked, or the rest of a stream that broke. Raises `Mistake`."""
        if "mcp-session-id" not in request.headers:
            why = "Only a session can listen here. Begin with initialize, or send POST."
            raise Mistake(wire.INVALID_REQUEST, why, status=405)
        _check_accept(request.headers.get("accept", ""))
        session = self._sessions.find(request.headers)
        if event_id := request.headers.get("last-event-id"):
            told, after = session.resumed(event_id)
            return _stream(told.follow(self._stopping, after=after))
        told = session.standing
        return _stream(told.follow(self._stopping, after=told.given, primed=session.primed))

    def close(self, request: Http) -> None:
        """End a session. Raises `Mistake`."""
        self._sessions.close(self._sessions.find(request.headers))

    async def _take(self, message: Incoming, request: Http) -> Response[bytes] | Stream:
        session: Session | None = None
        if message.modern:
            wire.check_headers(message, request.headers)
            caller = _stateless(message)
        elif message.method == "initialize":
            return self._initialize(message)
        else:
            session = self._sessions.find(request.headers)
            caller = Caller(key=session.id, session_id=f"mcp:{session.id}")
        if isinstance(message.id, msgspec.UnsetType):
            # In the newer era a call is cancelled by hanging up, so its notifications mean nothing.
            if session and message.method == "notifications/cancelled":
                session.cancel(message.params.get("requestId"))
            return Response(b"", status_code=202)
        match message.method:
            case "tools/call":
                call = Call(message, message.id, caller, session)
                answer = await self._calls.take(call, request)
                return _json(answer) if isinstance(answer, bytes) else _stream(answer)
            case "subscriptions/listen" if message.modern:
                return _stream(self._subscribed(message, message.id))
        return _json(wire.told(message, message.id, self._answer(message)))

    def _answer(self, message: Incoming) -> dict[str, Any]:
        match message.method:
            case "tools/list":
                if message.params.get("cursor") is not None:
                    raise Mistake(wire.INVALID_PARAMS, "There is one page only.")
                return {"tools": self._tools.listed(), **(_keep() if message.modern else {})}
            case "server/discover" if message.modern:
                return {
                    "supportedVersions": list(wire.VERSIONS),
                    "capabilities": CAPABILITIES,
                    "instructions": INSTRUCTIONS,
                    "_meta": {wire.META + "serverInfo": wire.ours()},
                    **_keep(),
                }
            case "ping" if not message.modern:
                return {}
        raise Mistake(wire.METHOD_NOT_FOUND, f"There is no method {message.method[:100]!r} here.")

    def _initialize(self, message: Incoming) -> Response[bytes]:
        if isinstance(message.id, msgspec.UnsetType):
            raise Mistake(wire.INVALID_REQUEST, "initialize is a request: it needs an id.")
        asked = message.params.get("protocolVersion")
        version = asked if asked in wire.LEGACY else wire.LEGACY[0]
        can_ask = wire.can_ask(message.params.get("capabilities"))
        session = self._sessions.open(version, can_ask=can_ask)
        result: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": CAPABILITIES,
            "serverInfo": wire.ours(),
            "instructions": INSTRUCTIONS,
        }
        return _json(wire.answer(message.id, result), headers={"mcp-session-id": session.id})

    # --- what changes --------------------------------------------------------------------

    async def _subscribed(self, message: Incoming, request_id: wire.Id) -> AsyncIterator[bytes]:
        """The newer era's way to listen: a request that is answered when Sonia stops."""
        wanted = message.params.get("notifications")
        tools = isinstance(wanted, dict) and wanted.get("toolsListChanged") is True
        meta = {SUBSCRIPTION: request_id}
        told = Told()
        honoured = {"notifications": {"toolsListChanged": True} if tools else {}, "_meta": meta}
        told.say(wire.notification("notifications/subscriptions/acknowledged", honoured))
        if tools:
            self._listening[told] = request_id
        try:
            async for event in told.follow(self._stopping):
                yield event
            yield wire.event(wire.told(message, request_id, {"_meta": meta}))
        finally:
            self._listening.pop(told, None)

    def _changed(self) -> None:
        for session in self._sessions:
            session.changed()
        for told, request_id in self._listening.items():
            told.say(wire.notification(wire.TOOLS_CHANGED, {"_meta": {SUBSCRIPTION: request_id}}))


def _keep() -> dict[str, Any]:
    """How long the answer holds, and that it is this client's."""
    return {"ttlMs": LIST_TTL_MS, "cacheScope": "private"}


def _stateless(message: Incoming) -> Caller:
    info = message.meta.get(wire.META + "clientInfo")
    name = str(info.get("name", ""))[:100] if isinstance(info, dict) else ""
    return Caller(key=f"{current().user_id or ''}/{name}")


def _check_accept(accept: str, *also: str) -> None:
    kinds = {kind.partition(";")[0].strip() for kind in accept.lower().split(",")}
    for needed in (*also, "text/event-stream"):
        if not kinds & {needed, f"{needed.partition('/')[0]}/*", "*/*"}:
            why = f"Accept must name {' and '.join((*also, 'text/event-stream'))}."
            raise Mistake(wire.INVALID_REQUEST, why, status=406)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _stream(events: AsyncIterator[bytes]) -> Stream:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers)


def mcp_routes(tools: Tools, stopping: asyncio.Event) -> Sequence[Any]:
    """`/mcp` for `tools`; its streams end when `stopping` is set."""
    server = McpServer(tools, stopping)

    @post("/mcp", status_code=200, operation_id="Mcp", tags=["mcp"])
    async def mcp(request: Http) -> Response[bytes] | Stream:
        return await server.post(request)

    @get("/mcp", include_in_schema=False)
    async def mcp_listen(request: Http) -> Response[bytes] | Stream:
        try:
            return server.listen(request)
        except Mistake as mistake:
            status = mistake.http_status(modern=False)
            allowed = {"allow": "POST, DELETE"} if status == 405 else None
            return _json(wire.failure(None, mistake), status, allowed)

    @delete("/mcp", status_code=200, include_in_schema=False)
    async def mcp_close(request: Http) -> Response[bytes]:
        try:
            server.close(request)
        except Mistake as mistake:
            return _json(wire.failure(None, mistake), mistake.http_status(modern=False))
        return _json(b"{}")

    return mcp, mcp_listen, mcp_close
