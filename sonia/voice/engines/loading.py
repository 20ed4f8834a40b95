"""An engine that is loaded at its first use, once, and works on one thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sonia.weights import Progress

STUCK_S = 45.0
E = TypeVar("E")
R = TypeVar("R")


class WeightsSource(Protocol):
    """What an engine needs of `sonia.weights.Weights`."""

    async def ensure(self, name: str) -> dict[str, Path]:
        """The files by name, fetched if they are not here."""
        ...

    def progress(self, name: str) -> Progress:
        """How its fetching goes."""
        ...


class Engine(Generic[E]):
    """Holds what `build` makes of the files of `names`. Build and work run on the thread."""

    def __init__(
        self, weights: WeightsSource, names: tuple[str, ...], build: Callable[..., E]
    ) -> None:
        self._weights = weights
        self._names = names
        self._build = build
        self._loaded: E | None = None
        self._loading: asyncio.Task[E] | None = None
        self._busy_since: float | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=names[0])

    @property
    def state(self) -> str:
        """`ready`, `unloaded`, or what is being waited for."""
        if self._loaded is not None:
            return "ready"
        if self._loading is None or self._loading.done():
            return "unloaded"
        waiting = [self._weights.progress(name) for name in self._names]
        pulling = [item for item in waiting if item.stage != "ready"]
        if pulling and pulling[0].stage != "waiting":
            return f"{pulling[0].stage} {pulling[0].name}"
        return "loading"

    async def load(self) -> E:
        """The engine; whoever comes while it loads waits for the same load."""
        if self._loaded is not None:
            return self._loaded
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name=f"load {self._names[0]}")
        return await asyncio.shield(self._loading)

    async def run(self, work: Callable[..., R], *args: Any) -> R:
        """Call `work(engine, *args)` on the engine's thread.

        An engine that has been at one piece of work for `STUCK_S` is given up for a new one.
        """
        since = self._busy_since
        if since is not None and time.monotonic() - since > STUCK_S:
            self._renew()
        engine = await self.load()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._work, work, engine, *args)

    async def close(self) -> None:
        """Stop loading, and let the engine go once its thread is done."""
        if self._loading and not self._loading.done():
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        self._loaded = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, work: Callable[..., R], engine: E, *args: Any) -> R:
        self._busy_since = mine = time.monotonic()
        try:
            return work(engine, *args)
        finally:
            if self._busy_since == mine:  # and not that of the engine after this one
                self._busy_since = None

    def _renew(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=self._names[0])
        self._loaded = self._loading = self._busy_since = None

    async def _load(self) -> E:
        files = [await self._weights.ensure(name) for name in self._names]
        loop = asyncio.get_running_loop()
        self._loaded = await loop.run_in_executor(self._pool, self._build, *files)
        return self._loaded
