"""One local model's life: fetched, checked, loaded, answering, idle, gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from sonia.config import Local
from sonia.errors import SoniaError, UpstreamTimeout
from sonia.router.backends.base import load_validation
from sonia.router.backends.constraint import load_constraints
from sonia.router.backends.gguf import ModelFile, read_header
from sonia.router.backends.llama import ENGINE_BYTES, Llama
from sonia.router.backends.local_answer import Chunk, completion
from sonia.router.backends.room import Room, Tenant
from sonia.router.interface import ModelNotReady

RETRY_S = 60.0
LOOK_S = 0.5
READ_BYTES = 8_388_608
T = TypeVar("T")
State = Literal["gone", "loading", "loaded", "failed", "leaving"]


class ModelSource(Protocol):
    """Where a model's file comes from."""

    async def file(self) -> Path:
        """Its GGUF, fetched when missing. Raises why it can't be had."""
        ...

    def fetching(self) -> bool:
        """Whether it is being fetched, which takes minutes."""
        ...

    def told(self) -> str:
        """One line for people: what is being done to have it."""
        ...


class LocalModel:
    """A model by name. Run it to have it loaded; it ends when idle or in another's way.

    `stays` keeps it from ending when idle.
    """

    def __init__(
        self, name: str, config: Local, source: ModelSource, room: Room, *, stays: bool
    ) -> None:
        self.name = name
        self.state: State = "gone"
        self.failed: SoniaError | None = None
        self.header: ModelFile | None = None
        self._stays = stays
        self._starting = stays  # until it was loaded or failed once
        self._engine: Llama | None = None
        self._stuck = False
        self._config = config
        self._source = source
        self._room = room
        self._turns = asyncio.Semaphore(config.parallel)
        self._unwanted = asyncio.Event()
        self._turned = asyncio.Event()
        self._tenant = Tenant(name, self._unwanted.set)
        self._pool: ThreadPoolExecutor

    @property
    def busy(self) -> int:
        """How many wait for it or are being answered."""
        return self._tenant.busy

    @property
    def context_tokens(self) -> int:
        """As configured, and never more than the model was made for."""
        made_for = self.header.context_tokens if self.header else self._config.context_tokens
        return min(self._config.context_tokens, made_for)

    @property
    def device(self) -> str | None:
        """Where it is loaded: `cpu`, or what the graphics card is called. None when it is not."""
        return self._engine.device if self._engine else None

    async def run(self) -> None:
        """Load and hold the model until it is unwanted or idle for long.

        What failed is retried when the model stays, and else when it is asked for again.
        """
        threads = self._config.parallel + 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"llama {self.name}")
        self._unwanted.clear()
        try:
            while not await self._loaded():
                if not self._stays:
                    return
                await asyncio.sleep(RETRY_S)
                self.turn("loading")
            await self._until_unwanted()
            self.turn("leaving")
        finally:
            await self._unload()
            self._pool.shutdown(wait=False)

    def turn(self, state: State) -> None:
        """Change the state and tell who waits for one."""
        self.state = state
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    async def settled(self) -> None:
        """Return when it is loaded. Raises what keeps it from being loaded."""
        while self.state != "loaded":
            if self.state == "failed" and self.failed:
                raise self.failed
            await self._turned.wait()

    def waiting_for(self) -> str | None:
        """Why it is not ready, None when it is."""
        if self.state == "loaded":
            return None
        return self.failed.message if self.failed else self._source.told()

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Llama]:
        """Enter to have the model loaded, and kept loaded until left.

        Waits for weights that are here to be loaded. Raises `ModelNotReady` while they are
        being fetched or Sonia is just starting, and what keeps it from being loaded.
        """
        self._tenant.busy += 1
        try:
            while self.state != "loaded":
                if self.state == "failed" and self.failed:
                    raise self.failed
                if self._starting or self.state == "gone" or self._source.fetching():
                    raise self._not_ready()
                with suppress(TimeoutError):  # a fetch begins without a word to us
                    async with asyncio.timeout(LOOK_S):
                        await self._turned.wait()
            yield self._loaded_engine()
        finally:
            self._tenant.busy -= 1
            await self._room.calm(self._tenant)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Enter to wait for one of the model's `parallel` places, in the order of asking."""
        async with self.using(), self._turns:
            yield

    @asynccontextmanager
    async def chunks(self, body: Chunk) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Enter to start a completion on a thread; leaving stops it and waits until it has.

        Raises `UpstreamTimeout` from the iterator when the engine stands still.
        """
        engine = self._loaded_engine()
        loop, stop = asyncio.get_running_loop(), threading.Event()
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()

        def on_chunk(chunk: Chunk) -> bool:
            if not stop.is_set():
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
            return stop.is_set()

        done = loop.run_in_executor(self._pool, engine.generate, body, on_chunk)
        done.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            async with aclosing(self._drain(queue)) as drained:
                yield drained
            if done.done():
                done.result()
        finally:
            stop.set()
            if not self._stuck:
                await asyncio.wait([done], timeout=self._config.stall_s)

    async def _drain(self, queue: asyncio.Queue[Chunk | None]) -> AsyncGenerator[Chunk, None]:
        while True:
            try:
                async with asyncio.timeout(self._config.stall_s):
                    chunk = await queue.get()
            except TimeoutError as error:
                self._stuck = True  # it is given up, and loaded anew for the next who asks
                self._unwanted.set()
                if self.state == "loaded":
                    self.turn("leaving")
                raise UpstreamTimeout(
                    f"The model local/{self.name} stood still for {self._config.stall_s:g} s."
                ) from error
            if chunk is None:
                return
            yield chunk

    def _loaded_engine(self) -> Llama:
        if self._engine is None:
            raise self._not_ready()
        return self._engine

    def _not_ready(self) -> ModelNotReady:
        why = self.waiting_for() or "it was just let go"
        return ModelNotReady(f"The model local/{self.name} is not ready: {why}.", model=self.name)

    async def _loaded(self) -> bool:
        try:
            await self._load()
        except SoniaError as error:
            self.failed, self._starting = error, False
            await self._unload()
            self.turn("failed")
            return False
        self.failed, self._starting = None, False
        self.turn("loaded")
        return True

    async def _load(self) -> None:
        path = await self._source.file()
        self.header = await asyncio.to_thread(read_header, path)
        tokens, parallel = self.context_tokens, self._config.parallel
        kv_bytes = tokens * parallel * self.header.kv_bytes_per_token
        await self._room.enter(self._tenant, self.header.size_bytes + kv_bytes + ENGINE_BYTES)
        await asyncio.to_thread(_read_before, path)
        self._engine = await self._on_thread(
            lambda: Llama(
                path,
                threads=self._config.threads,
                context_tokens=tokens,
                parallel=parallel,
                gpu=self._config.gpu,
            )
        )
        hello = completion([{"role": "user", "content": "Hello"}], max_tokens=1)
        async with self.chunks(hello) as warm:
            async for _ in warm:
                pass

    async def _until_unwanted(self) -> None:
        """Return when another model needs the room, or nobody has asked for long."""
        while not self._stuck:
            try:
                async with asyncio.timeout(self._rest_s()):
                    await self._unwanted.wait()
            except TimeoutError:
                if self._rest_s() == 0:
                    return
            else:
                if not self.busy:
                    return
                self._unwanted.clear()  # somebody asked in the meantime

    def _rest_s(self) -> float | None:
        """Until it has been idle for too long; None when it never is."""
        if self._stays:
            return None
        limit_s = self._config.idle_unload_s
        return limit_s if self.busy else max(limit_s - self._tenant.idle_s, 0.0)

    async def _unload(self) -> None:
        if self._engine is not None:
            await self._engine.leave()
            if not self._stuck:  # else its memory is free once the stuck call ends
                await self._on_thread(self._engine.close)
            self._engine, self._stuck = None, False
        await self._room.left(self._tenant)

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


def _read_before(path: Path) -> None:
    """Bring in what the engine's constructor would wait for with the interpreter's lock held."""
    load_validation()
    load_constraints()
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(READ_BYTES)
        while file.readinto(buffer):
            pass
