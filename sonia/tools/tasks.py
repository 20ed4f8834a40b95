"""Work that outlives who began it, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from sonia.log import get_logger

T = TypeVar("T")


class Tasks:
    """Enter it, begin work in it; leaving waits until all of that has ended.

    Unlike a `TaskGroup` it lets what its body raises through as it is, and one task that fails
    is logged and troubles neither the others nor the body.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do `work` beside what is running."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            get_logger("openclaw").error("background work failed", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
