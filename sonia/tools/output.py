"""What a process wrote: the beginning and the end of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_CHUNK = 65_536


class Kept:
    """Keeps the first and the last half of `limit` bytes and counts the rest."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.dropped = 0

    def add(self, chunk: bytes) -> None:
        """Take in what was written next."""
        room = self._half - len(self._head)
        self._head += chunk[:room]
        if rest := chunk[max(room, 0) :]:
            self._tail.append(rest[-self._half :])
            self.dropped += len(rest) - len(self._tail[-1])
            self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes > self._half:
            over = self._tail_bytes - self._half
            first = self._tail.popleft()
            if len(first) > over:
                self._tail.appendleft(first[over:])
            gone = min(over, len(first))
            self._tail_bytes -= gone
            self.dropped += gone

    async def drain(
        self, stream: asyncio.StreamReader, most: int, stop: Callable[[], None]
    ) -> None:
        """Read `stream` to its end; call `stop` once more than `most` bytes came."""
        seen = 0
        while chunk := await stream.read(_CHUNK):
            self.add(chunk)
            seen += len(chunk)
            if seen > most:
                stop()
                return

    def text(self) -> str:
        """As UTF-8, with a line that says what is missing between the halves."""
        tail = b"".join(self._tail)
        if not self.dropped:
            return (self._head + tail).decode("utf-8", "replace")
        gap = f"\n… {self.dropped} bytes left out …\n"
        return self._head.decode("utf-8", "replace") + gap + tail.decode("utf-8", "replace")
