"""Models in this process, on llama.cpp."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from sonia.config import Local
from sonia.errors import SoniaError
from sonia.router.backends.base import WeightsSource, pull_told
from sonia.router.backends.llama import Llama, cut, refuse
from sonia.router.backends.toolpick import (
    PICK_TOKENS,
    SAY,
    picked,
    picking_grammar,
    picking_prompt,
    speaking_prompt,
)
from sonia.router.background import Background
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    ModelInfo,
    ModelNotReady,
    ProviderInfo,
    TextDelta,
    ToolCallProposed,
)
from sonia.types import Message, ToolCall, Usage

RETRY_S = 60.0
T = TypeVar("T")
Chunk = dict[str, Any]


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
        self._engine = await self._on_thread(
            lambda: Llama(
                path,
                threads=self._config.threads,
                context_tokens=self._config.context_tokens,
                parallel=self._config.parallel,
            )
        )
        async with self.chunks(_body([{"role": "user", "content": "Hello"}], max_tokens=1)) as warm:
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
        async with local.turn(), aclosing(_answer(local, request, started_s)) as events:
            yield events


async def _answer(
    local: LocalModel, request: ChatRequest, started_s: float
) -> AsyncGenerator[ChatEvent, None]:
    spent = _Spent(local.name, started_s)
    if request.tools and request.messages and request.messages[-1].role == "user":
        call = await _pick(local, request, spent)
        if call:
            yield ToolCallProposed(call=call)
            yield spent.finished("tool_calls")
            return
    body = _body(
        speaking_prompt(request.messages),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
    )
    if request.json_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"schema": request.json_schema},
        }
    async with local.chunks(body) as chunks:
        async for chunk in chunks:
            if text := spent.take(chunk):
                yield TextDelta(text=text)
    yield spent.finished()


async def _pick(local: LocalModel, request: ChatRequest, spent: _Spent) -> ToolCall | None:
    body = _body(
        picking_prompt(request.messages, request.tools),
        max_tokens=PICK_TOKENS,
        grammar=picking_grammar(request.tools),
    )
    answer = ""
    async with local.chunks(body) as chunks:
        async for chunk in chunks:
            answer += spent.take(chunk)
            if answer == SAY:  # the grammar has nothing more: do not wait for the end
                spent.stopped()
                break
    call = picked(answer, request.tools)
    if call is None:
        spent.begin_again()
    return call


class _Spent:
    """What one answer took, summed over its prompts."""

    def __init__(self, model: str, started_s: float) -> None:
        self.reason: FinishReason | None = None
        self._model = model
        self._started_s = started_s
        self._first_token_ms: float | None = None
        self._usage = Usage()
        self._prompt: dict[str, int] = {}

    def begin_again(self) -> None:
        """Nothing of this prompt's answer is shown; the next prompt's is."""
        self.reason = self._first_token_ms = None

    def stopped(self) -> None:
        """Count a prompt that was left after its first token."""
        self._add(self._prompt.get("total", 0), 1, self._prompt.get("cache", 0))

    def take(self, chunk: Chunk) -> str:
        """The chunk's text. Raises what the engine refused."""
        if "error" in chunk:
            refuse(chunk["error"])
        text = ""
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            self.reason = choice.get("finish_reason") or self.reason
        if text and self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()
        if timings := chunk.get("timings"):
            cached = timings["cache_n"]
            self._add(cached + timings["prompt_n"], timings["predicted_n"], cached)
        self._prompt = chunk.get("prompt_progress") or self._prompt
        return text

    def finished(self, reason: FinishReason | None = None) -> Finished:
        """Raises `AnswerCut` when the engine gave no reason."""
        final = reason or self.reason
        if final is None:
            raise cut()
        return Finished(
            model=f"local/{self._model}",
            provider="local",
            reason=final,
            usage=self._usage,
            first_token_ms=round(self._first_token_ms or self._elapsed_ms(), 2),
        )

    def _add(self, prompt: int, made: int, cached: int) -> None:
        self._usage = Usage(
            prompt_tokens=self._usage.prompt_tokens + prompt,
            completion_tokens=self._usage.completion_tokens + made,
            cached_tokens=self._usage.cached_tokens + cached,
        )

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started_s) * 1000


def _body(messages: list[dict[str, str]], **options: Any) -> Chunk:
    return {
        "messages": messages,
        "stream": True,
        "cache_prompt": True,
        "return_progress": True,
        "temperature": 0.0,
        **options,
    }


async def _drain(queue: asyncio.Queue[Chunk | None]) -> AsyncGenerator[Chunk, None]:
    while (chunk := await queue.get()) is not None:
        yield chunk
