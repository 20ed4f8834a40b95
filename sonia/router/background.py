"""Work that outlives a call and not its owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from sonia.log import get_logger


class Background:
    """Starts tasks for whoever entered `open_background`."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run beside everything else; a failure is logged and ends only this task."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            get_logger("model-router").error(
                "background.failed", task=task.get_name(), exc_info=error
            )


@asynccontextmanager
async def open_background() -> AsyncIterator[Background]:
    """Leaving cancels what still runs and waits until it has ended."""
    background = Background()
    try:
        yield background
    finally:
        tasks = tuple(background.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
