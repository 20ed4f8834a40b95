"""Circuit breakers: a provider that is down is left alone, and tried again by one call.

Closed, calls pass. After `failures` in a row it is open and calls are refused for `open_s`; then
one probe is let through (half open), which closes it or opens it again. A provider that has not
answered for `open_s` is unproven: only as many calls go out at once as may still fail, and the
rest wait for what becomes of them. So a dead provider is asked at most `failures` times, however
many call at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from sonia.errors import SoniaError, Unavailable, UpstreamError, UpstreamTimeout
from sonia.router.interface import BreakerInfo, BreakerState, ModelNotReady

Verdict = Literal["go", "wait", "no"]


class BreakerOpen(Unavailable):
    """The provider failed repeatedly and is left alone for a while."""


def counts(failure: BaseException) -> bool:
    """Whether this says that the provider is down."""
    if isinstance(failure, ModelNotReady | BreakerOpen):
        return False
    kinds = Unavailable | UpstreamError | UpstreamTimeout
    return isinstance(failure, SoniaError) and isinstance(failure, kinds) and failure.retryable


class Breaker:
    """One provider's. Every admitted call must say `succeeded`, `failed` or `left`, once."""

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        open_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._most = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._out = 0
        self._opened_s: float | None = None
        self._proven_s: float | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def state(self) -> BreakerState:
        """As of now."""
        if self._opened_s is None:
            return "closed"
        return "open" if self._clock() < self._opened_s + self._open_s else "half_open"

    def info(self) -> BreakerInfo:
        """For people."""
        left_s = (self._opened_s or 0.0) + self._open_s - self._clock()
        return BreakerInfo(
            name=self.name,
            state=self.state,
            failures=self._failures,
            probe_in_s=round(left_s, 1) if self.state == "open" else None,
        )

    def ask(self) -> Verdict:
        """Whether a call may go now; with `go` it is out."""
        state = self.state
        if state == "open" or (state == "half_open" and self._out):
            return "no"
        if state == "closed" and not self._proven() and self._out >= self._most - self._failures:
            return "wait"
        self._out += 1
        return "go"

    @asynccontextmanager
    async def trying(self) -> AsyncIterator[None]:
        """Enter around a call, until its first sign of life. Raises `BreakerOpen`."""
        if not await self._admitted():
            raise BreakerOpen(
                f"{self.name} failed repeatedly and is left alone for now.", provider=self.name
            )
        try:
            yield
        except BaseException as error:
            self.failed() if counts(error) else self.left()
            raise
        self.succeeded()

    async def _admitted(self) -> bool:
        while (verdict := self.ask()) == "wait":
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(turn)
            try:
                await turn
            finally:
                self._waiting.discard(turn)
        return verdict == "go"

    def succeeded(self) -> None:
        """The call was answered."""
        self._failures, self._opened_s, self._proven_s = 0, None, self._clock()
        self.left()

    def failed(self) -> None:
        """The provider failed the call."""
        self._failures += 1
        self._proven_s = None
        if self._opened_s is not None or self._failures >= self._most:
            self._opened_s = self._clock()
        self.left()

    def left(self) -> None:
        """The call ended and says nothing about the provider."""
        self._out -= 1
        self._wake()

    def broke(self) -> None:
        """An answer that had begun broke; its call has already said that it succeeded."""
        self._out += 1
        self.failed()

    def reset(self) -> None:
        """Forget what was."""
        self._failures, self._opened_s = 0, None
        self._wake()

    def _proven(self) -> bool:
        return self._proven_s is not None and self._clock() < self._proven_s + self._open_s

    def _wake(self) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
