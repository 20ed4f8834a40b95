"""`WS /v1/stream/{session_id}`: what is said and what happens in one session.

The client says something and is told of the turn as it goes; and of everything else that
concerns the session, whoever caused it: approvals asked and answered, reminders, work that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketException
from litestar.handlers import WebsocketRouteHandler
from litestar.params import FromPath

from sonia.control import Control, Operator
from sonia.envelope import correlation_id, describe, translate
from sonia.errors import Conflict, Internal, InvalidRequest, SoniaError
from sonia.events import ApprovalChanged, Bus, ReminderDue, TaskFinished
from sonia.gateway.bodies import convert
from sonia.log import get_logger
from sonia.memory import Memory, their_session
from sonia.turn import Text, TurnRequest, Turns
from sonia.types import ApprovalId, Value, now, rfc3339

POLICY = 1008
TRY_LATER = 1013
MOST_WAITING = 256  # frames for a client that does not read
TOLD: dict[type[Value], str] = {
    ApprovalChanged: "approval.changed",
    ReminderDue: "reminder.due",
    TaskFinished: "task.finished",
}


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """`MESSAGE`: something for Sonia to answer."""

    text: Text
    profile: str = "chat_low_latency"
    model: str | None = None


class Settled(msgspec.Struct, forbid_unknown_fields=True):
    """`APPROVE` and `DENY`: a person's answer."""

    approval_id: str
    reason: str = ""
    confirmation_code: str | None = None


class StillAnswering(Conflict):
    """One turn at a time is taken on a socket."""

    reason = "already_answering"


class SessionStream:
    """One socket. `hear` its messages one after another; enter `listening` first."""

    def __init__(
        self,
        session_id: str,
        *,
        user_id: str,
        turns: Turns,
        control: Control,
        operator: Operator,
        authorization: str | None,
    ) -> None:
        self._session_id = session_id
        self._user_id = user_id
        self._turns = turns
        self._control = control
        self._operator = operator
        self._authorization = authorization
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._turn: asyncio.Task[None] | None = None
        self.too_slow = asyncio.Event()

    async def next(self) -> bytes:
        """The next frame to send."""
        return await self._waiting.get()

    async def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Put a frame in line; waits while the client has too much to read."""
        await self._waiting.put(self._frame(kind, data))

    @contextmanager
    def listening(self, bus: Bus) -> Iterator[None]:
        """Enter to be told what happens in the session."""

        async def hear(event: Value) -> None:
            if getattr(event, "session_id", None) != self._session_id:
                return
            data = {key: value for key, value in _plain(event).items() if key != "session_id"}
            try:
                self._waiting.put_nowait(self._frame(TOLD[type(event)], data))
            except asyncio.QueueFull:
                self.too_slow.set()

        with ExitStack() as stack:
            for kind in TOLD:
                stack.callback(bus.subscribe(kind, hear))
            yield

    async def hear(self, raw: str | bytes) -> None:
        """Deal with one message; what is wrong with it is told, never raised."""
        try:
            kind, data = _read(raw)
            await self._deal(kind, data)
        except SoniaError as error:
            await self.wrong(error)

    async def wrong(self, error: SoniaError, turn_id: str = "") -> None:
        """Say what was wrong."""
        told = msgspec.to_builtins(describe(error))
        await self.tell("error", {"turn_id": turn_id, "error": told})

    async def close(self) -> None:
        """The client is gone: what it asked for is left."""
        if self._turn is not None:
            self._turn.cancel()
            await asyncio.gather(self._turn, return_exceptions=True)

    # --- messages ------------------------------------------------------------------------

    async def _deal(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "MESSAGE":
                if self._turn is not None and not self._turn.done():
                    raise StillAnswering(
                        "An answer is being given. Wait for response.done, or send CANCEL first."
                    )
                said = convert(data, Said, "data")
                self._turn = asyncio.create_task(self._answer(said), name="session turn")
            case "CANCEL":
                await self.close()
                await self.tell("cancelled", {})
            case "APPROVE" | "DENY":
                await self._settle(convert(data, Settled, "data"), approve=kind == "APPROVE")
            case "PING":
                await self.tell("pong", {})
            case _:
                raise InvalidRequest(
                    f"Unknown type {kind[:64]!r}. There are MESSAGE, CANCEL, APPROVE, DENY, PING.",
                    field="type",
                )

    async def _settle(self, given: Settled, *, approve: bool) -> None:
        """As over HTTP, it takes the operator's token, on the connection."""
        self._operator.check(self._authorization)
        await self._control.settle(
            ApprovalId(given.approval_id),
            approve=approve,
            by="stream",
            reason=given.reason,
            code=given.confirmation_code,
        )

    async def _answer(self, said: Said) -> None:
        request = TurnRequest(
            text=said.text,
            session_id=self._session_id,
            user_id=self._user_id,
            profile=said.profile,
            model=said.model,
            wait_for_approval=True,
        )
        turn_id = ""
        try:
            async with self._turns.turn(request) as events:
                async for event in events:
                    turn_id = event.turn_id
                    data = _plain(event)
                    await self.tell(data.pop("type"), data)
        except Exception as error:  # noqa: BLE001  every failure reaches the client
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("api-gateway").error("turn failed", exc_info=error)
            await self.wrong(known, turn_id)

    def _frame(self, kind: str, data: dict[str, Any]) -> bytes:
        return self._encoder.encode(
            {
                "type": kind,
                "session_id": self._session_id,
                "data": data,
                "timestamp": rfc3339(now()),
                "correlation_id": correlation_id(),
            }
        )


