"""One socket's conversation: messages in, the turn's events out, one answer at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sonia.envelope import correlation_id, describe, translate
from sonia.errors import Internal, InvalidRequest, SoniaError
from sonia.log import get_logger
from sonia.turn import (
    MAX_TEXT_CHARS,
    ApprovalNeeded,
    ResponseDelta,
    ToolAnswered,
    ToolCalled,
    TurnDone,
    TurnEvent,
    TurnRequest,
)
from sonia.types import now, rfc3339
from sonia.voice.interface import Frame, Responder, Said, ServerKind, VoiceSession

Send = Callable[[Frame], Awaitable[None]]
CLIENT_KINDS = ("MESSAGE", "INTERRUPT", "PING", "SESSION_STOP")


class Conversation:
    """What is said in one socket. `stopped` is set when it is over."""

    def __init__(self, responder: Responder, session: VoiceSession, send: Send) -> None:
        self._responder = responder
        self._session = session
        self._send = send
        self._answering: asyncio.Task[None] | None = None
        self._spoken: list[str] = []
        self.turns = 0
        self.stopped = asyncio.Event()

    async def greet(self) -> None:
        """Say that the session has begun, and how it is."""
        await self._tell("SESSION_START", {"user_id": self._session.user_id})
        await self._tell("STATUS", {"state": "ACTIVE", "audio": False})

    async def hear(self, raw: str | bytes) -> None:
        """Deal with one message; what is wrong with it is told, never raised."""
        try:
            await self._dispatch(raw)
        except SoniaError as error:
            await self._tell("ERROR", msgspec.to_builtins(describe(error)))

    async def interrupt(self) -> None:
        """Cancel the answer that is being given and tell how much of it was sent."""
        if await self._cancel():
            await self._tell("INTERRUPTED", {"spoken_text": "".join(self._spoken)})

    async def stop(self, reason: str) -> None:
        """Cancel, say goodbye, and let the socket close."""
        if not self.stopped.is_set():
            await self._cancel()
            await self._tell("SESSION_STOP", {"reason": reason})
            self.stopped.set()

    async def leave(self) -> None:
        """The client is gone: cancel without a word."""
        self.stopped.set()
        await self._cancel()

    # --- hearing -------------------------------------------------------------------------

    async def _dispatch(self, raw: str | bytes) -> None:
        said = _read(raw)
        match said.type.upper():
            case "MESSAGE":
                await self._answer(_text(said))
            case "INTERRUPT":
                await self.interrupt()
            case "PING":
                await self._tell("PONG", {})
            case "SESSION_STOP":
                await self.stop("asked for")
            case other:
                raise InvalidRequest(
                    f"Unknown message type {other!r}. Known: {', '.join(CLIENT_KINDS)}.",
                    pointer="/type",
                )

    async def _answer(self, text: str) -> None:
        await self.interrupt()
        self._spoken = []
        self._answering = asyncio.create_task(self._take_turn(text))

    async def _cancel(self) -> bool:
        task, self._answering = self._answering, None
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    # --- answering -----------------------------------------------------------------------

    async def _take_turn(self, text: str) -> None:
        began = time.perf_counter()
        first_ms: float | None = None
        request = TurnRequest(
            text=text,
            session_id=self._session.session_id,
            user_id=self._session.user_id,
            wait_for_approval=True,
        )
        try:
            async with self._responder.turn(request) as events:
                async for event in events:
                    if first_ms is None and isinstance(event, ResponseDelta):
                        first_ms = (time.perf_counter() - began) * 1000
                    await self._show(event)
        except Exception as error:  # noqa: BLE001  a failed answer must not end the session
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("pipecat").error("turn failed", exc_info=error)
            await self._tell("ERROR", msgspec.to_builtins(describe(known)))
            return
        self.turns += 1
        metrics = {"llm_first_token_ms": round(first_ms, 1) if first_ms is not None else None}
        await self._tell("TURN_METRICS", metrics)

    async def _show(self, event: TurnEvent) -> None:
        match event:
            case ResponseDelta():
                await self._tell("RESPONSE_DELTA", {"text": event.text, "turn_id": event.turn_id})
                self._spoken.append(event.text)
            case ApprovalNeeded():
                fields = msgspec.to_builtins(event)
                fields.pop("type")
                await self._tell("APPROVAL_REQUIRED", fields)
            case ToolCalled():
                await self._tell("STATUS", {"state": "USING_TOOL", "tool": event.name})
            case ToolAnswered():
                status = {"state": "TOOL_DONE", "tool": event.name, "status": event.status}
                await self._tell("STATUS", status)
            case TurnDone():
                said = {"role": "assistant", "text": event.data.response}
                await self._tell("MESSAGE", {**said, "turn_id": event.turn_id})
            case _:
                pass

    async def _tell(self, kind: ServerKind, data: dict[str, Any]) -> None:
        await self._send(
            Frame(
                type=kind,
                session_id=self._session.session_id,
                data=data,
                timestamp=rfc3339(now()),
                correlation_id=correlation_id(),
            )
        )


def _read(raw: str | bytes) -> Said:
    if isinstance(raw, bytes):
        raise InvalidRequest("Binary messages are audio, and audio is not served yet. Send JSON.")
    try:
        return msgspec.json.decode(raw, type=Said)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(
            f"Not a message: {error}. Send {{'type': 'MESSAGE', 'data': {{'text': '…'}}}} as JSON."
        ) from error


def _text(said: Said) -> str:
    text = said.data.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("A MESSAGE needs data.text, a string with words in it.")
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidRequest(f"data.text is over {MAX_TEXT_CHARS} characters.")
    return text
