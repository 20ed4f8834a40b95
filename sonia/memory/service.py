"""Memory over SQLite, with sqlite-vec and tantivy derived from it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import MemoryEngine
from sonia.db import Database
from sonia.errors import SoniaError, Unavailable
from sonia.events import Bus, TurnFinished
from sonia.forgetting import Place
from sonia.memory import bookkeeping, digests, ledger, snapshots, store, vectors
from sonia.memory import places as own
from sonia.memory.access import AccessFollower
from sonia.memory.bounds import (
    check_moment,
    checked,
    checked_text,
)
from sonia.memory.conversing import KeepsConversations
from sonia.memory.documents import incoming, shelf
from sonia.memory.documents.keeping import KeepsDocuments
from sonia.memory.documents.place import DocumentsPlace
from sonia.memory.documents.sweeping import DocumentSweeper
from sonia.memory.embedding import Earlier, VectorFollower
from sonia.memory.finding import find
from sonia.memory.following import Follower, TextFollower
from sonia.memory.gathering import Search
from sonia.memory.guarding import CHECK_AFTER_S, Guard
from sonia.memory.interface import (
    Embedder,
    Found,
    Hit,
    JobStatus,
    Model,
    Query,
    Stats,
)
from sonia.memory.keeping import KeepsMemories
from sonia.memory.mirroring import MirrorFollower
from sonia.memory.parts import Clock, Held, Parts
from sonia.memory.reading import Reader
from sonia.memory.text import IndexDamaged
from sonia.memory.upkeep import Upkeep
from sonia.memory.vectors import renew
from sonia.types import HeldIn, Integrity, MemoryId, now

PLACES = (DocumentsPlace(), *own.PLACES, *snapshots.PLACES)
EMBED_BUDGET_S = 0.1  # how long a hybrid search waits for its question's vector


class SqliteMemory(KeepsMemories, KeepsConversations, KeepsDocuments):
    """Use `open_memory`."""

    def __init__(self, parts: Parts, guard: Guard, model: Model | None = None) -> None:
        KeepsMemories.__init__(self, parts)
        KeepsConversations.__init__(self, parts)
        KeepsDocuments.__init__(self, parts)
        self._reader = Reader(parts, model) if model is not None else None
        self._upkeep = Upkeep(parts, self._reader)
        self._guard = guard
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def search(self, query: Query) -> Found:
        """Find by words, by meaning, or both fused. An empty query finds the newest."""
        started = time.perf_counter()
        query = checked(query)
        check_moment(query.since, "since")
        check_moment(query.until, "until")
        check_moment(query.as_of, "as_of")
        check_moment(query.known_at, "known_at")
        space = self._parts.vectors.space
        vector = await self._vector_of(query) if query.query.strip() else None
        if query.mode == "hybrid" and vector is None:
            query = msgspec.structs.replace(query, mode="text")
        await self._parts.text.opened.wait()
        hits = await self._find(query, vector, space)
        took_ms = (time.perf_counter() - started) * 1000
        return Found(hits=hits, mode=query.mode, took_ms=round(took_ms, 3))

    def touch(self, memory_ids: Sequence[MemoryId]) -> None:
        """See `Memory.touch`."""
        self._parts.access.touch(memory_ids)

    async def _find(
        self, query: Query, vector: NDArray[np.float32] | None, space: str
    ) -> tuple[Hit, ...]:
        search = Search(
            query=query,
            vector=vector,
            live=lambda: self._parts.text.live,
            near=partial(self._parts.mirror.near, space=space),
            vectors=partial(self._parts.mirror.vectors, space=space),
            settings=self._parts.config,
            at=self._parts.clock(),
        )
        try:
            return await self._parts.db.read(partial(find, search=search))
        except IndexDamaged:
            await self._parts.text.lose()
        except vectors.VectorsDamaged:
            await self._parts.db.write(vectors.lose)
            self._parts.wake()
        return await self._parts.db.read(partial(find, search=search))

    async def _vector_of(self, query: Query) -> NDArray[np.float32] | None:
        """The question's vector; for a hybrid search none if it isn't there in time."""
        if query.mode == "text":
            return None
        if query.mode == "vector":
            return await self._embedded(query.query)
        try:
            async with asyncio.timeout(EMBED_BUDGET_S):
                return await self._embedded(query.query)
        except (SoniaError, TimeoutError):
            return None

    async def _embedded(self, text: str) -> NDArray[np.float32]:
        made = await self._parts.vectors.asking().embed([text])
        return made.reshape(-1)

    async def stats(self, user_id: str | None = None) -> Stats:
        """See `Memory.stats`."""
        whose = None if user_id is None else checked_text(user_id, "user_id")

        def work(c: Any) -> Stats:
            of_type = store.by_type(c, whose)
            held, waiting = vectors.counts(c)
            standing = vectors.standing(c)
            return Stats(
                memories=sum(of_type.values()),
                by_type=of_type,
                events=ledger.count(c, whose),
                sessions=ledger.session_count(c, whose),
                vectors=held,
                embedding_space=standing.space,
                unembedded=waiting,
                coming_space=standing.coming,
                coming_vectors=vectors.coming(c) if standing.coming else 0,
                text_documents=live.documents if (live := self._parts.text.live) else 0,
                database_bytes=store.file_bytes(c),
                damaged=digests.damaged_count(c),
                documents=shelf.count(c),
            )

        return await self._parts.db.read(work)

    async def check(self) -> Integrity:
        """Read everything that is kept and compare each row with its SHA-256."""
        return await self._guard.check()

    async def jobs(self) -> tuple[JobStatus, ...]:
        """What memory does by itself, and when."""
        return await self._upkeep.jobs.status()

    async def run_job(self, name: str) -> JobStatus:
        """Do it now and say how it went. Raises `JobNotFound`."""
        return await self._upkeep.jobs.run(name)

    async def probe(self) -> dict[str, object]:
        """Detail for `/status`. Raises `Unavailable` with the reason when it can't do its job."""
        for task in self._tasks:
            if task.done():
                raise Unavailable(f"The task {task.get_name()} has stopped. Restart Sonia.")
        counted = await self.stats()
        return {
            "memories": counted.memories,
            "documents": counted.documents,
            "sessions": counted.sessions,
            "vectors": counted.vectors,
            "unembedded": counted.unembedded,
            "embedding_space": counted.embedding_space,
            "coming_space": counted.coming_space,
            "coming_vectors": counted.coming_vectors,
            "vector_index": self._vector_index(),
            "text_index": "ready" if self._parts.text.live is not None else "rebuilding",
            "text_documents": counted.text_documents,
            "reading": None if self._reader is None else await self._reader.account(),
            "jobs": {job.name: job.failure or "ok" for job in await self.jobs()},
            "damaged": counted.damaged,
            "faults": list(self._guard.faults),
            "storage": msgspec.to_builtins(await asyncio.to_thread(self._parts.db.condition)),
            "waiting_for": [
                f"{follower.name}: {follower.trouble}"
                for follower in self._followers()
                if follower.trouble
            ],
        }

    def _followers(self) -> tuple[Follower, ...]:
        return (
            self._parts.text,
            self._parts.vectors,
            self._parts.mirror,
            self._parts.documents,
            self._parts.access,
            self._sweeper,
        )

    def _vector_index(self) -> str:
        mirror = self._parts.mirror.live
        if mirror is None:
            return "empty"
        return "ready" if mirror.ready else "filling"

    async def reindex(self, *, text: bool = True, vectors: bool = True) -> None:
        """See `Memory.reindex`."""

        def work(c: Any) -> None:
            if text:
                bookkeeping.renew_text(c)
            if vectors:
                renew(c)

        await self._parts.db.write(work)
        self._parts.wake()

    async def settled(self) -> None:
        """Return when the text index and the vectors hold all that was committed before, what
        was touched before is counted, and what was forgotten before is in no file."""
        await self._parts.documents.settled()
        followers = (self._parts.text, self._parts.vectors, self._parts.access)
        await asyncio.gather(*(follower.settled() for follower in followers))
        await self._parts.mirror.settled()
        await self._sweeper.settled()


