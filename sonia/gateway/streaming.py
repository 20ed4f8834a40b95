"""Handing a turn to a client that may go away: as one answer, or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from sonia.envelope import correlation_id, describe, translate
from sonia.errors import Internal
from sonia.log import get_logger
from sonia.turn import Reply, TurnDone, TurnEvent, TurnRequest, Turns

HEARTBEAT_S = 15.0


async def whole(turns: Turns, request: TurnRequest) -> Reply:
    """Take a turn and return its reply."""
    async with turns.turn(request) as events:
        async for event in events:
            if isinstance(event, TurnDone):
                return event.data
    raise Internal("The turn ended without a reply.")


async def server_sent(
    turn: AbstractAsyncContextManager[AsyncIterator[TurnEvent]],
) -> AsyncIterator[bytes]:
    """Encode a turn as server-sent events; a failure is its last event, named `error`.

    A comment line goes out when nothing else did for 15 s, so that proxies keep the line open.
    """
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)
    feeding = asyncio.create_task(_feed(turn, waiting))
    try:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    chunk = await waiting.get()
            except TimeoutError:
                if feeding.done():  # cancelled from within the turn: nothing more will come
                    break
                chunk = b": still here\n\n"
            if chunk is None:
                break
            yield chunk
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(
    turn: AbstractAsyncContextManager[AsyncIterator[TurnEvent]],
    waiting: asyncio.Queue[bytes | None],
) -> None:
    turn_id = ""
    try:
        async with turn as events:
            async for event in events:
                turn_id = event.turn_id
                await waiting.put(encode(msgspec.to_builtins(event)))
    except Exception as error:  # noqa: BLE001  every failure becomes the stream's last event
        known = translate(error)
        if isinstance(known, Internal):
            get_logger("api-gateway").error("turn failed", exc_info=error)
        failure = {"type": "error", "turn_id": turn_id, "error": describe(known)}
        await waiting.put(encode(failure))
    await waiting.put(None)


def encode(event: dict[str, Any]) -> bytes:
    """One server-sent event: its `type` is the event's name, the rest its JSON data."""
    data = {key: value for key, value in event.items() if key != "type"}
    data["correlation_id"] = correlation_id()
    body = msgspec.json.encode(data, enc_hook=str)
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), body)
