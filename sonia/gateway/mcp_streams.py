"""What is told on one stream of `/mcp`, kept for a client whose line broke and who comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from sonia.gateway import mcp_wire as wire

HEARTBEAT_S = 15.0
RESUME_S = 60.0  # how long a broken line may stay broken
MOST_KEPT = 64


class Told:
    """The messages of one stream, in order, and whoever follows them.

    With a `name` each message has an id, `name.number`, after which one can go on. `beat` makes a
    message for when nothing was said for a while; without one the line is kept open by a comment.
    `abandoned` is called when nobody came back in time.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.over = False
        self.given = 0  # the number of the newest that was sent to somebody
        self.beat: Callable[[], bytes] | None = None
        self.begun = asyncio.Event()
        self.abandoned: Callable[[], object] = _nothing
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=MOST_KEPT)
        self._said = 0
        self._moved = asyncio.Event()
        self._follower: object = None

    def say(self, message: bytes) -> None:
        """Tell who follows; nothing after the end."""
        if not self.over:
            self._said += 1
            self._kept.append((self._said, message))
            self.begun.set()
            self._wake()

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self._said

    def ended(self, number: int) -> bool:
        """Whether nothing will come after this one."""
        return self.over and number >= self._said

    def end(self, last: bytes | None = None) -> None:
        """Say the last message, if there is one, and end."""
        if last is not None:
            self.say(last)
        self.over = True
        self._wake()

    async def follow(
        self, stopping: asyncio.Event, *, after: int = 0, primed: bool = False
    ) -> AsyncIterator[bytes]:
        """Server-sent events until the end, the next follower, or `stopping`.

        `primed` begins with an id and nothing else, so that one can come back from the start.
        """
        turn = self._follower = object()
        self._wake()  # who followed before lets go
        try:
            if primed and self.name:
                yield wire.event(b"", f"{self.name}.{after}")
            while self._follower is turn:
                moved = self._moved
                for number, message in [one for one in self._kept if one[0] > after]:
                    after = self.given = number
                    yield wire.event(message, self.name and f"{self.name}.{number}")
                if self.over or stopping.is_set():
                    return
                if not await _any(moved, stopping):
                    if self.beat:
                        self.say(self.beat())
                    else:
                        yield b": waiting\n\n"
        finally:
            if not self.over:
                asyncio.get_running_loop().call_later(RESUME_S, self._missed, turn)

    def _missed(self, follower: object) -> None:
        if self._follower is follower:
            self.abandoned()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _nothing() -> None:
    pass


async def _any(*events: asyncio.Event) -> bool:
    """Whether one of them is set within a heartbeat."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(
            waiting, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
        )
        return bool(done)
    finally:
        for task in waiting:
            task.cancel()
