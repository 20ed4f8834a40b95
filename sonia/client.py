"""Work for a client that may go away while it is being done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sonia.errors import Unavailable

T = TypeVar("T")


class ClientGone(Unavailable):
    """Nobody is there any more to answer to."""

    status = 499


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
