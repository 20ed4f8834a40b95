"""`/mcp`: Sonia's tools over the Model Context Protocol (streamable HTTP).

A call that needs a person's consent is answered as a stream that stays open until there is an
answer. The client can't give it: whoever can call a tool is not whoever may allow it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.response import Stream

from sonia.client import ClientGone
from sonia.envelope import current, translate
from sonia.errors import Internal
from sonia.gateway import mcp_wire as wire
from sonia.gateway.mcp_tools import Caller, OfferedTools
from sonia.gateway.mcp_wire import Incoming, Mistake
from sonia.log import get_logger
from sonia.tools import Outcome, Tools
from sonia.types import new_id

HEARTBEAT_S = 15.0
MOST_SESSIONS = 256
IDLE_S = 24 * 3600.0
LIST_TTL_MS = 60_000
INSTRUCTIONS = (
    "Sonia acts on her owner's machine. What changes something asks the owner first: such a call "
    "answers when they have, which may take minutes. A refusal is final; don't try other ways."
)

Http = Request[Any, Any, Any]


class _Session(msgspec.Struct):
    """A client of the older era. Only who opened it may use it."""

    version: str
    user_id: str | None
    used_s: float


class McpServer:
    """What `/mcp` answers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = OfferedTools(tools)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._calls: dict[tuple[str, wire.Id], asyncio.Task[Any]] = {}

    async def post(self, request: Http) -> Response[bytes] | Stream:
        """One message of a client."""
        message: Incoming | None = None
        try:
            _check_accept(request.headers.get("accept", ""))
            message = wire.read(await request.body())
            return await self._take(message, request)
        except Mistake as mistake:
            modern = message is not None and message.modern
            request_id = message.id if message and message.id is not msgspec.UNSET else None
            body = wire.failure(request_id, mistake)
            return _json(body, mistake.http_status(modern))

    def close(self, request: Http) -> None:
        """End a session. Raises `Mistake`."""
        session_id, _ = self._session(request)
        del self._sessions[session_id]
        for (owner, _), call in list(self._calls.items()):
            if owner == session_id:
                call.cancel()

    async def _take(self, message: Incoming, request: Http) -> Response[bytes] | Stream:
        if message.modern:
            wire.check_headers(message, request.headers)
            caller = _stateless(message)
        elif message.method == "initialize":
            return self._initialize(message)
        else:
            session_id, session = self._session(request)
            named = request.headers.get("mcp-protocol-version", session.version)
            wire.check_version(named)
            caller = Caller(key=session_id, session_id=f"mcp:{session_id}")
        if message.id is msgspec.UNSET:
            self._notified(message, caller)
            return Response(b"", status_code=202)
        assert not isinstance(message.id, msgspec.UnsetType)  # noqa: S101  told just before
        if message.method == "tools/call":
            return await self._call(message, message.id, caller, request)
        return _json(_told(message, message.id, self._answer(message)))

    def _answer(self, message: Incoming) -> dict[str, Any]:
        match message.method:
            case "tools/list":
                if message.params.get("cursor") is not None:
                    raise Mistake(wire.INVALID_PARAMS, "There is one page only.")
                return {"tools": self._tools.listed(), **(_keep() if message.modern else {})}
            case "server/discover" if message.modern:
                return {
                    "supportedVersions": list(wire.VERSIONS),
                    "capabilities": {"tools": {}},
                    "instructions": INSTRUCTIONS,
                    "_meta": {wire.META + "serverInfo": wire.ours()},
                    **_keep(),
                }
            case "ping" if not message.modern:
                return {}
        raise Mistake(wire.METHOD_NOT_FOUND, f"There is no method {message.method[:100]!r} here.")

    # --- sessions of the older era -------------------------------------------------------

    def _initialize(self, message: Incoming) -> Response[bytes]:
        if message.id is msgspec.UNSET:
            raise Mistake(wire.INVALID_REQUEST, "initialize is a request: it needs an id.")
        asked = message.params.get("protocolVersion")
        version = asked if asked in wire.LEGACY else wire.LEGACY[0]
        session_id = new_id("mcps")
        self._sessions[session_id] = _Session(version, current().user_id, time.monotonic())
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        result: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": wire.ours(),
            "instructions": INSTRUCTIONS,
        }
        assert not isinstance(message.id, msgspec.UnsetType)  # noqa: S101  told just before
        return _json(wire.answer(message.id, result), headers={"mcp-session-id": session_id})

    def _session(self, request: Http) -> tuple[str, _Session]:
        session_id = request.headers.get("mcp-session-id", "")
        if not session_id:
            why = "Begin with initialize, or say io.modelcontextprotocol/protocolVersion in _meta."
            raise Mistake(wire.INVALID_REQUEST, why)
        session = self._sessions.get(session_id)
        stale = session is not None and time.monotonic() - session.used_s > IDLE_S
        if session is None or stale or session.user_id != current().user_id:
            raise Mistake(wire.INVALID_REQUEST, "No such session. Begin anew.", status=404)
        session.used_s = time.monotonic()
        self._sessions.move_to_end(session_id)
        return session_id, session

    def _notified(self, message: Incoming, caller: Caller) -> None:
        """In the newer era a call is cancelled by hanging up, so its notifications mean nothing."""
        if message.method == "notifications/cancelled" and caller.session_id:
            call = self._calls.get((caller.key, message.params.get("requestId", "")))
            if call:
                call.cancel()

    # --- calls ---------------------------------------------------------------------------

    async def _call(
        self, message: Incoming, request_id: wire.Id, caller: Caller, request: Http
    ) -> Response[bytes] | Stream:
        asks: asyncio.Queue[Outcome] = asyncio.Queue()
        work = asyncio.create_task(self._tools.call(caller, message.params, asks.put_nowait))
        key = (caller.key, request_id)
        self._calls[key] = work
        work.add_done_callback(lambda _: self._forget(key, work))
        asking = asyncio.ensure_future(asks.get())
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({work, asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not work.cancelled():
                return _json(_told(message, request_id, work.result()))
            if asking.done():
                asked = asking.result()
                return _stream(_waiting(message, request_id, work, asked))
            work.cancel()
            raise ClientGone("The call was cancelled.")
        except BaseException:
            work.cancel()
            raise
        finally:
            asking.cancel()
            leaving.cancel()
            await asyncio.gather(asking, leaving, return_exceptions=True)

    def _forget(self, key: tuple[str, wire.Id], work: asyncio.Task[Any]) -> None:
        if self._calls.get(key) is work:
            del self._calls[key]
        if not work.cancelled():
            work.exception()  # whoever waited has it


async def _waiting(
    message: Incoming, request_id: wire.Id, work: asyncio.Task[dict[str, Any]], asked: Outcome
) -> AsyncIterator[bytes]:
    """Say that a person was asked, keep the line open, and end with the result."""
    said = (
        f"Waiting for consent to {asked.tool}. The owner answers with: "
        f"sonia approvals approve {asked.approval_id}"
    )
    token = message.meta.get("progressToken")
    step = 0
    try:
        while not work.done():
            step += 1
            yield (
                b": waiting\n\n" if token is None else wire.event(wire.progress(token, step, said))
            )
            await asyncio.wait({work}, timeout=HEARTBEAT_S)
        if not work.cancelled():
            yield wire.event(_outcome(message, request_id, work))
    finally:
        work.cancel()
        await asyncio.wait({work})


def _outcome(message: Incoming, request_id: wire.Id, work: asyncio.Task[dict[str, Any]]) -> bytes:
    try:
        return _told(message, request_id, work.result())
    except Mistake as mistake:
        return wire.failure(request_id, mistake)
    except Exception as error:  # noqa: BLE001  every failure is the stream's last message
        known = translate(error)
        if isinstance(known, Internal):
            get_logger("api-gateway").error("call failed", exc_info=error)
        return wire.failure(request_id, Mistake(wire.INTERNAL_ERROR, known.message))


def _told(message: Incoming, request_id: wire.Id, result: dict[str, Any]) -> bytes:
    return wire.answer(request_id, _complete(result) if message.modern else result)


def _complete(result: dict[str, Any]) -> dict[str, Any]:
    return {"resultType": "complete", **result}


def _keep() -> dict[str, Any]:
    """How long the answer holds, and that it is this client's."""
    return {"ttlMs": LIST_TTL_MS, "cacheScope": "private"}


def _stateless(message: Incoming) -> Caller:
    info = message.meta.get(wire.META + "clientInfo")
    name = str(info.get("name", ""))[:100] if isinstance(info, dict) else ""
    return Caller(key=f"{current().user_id or ''}/{name}")


async def _left(request: Http) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_accept(accept: str) -> None:
    kinds = {kind.partition(";")[0].strip() for kind in accept.lower().split(",")}
    json = kinds & {"application/json", "application/*", "*/*"}
    events = kinds & {"text/event-stream", "text/*", "*/*"}
    if not (json and events):
        why = "Accept must name application/json and text/event-stream."
        raise Mistake(wire.INVALID_REQUEST, why, status=406)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _stream(events: AsyncIterator[bytes]) -> Stream:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers)


def mcp_routes(tools: Tools) -> Sequence[Any]:
    """`/mcp` for `tools`."""
    server = McpServer(tools)

    @post("/mcp", status_code=200, operation_id="Mcp", tags=["mcp"])
    async def mcp(request: Http) -> Response[bytes] | Stream:
        return await server.post(request)

    @get("/mcp", include_in_schema=False)
    async def mcp_listen(request: Http) -> Response[bytes]:
        mistake = Mistake(wire.INVALID_REQUEST, "Nothing is told here unasked. Send POST.")
        body = wire.failure(None, mistake)
        return Response(
            body, status_code=405, media_type="application/json", headers={"allow": "POST, DELETE"}
        )

    @delete("/mcp", status_code=200, include_in_schema=False)
    async def mcp_close(request: Http) -> Response[bytes]:
        try:
            server.close(request)
        except Mistake as mistake:
            return _json(wire.failure(None, mistake), mistake.http_status(modern=False))
        return _json(b"{}")

    return mcp, mcp_listen, mcp_close