async def in_no_backup(_: dt.datetime | None) -> tuple[HeldIn, ...]:
    """Where no backups are made."""
    return ()


@asynccontextmanager
async def open_memory(
    config: MemoryEngine,
    db: Database,
    embedder: Embedder,
    bus: Bus,
    folder: Path,
    *,
    clock: Clock = now,
    places: Sequence[Place] = (),
    check_after_s: float = CHECK_AFTER_S,
    model: Model | None = None,
    earlier: Earlier = lambda _: None,
    held: Held = in_no_backup,
) -> AsyncIterator[SqliteMemory]:
    """Serve memory from `db` until left; the text index lives in `folder`.

    What a crash left between the table and the indexes is healed behind it; what it left to be
    forgotten is forgotten before this serves anything. `places` are those of other modules.
    A check of everything begins `check_after_s` after the start. `model` reads turns for what the
    rules don't find, and sums up; without one, the rules do.
    `earlier` gives the embedder of a space that was configured before, if it still can embed: it
    answers until every memory has a vector of `embedder`. `held` tells which backups may hold what
    was forgotten.
    """
    if not await db.read(partial(vectors.has_begun, space=embedder.space)):
        await db.write(partial(vectors.begin, space=embedder.space))
    mirror = MirrorFollower(db, config.search.hnsw_ef, lambda: parts.vectors.wake())
    arriving = folder.with_name("incoming")
    await asyncio.to_thread(incoming.clear, arriving)
    parts = Parts(
        config=config,
        db=db,
        embedder=embedder,
        text=TextFollower(db, folder),
        vectors=VectorFollower(db, embedder, config.search.batch_size, mirror, earlier),
        mirror=mirror,
        documents=DocumentSweeper(db),
        access=AccessFollower(db, clock, config.ranking.access_half_life_days),
        incoming=arriving,
        clock=clock,
        bus=bus,
        places=(*PLACES, *places),
        held=held,
    )
    parts.vectors.space = (await db.read(vectors.standing)).space
    memory = SqliteMemory(parts, Guard(db, clock, check_after_s), model)
    await memory.resume()
    memory._tasks = (
        asyncio.create_task(memory._guard.run(), name="memory-guard"),
        asyncio.create_task(memory._upkeep.jobs.follow(), name="memory-jobs"),
        *(
            [asyncio.create_task(memory._reader.run(), name="memory-reading")]
            if memory._reader is not None
            else []
        ),
        *(
            asyncio.create_task(follower.run(), name=f"memory-{follower.name}")
            for follower in memory._followers()
        ),
    )
    unsubscribe = bus.subscribe(TurnFinished, memory.remember_turn)
    try:
        yield memory
    finally:
        unsubscribe()
        for task in memory._tasks:
            task.cancel()
        await asyncio.gather(*memory._tasks, return_exceptions=True)
        await parts.access.close()
        await parts.mirror.close()
        await parts.text.close()