def _plain(event: Value) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(event)
    return told


def _read(raw: str | bytes) -> tuple[str, dict[str, Any]]:
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"Not a message: {error}. Send one JSON object.") from error
    kind = message.get("type") if isinstance(message, dict) else None
    data = message.get("data") or {} if isinstance(message, dict) else None
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise InvalidRequest(
            'A message is a JSON object: {"type": "MESSAGE", "data": {"text": "Hello"}}.',
            field="type",
        )
    return kind.upper(), data


def stream_routes(
    turns: Turns, memory: Memory, control: Control, operator: Operator, bus: Bus
) -> list[WebsocketRouteHandler]:
    """To be mounted below `/v1`."""

    @websocket("/stream/{session_id:str}")
    async def stream(socket: WebSocket[Any, Any, Any], session_id: FromPath[str]) -> None:
        await socket.accept()
        try:
            session = await their_session(memory, session_id)
        except SoniaError as error:
            await socket.close(code=POLICY, reason=error.message[:120])
            return
        talk = SessionStream(
            session_id,
            user_id=session.user_id,
            turns=turns,
            control=control,
            operator=operator,
            authorization=socket.headers.get("authorization"),
        )
        with talk.listening(bus):
            await talk.tell("session.start", {"user_id": session.user_id})
            await _serve(socket, talk)

    return [stream]


async def _serve(socket: WebSocket[Any, Any, Any], talk: SessionStream) -> None:
    """Until the client is gone, or reads too slowly for what happens."""
    ends = [
        asyncio.create_task(_hear(socket, talk)),
        asyncio.create_task(_send(socket, talk)),
        asyncio.create_task(talk.too_slow.wait()),
    ]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await talk.close()
    if talk.too_slow.is_set():
        with suppress(WebSocketException, OSError, RuntimeError):
            await socket.close(code=TRY_LATER, reason="You read too slowly. Connect again.")


async def _hear(socket: WebSocket[Any, Any, Any], talk: SessionStream) -> None:
    while True:
        message: Any = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        await talk.hear(text if text is not None else message.get("bytes") or b"")


async def _send(socket: WebSocket[Any, Any, Any], talk: SessionStream) -> None:
    while True:
        await socket.send_text((await talk.next()).decode())
