"""Keeping the mirror of the vectors behind their table, and searching through it.

At start it is filled from the table, a chunk at a time, and what it finds missing or damaged is
embedded anew. Then it is told of every row that was written, and looks at that row again. What
it finds is confirmed by the table in the snapshot of the search, so it never serves what was
forgotten, changed or moved out of what the search narrows to, however far it is behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from sonia.db import READERS, Database
from sonia.log import get_logger
from sonia.memory import vectors
from sonia.memory.following import Follower
from sonia.memory.interface import Query
from sonia.memory.mirror import Held, Mirror

CHUNKS = 8  # in one read: at most some milliseconds for others to wait
ROWS = 4_096
EXAMINED_MORE = 2  # so many times what is asked for is compared exactly, at the least

Found = Callable[[apsw.Connection], list[tuple[int, float]]]


class MirrorFollower(Follower):
    """Works whenever rows were written. `lost` is called when the table turns out damaged."""

    name = "mirror"

    def __init__(self, db: Database, examine: int, lost: Callable[[], None]) -> None:
        super().__init__(db)
        self._examine = examine
        self._lost = lost
        self._doubted: set[int] = set()
        self._doubting = threading.Lock()
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="nearest")
        self.live: Mirror | None = None

    async def run(self) -> None:
        """Be told of what is written from now on, then follow."""
        loop = asyncio.get_running_loop()

        def tell(numbers: set[int]) -> None:
            self._doubt(numbers)
            loop.call_soon_threadsafe(self.wake)

        self._db.on_change("memory_entries", tell)
        await super().run()

    def take(self, space: str, held: Sequence[tuple[int, Held]], made: NDArray[np.float32]) -> None:
        """These rows of `made` have just been kept in the table."""
        mirror = self.live
        if (
            held
            and mirror is not None
            and (mirror.space, mirror.dimensions)
            == (
                space,
                made.shape[1],
            )
        ):
            mirror.take([row for _, row in held], made[[index for index, _ in held]])
            self._doubt({row.number for _, row in held})

    def near(self, vector: NDArray[np.float32], query: Query, limit: int, *, space: str) -> Found:
        """Begin to look, in a thread beside. What is returned waits for that, and says what
        `vectors.nearest` would say in the snapshot it is given; nothing if `space` is no longer
        what answers.
        """
        mirror, size = self.live, len(vector)
        if mirror is None or not mirror.ready or (mirror.space, mirror.dimensions) != (space, size):
            looking = None
        else:
            examine = max(self._examine, EXAMINED_MORE * limit)
            looking = self._threads.submit(mirror.nearest, vector, query, examine)

        def found(c: apsw.Connection) -> list[tuple[int, float]]:
            standing = vectors.standing(c)
            if (standing.space, standing.dimensions) != (space, size):
                return []
            if looking is None:
                return vectors.nearest(c, vector, query, limit)
            numbers, cosines = looking.result()
            return _confirmed(c, query, limit, numbers.tolist(), cosines.tolist())

        return found

    async def close(self) -> None:
        """When nothing searches any more."""
        await asyncio.to_thread(self._threads.shutdown)

    def vectors(
        self, numbers: Sequence[int], *, space: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Of these, those whose vectors of this space are in memory, unconfirmed: only to compare.

        Nothing while the mirror fills.
        """
        mirror = self.live
        if mirror is None or not mirror.ready or mirror.space != space:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        return mirror.vectors(numbers)

    def _doubt(self, numbers: set[int]) -> None:
        with self._doubting:
            self._doubted |= numbers

    def _doubts(self) -> list[int]:
        with self._doubting:
            numbers = sorted(self._doubted)
            self._doubted = set(numbers[ROWS:])
        return numbers[:ROWS]

    async def _step(self) -> bool:
        standing = await self._db.read(vectors.standing)
        mirror = self.live
        if not standing.dimensions:
            self.live = None
            return bool(self._doubts())
        try:
            if mirror is None or (mirror.space, mirror.dimensions) != (
                standing.space,
                standing.dimensions,
            ):
                await self._fill(Mirror(standing.space, standing.dimensions))
                return True
            if not (numbers := self._doubts()):
                return False
            await self._look_again(mirror, numbers)
        except vectors.VectorsDamaged as error:
            get_logger("memory-engine").warning("vectors lost; embedding again", reason=str(error))
            await self._db.write(vectors.lose)
            self.live = None
            self._lost()
        return True

    async def _fill(self, mirror: Mirror) -> None:
        self.live = mirror  # so that `take` reaches it meanwhile
        after: int | None = 0
        while after is not None:
            after = await self._db.read(partial(_load_chunks, mirror=mirror, after=after))
        last = await self._db.read(vectors.last_number)
        for first in range(1, last + 1, ROWS):
            missing = await self._db.read(
                partial(_admit, mirror=mirror, first=first, last=first + ROWS - 1)
            )
            if missing:
                await self._find_missing(mirror, missing)
        mirror.ready = True
        self._doubt(set(mirror.strays()))

    async def _look_again(self, mirror: Mirror, numbers: list[int]) -> None:
        held = await self._db.read(partial(vectors.held_of, numbers=numbers))
        gone = set(numbers).difference(row.number for row in held)
        mirror.drop(gone)
        if missing := mirror.admit(held):
            await self._find_missing(mirror, missing)

    async def _find_missing(self, mirror: Mirror, numbers: list[int]) -> None:
        """Read these one by one; what has no sound vector is embedded anew."""
        read = partial(_load_rows, mirror=mirror, numbers=numbers)
        if missing := await self._db.read(read):
            await self._db.write(partial(vectors.unmark, numbers=missing))
            get_logger("memory-engine").warning("vectors made anew", count=len(missing))
            self._lost()


def _load_chunks(c: apsw.Connection, mirror: Mirror, after: int) -> int | None:
    """Load some chunks; return the last one's id, or none when there are no more."""
    for _ in range(CHUNKS):
        chunk = vectors.chunk_after(c, after)
        if chunk is None:
            return None
        after, numbers, made = chunk
        mirror.load(numbers, made)
    return after


def _admit(c: apsw.Connection, mirror: Mirror, first: int, last: int) -> list[int]:
    return mirror.admit(vectors.held_between(c, first, last))


def _load_rows(c: apsw.Connection, mirror: Mirror, numbers: list[int]) -> list[int]:
    found, made = vectors.vectors_of(c, numbers)
    mirror.load(found, made)
    return mirror.admit(vectors.held_of(c, numbers))


def _confirmed(
    c: apsw.Connection, query: Query, limit: int, numbers: list[int], cosines: list[float]
) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for start in range(0, len(numbers), limit):
        slice_: list[Any] = list(zip(numbers, cosines, strict=True))[start : start + limit]
        there = vectors.confirmed(c, [number for number, _ in slice_], query)
        found += [(n, vectors.similarity(cosine)) for n, cosine in slice_ if n in there]
        if len(found) >= limit:
            break
    return found[:limit]
