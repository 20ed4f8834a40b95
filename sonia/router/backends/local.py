"""Models in this process, on llama.cpp."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from sonia.config import Local
from sonia.errors import SoniaError
from sonia.router.backends.base import WeightsSource, load_validation, pull_told
from sonia.router.backends.llama import Llama
from sonia.router.backends.local_answer import Chunk, answer_events, completion
from sonia.router.backends.toolpick import (
    speaking_prompt,
)
from sonia.router.background import Background
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    ModelInfo,
    ModelNotReady,
    ProviderInfo,
)
from sonia.types import Message

RETRY_S = 60.0
T = TypeVar("T")


class LocalModel:
    """One model: its weights being fetched, loading, or ready to take calls in turn."""

    def __init__(self, name: str, config: Local, weights: WeightsSource) -> None:
        self.name = name
        self.loaded = asyncio.Event()
        self.tried = asyncio.Event()  # loaded, or failed at least once
        self.failed: SoniaError | None = None
        self._engine: Llama | None = None
        self._config = config
        self._weights = weights
        self._turns = asyncio.Semaphore(config.parallel)
        self._pool = ThreadPoolExecutor(config.parallel, thread_name_prefix=f"llama {name}")

    async def run(self) -> None:
        """Fetch, load, warm up, and hold the model until cancelled; retry what failed."""
        try:
            while True:
                try:
                    await self._load()
                    await asyncio.Event().wait()
                except SoniaError as error:
                    self.failed = error
                    self.tried.set()
                await asyncio.sleep(RETRY_S)
        finally:
            self.loaded.clear()
            await self._unload()

    def engine(self) -> Llama:
        """Raises `ModelNotReady` while there is none."""
        if self._engine is None or not self.loaded.is_set():
            raise ModelNotReady(
                f"The model local/{self.name} is not ready: {self.waiting_for()}.", model=self.name
            )
        return self._engine

    def waiting_for(self) -> str | None:
        """Why it is not ready, None when it is."""
        if self.loaded.is_set():
            return None
        return self.failed.message if self.failed else pull_told(self._weights.progress(self.name))

    @asynccontextmanager
    async def chunks(self, body: Chunk) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Enter to start a completion on its thread; leaving stops it and waits until it has."""
        engine = self._engine
        if engine is None:
            raise ModelNotReady(f"The model local/{self.name} is gone.", model=self.name)
        loop, stop = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()

        def on_chunk(chunk: Chunk) -> bool:
            if not stop.is_set():
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
            return stop.is_set()

        done = loop.run_in_executor(self._pool, engine.generate, body, on_chunk)
        done.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            async with aclosing(_drain(queue)) as drained:
                yield drained
            if done.done():
                done.result()
        finally:
            stop.set()
            await asyncio.wait([done])

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Enter to wait for one of the model's `parallel` places, in the order of asking."""
        async with self._turns:
            yield

    async def _load(self) -> None:
        files = await self._weights.ensure(self.name)
        path = next(path for name, path in files.items() if name.endswith(".gguf"))
        await asyncio.to_thread(load_validation)
        self._engine = await self._on_thread(
            lambda: Llama(
                path,
                threads=self._config.threads,
                context_tokens=self._config.context_tokens,
                parallel=self._config.parallel,
            )
        )
        async with self.chunks(
            completion([{"role": "user", "content": "Hello"}], max_tokens=1)
        ) as warm:
            async for _ in warm:
                pass
        self.failed = None
        self.loaded.set()
        self.tried.set()

    async def _unload(self) -> None:
        if self._engine is not None:
            await self._engine.leave()
            await self._on_thread(self._engine.close)
            self._engine = None
        self._pool.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """Run to its end even when cancelled meanwhile, then be cancelled."""
        done = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            if isinstance(made := done.result(), Llama):
                await made.leave()
                made.close()
            raise


class LocalBackend:
    """The configured local models, each loaded when a profile names it or somebody asks."""

    name = "local"

    def __init__(
        self, config: Local, weights: WeightsSource, background: Background, at_once: set[str]
    ) -> None:
        self._config = config
        self._background = background
        self._models = {name: LocalModel(name, config, weights) for name in config.models}
        self._running: set[str] = set()
        for name in config.models:
            if name in at_once:
                self.load(name)

    def load(self, model: str) -> None:
        """Begin loading, once."""
        if model not in self._running:
            self._running.add(model)
            self._background.start(self._models[model].run(), name=f"local/{model}")

    async def ready(self, model: str) -> None:
        """Return when the model can answer. Raises what keeps it from being loaded."""
        self.load(model)
        local = self._models[model]
        await local.tried.wait()
        if local.failed:
            raise local.failed

    def info(self) -> ProviderInfo:
        wanted = [self._models[name] for name in self._models if name in self._running]
        waiting = {model.name: why for model in wanted if (why := model.waiting_for())}
        failed = any(model.failed for model in wanted if not model.loaded.is_set())
        reason = "; ".join(f"{name}: {why}" for name, why in waiting.items())
        return ProviderInfo(
            name=self.name,
            state="down" if failed else "warming" if waiting else "ready",
            models=tuple(f"local/{name}" for name in self._models),
            reason=reason or (None if wanted else "loads when first asked"),
        )

    def models(self) -> tuple[ModelInfo, ...]:
        tokens = self._config.context_tokens
        return tuple(
            ModelInfo(id=f"local/{name}", provider=self.name, context_tokens=tokens)
            for name in self._models
        )

    def serves(self, model: str) -> bool:
        return model in self._models

    def context_tokens(self, model: str) -> int:
        return self._config.context_tokens

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        self.load(model)
        return await self._models[model].engine().count_tokens(speaking_prompt(messages))

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.load(model)
        local = self._models[model]
        local.engine()
        started_s = time.perf_counter()
        async with local.turn(), aclosing(answer_events(local, request, started_s)) as events:
            yield events


async def _drain(queue: asyncio.Queue[Chunk | None]) -> AsyncGenerator[Chunk, None]:
    while (chunk := await queue.get()) is not None:
        yield chunk
