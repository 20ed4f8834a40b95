"""What a client is told, in the contract's words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sonia.envelope import correlation_id, describe, translate
from sonia.errors import Internal
from sonia.log import get_logger
from sonia.turn import (
    ApprovalNeeded,
    ResponseDelta,
    ToolAnswered,
    ToolCalled,
    TurnDone,
    TurnEvent,
)
from sonia.types import now, rfc3339
from sonia.voice.interface import Frame, ServerKind

Send = Callable[[Frame | bytes], Awaitable[None]]


class Teller:
    """Tells one client of one session. `binary` is whether it wants sound as it is."""

    def __init__(self, session_id: str, send: Send) -> None:
        self._session_id = session_id
        self._send = send
        self.binary = False
        self.gone = False  # the client is: nothing is told any more

    async def tell(self, kind: ServerKind, **data: Any) -> None:
        """Send one message."""
        if self.gone:
            return
        await self._send(
            Frame(
                type=kind,
                session_id=self._session_id,
                data=data,
                timestamp=rfc3339(now()),
                correlation_id=correlation_id(),
            )
        )

    async def sound(self, pcm: bytes, **data: Any) -> None:
        """Send sound: `pcm` itself, or as AUDIO with `data` beside it."""
        if self.gone:
            return
        if self.binary:
            await self._send(pcm)
        else:
            await self.tell("AUDIO", audio=pcm, **data)

    async def failed(self, error: Exception) -> None:
        """Say what went wrong; what was our fault goes into the log."""
        known = translate(error)
        if isinstance(known, Internal):
            get_logger("pipecat").error("turn failed", exc_info=error)
        await self.tell("ERROR", **msgspec.to_builtins(describe(known)))

    async def show(self, event: TurnEvent) -> None:
        """Tell of a turn's event what a client wants to know of it."""
        match event:
            case ResponseDelta():
                await self.tell("RESPONSE_DELTA", text=event.text, turn_id=event.turn_id)
            case ApprovalNeeded():
                fields = msgspec.to_builtins(event)
                fields.pop("type")
                await self.tell("APPROVAL_REQUIRED", **fields)
            case ToolCalled():
                await self.tell("STATUS", state="USING_TOOL", tool=event.name)
            case ToolAnswered():
                await self.tell("STATUS", state="TOOL_DONE", tool=event.name, status=event.status)
            case TurnDone():
                text = event.data.response
                await self.tell("MESSAGE", role="assistant", text=text, turn_id=event.turn_id)
            case _:
                pass
