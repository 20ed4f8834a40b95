"""Work for a client that may go away while it is being done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

from sonia.errors import Unavailable

T = TypeVar("T")


class ClientGone(Unavailable):
    """Nobody is there any more to answer to."""

    status = 499


class UntilGone:
    """Enter to have this task cancelled when the client leaves; the block then raises `ClientGone`.

    Like `asyncio.timeout`, and as cheap: the work stays in the task that has it.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]]) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  this is a coroutine of one
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.ensure_future(_left(self._receive))
        self._watch.add_done_callback(self._left)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.remove_done_callback(self._left)
        self._watch.cancel()
        if not self._gone:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone("The client went away; what it asked for was cancelled.") from error

    def _left(self, watch: asyncio.Future[None]) -> None:
        if not watch.cancelled() and watch.exception() is None:
            self._gone = True
            self._task.cancel()


async def while_connected(receive: Callable[[], Awaitable[Any]], work: Awaitable[T]) -> T:
    """Return what `work` returns; cancel it, and raise `ClientGone`, when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone("The client went away; what it asked for was cancelled.")
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
