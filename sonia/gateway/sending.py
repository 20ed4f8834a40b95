"""Answers on their way out: one body, or a stream whose ready pieces go out together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from sonia.client import UntilGone
from sonia.envelope import translate
from sonia.errors import Internal, SoniaError
from sonia.log import get_logger

HEARTBEAT_S = 15.0
MOST_WAITING_BYTES = 256 * 1024
_STILL_HERE = b": still here\n\n"

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


async def send_whole(send: Any, body: bytes, headers: Iterable[Header] = ()) -> None:
    """A JSON answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_events(
    receive: Any,
    send: Any,
    chunks: AsyncGenerator[bytes, None],
    headers: list[Header],
    failed: Callable[[SoniaError], bytes],
) -> None:
    """Stream server-sent events, each of `chunks` being whole ones.

    What fails before the first chunk is raised; what fails later becomes the last event, made by
    `failed`. `headers` may grow until the first chunk is there. A client that goes away stops the
    work; one that reads slowly holds it back.
    """
    pump = _Pump(chunks, failed)
    try:
        async with UntilGone(receive):
            first = await pump.next()
            if pump.refusal is not None:
                raise pump.refusal
            await send(
                {"type": "http.response.start", "status": 200, "headers": [*EVENTS, *headers]}
            )
            data: bytes | None = first
            while data is not None:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                data = await pump.next()
            await send({"type": "http.response.body", "body": b""})
    finally:
        await pump.close()


class _Pump:
    """Runs the work in a task of its own; `next` gives everything that is ready."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], failed: Callable[[SoniaError], bytes]
    ) -> None:
        self.refusal: Exception | None = None
        self._chunks = chunks
        self._failed = failed
        self._ready: list[bytes] = []
        self._waiting_bytes = 0
        self._begun = False
        self._over = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._beat = self._loop.call_later(HEARTBEAT_S, self._quiet)
        self._task = asyncio.create_task(self._run())

    async def next(self) -> bytes | None:
        """Wait for something, and return all there is; None at the end."""
        if not self._ready:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        if not self._ready:
            return None
        data = self._ready[0] if len(self._ready) == 1 else b"".join(self._ready)
        self._ready.clear()
        self._waiting_bytes = 0
        self._room.set()
        return data

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        self._beat.cancel()
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    self._begun = True
                    self._put(chunk)
                    if self._waiting_bytes > MOST_WAITING_BYTES:
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001  every failure reaches the client, in its protocol
            self._fail(error)
        finally:
            self._over = True
            self._news.set()

    def _fail(self, error: Exception) -> None:
        if not self._begun:
            self.refusal = error
            return
        known = translate(error)
        if isinstance(known, Internal):
            get_logger("api-gateway").error("answer failed", exc_info=error)
        self._put(self._failed(known))

    def _put(self, data: bytes) -> None:
        self._ready.append(data)
        self._waiting_bytes += len(data)
        self._news.set()

    def _quiet(self) -> None:
        """A comment now and then keeps proxies from closing a line that says nothing."""
        if self._begun and not self._ready:
            self._put(_STILL_HERE)
        self._beat = self._loop.call_later(HEARTBEAT_S, self._quiet)
