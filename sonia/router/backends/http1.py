"""One HTTP/1.1 connection to a provider: an exchange at a time, as little as that takes.

A relay's own work is small, so its client counts: this one costs a fourth of a general one. The
parser is httptools', which the server has too. It asks, reads status, headers and a body of any
framing, and says whether the connection may be used again; redirects, cookies and compression are
nobody's wish here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any

import httptools

MOST_HEAD_BYTES = 64 * 1024
MOST_WAITING_BYTES = 256 * 1024  # then the provider is held back


class NotHttp(ValueError):
    """What came is not HTTP/1.1."""


class BrokenConnection(ConnectionError):
    """The connection ended before the answer did."""


class Answered:
    """An answer whose head is there. `headers` by their names in lower case, the last one of each.

    `ended` once all of the body has arrived and was read.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.failed: Exception | None = None
        self.waiting: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0

    @property
    def ended(self) -> bool:
        """Nothing more will come, and everything that came was read."""
        return self.complete and not self._pieces and self.failed is None

    async def readany(self) -> bytes:
        """What has arrived, or the next that does; empty at the end. Raises `BrokenConnection`."""
        while not self._pieces:
            if self.failed is not None:
                raise self.failed
            if self.complete:
                return b""
            self.waiting = self.line.loop.create_future()
            try:
                await self.waiting
            finally:
                self.waiting = None
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        self.line.go_on()
        return data

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held_bytes += len(data)
        self.wake()
        if self._held_bytes > MOST_WAITING_BYTES:
            self.line.hold_back()

    def wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


class Line(asyncio.Protocol):
    """A connection. `ask` again only when the answer before has `ended` and `usable` is true."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.lost = self.loop.create_future()
        self.place: tuple[str, str, int] | None = None  # whom it leads to, for whoever keeps it
        self.idle_since_s = 0.0
        self._transport: Any = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head: asyncio.Future[Answered] | None = None
        self._answer: Answered | None = None
        self._head_bytes = 0
        self._framed = False
        self._keeps = False
        self._paused = False

    @property
    def usable(self) -> bool:
        """Whether another request may go out on it."""
        idle = self._head is None and (self._answer is None or self._answer.ended)
        return idle and self._keeps and not self.lost.done()

    async def ask(self, request: bytes) -> Answered:
        """Send head and body; the answer's head. Cancelled or failed, the connection is gone.

        Raises `BrokenConnection` and `NotHttp`.
        """
        self._answer, self._head_bytes = None, 0
        self._head = self.loop.create_future()
        try:
            if self.lost.done():
                raise BrokenConnection("it was closed")
            self._transport.write(request)
            return await self._head
        except BaseException:
            self.abort()
            raise
        finally:
            self._head = None

    async def tunnel(self, request: bytes) -> Answered:
        """Ask a proxy to CONNECT; what follows its answer is another's connection."""
        answer = await self.ask(request)
        self._parser, self._answer, self._keeps = httptools.HttpResponseParser(self), None, True
        return answer

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from here on."""
        self._transport = await self.loop.start_tls(
            self._transport, self, context, server_hostname=host
        )

    def abort(self) -> None:
        """Close it now."""
        self._keeps = False
        if self._transport is not None:
            self._transport.abort()

    def hold_back(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._paused:
            self._paused = False
            if not self.lost.done():
                self._transport.resume_reading()

    # --- what the transport says -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._keeps = transport, True

    def data_received(self, data: bytes) -> None:
        if self._head is None and (self._answer is None or self._answer.complete):
            self.abort()  # it speaks unasked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        answer = self._answer
        bare = answer is not None and answer.status >= 200 and not self._framed
        if answer is not None and bare and answer.failed is None and error is None:
            answer.complete = True  # the end of the connection is the end of the body
            answer.wake()
        else:
            self._fail(error)

    def _fail(self, error: Exception | None) -> None:
        told = f"the connection broke ({type(error).__name__})" if error else "it was closed"
        foreign = isinstance(error, httptools.HttpParserError)
        if self._head is not None and not self._head.done():
            self._head.set_exception(NotHttp(str(error)) if foreign else BrokenConnection(told))
        elif self._answer is not None and not self._answer.complete:
            self._answer.failed = BrokenConnection(told)
            self._answer.wake()

    # --- what the parser says ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._answer, self._framed = Answered(self), False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MOST_HEAD_BYTES:
            raise NotHttp("its head has no end")
        key = name.decode("latin-1").lower()
        self._framed = self._framed or key in ("content-length", "transfer-encoding")
        if self._answer is not None:
            self._answer.headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.status = self._parser.get_status_code()
        if answer.status == 101:
            raise NotHttp("it changes the protocol")
        if answer.status >= 200 and self._head is not None and not self._head.done():
            self._keeps = bool(self._parser.should_keep_alive())
            self._head.set_result(answer)

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.put(data)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status >= 200:
            self._answer.complete = True
            self._answer.wake()
