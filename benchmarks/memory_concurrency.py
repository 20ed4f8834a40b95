"""Fifty writers and fifty readers at once: is anything lost, torn or slow?

    python -m benchmarks.memory_concurrency                     a minute, as shipped
    python -m benchmarks.memory_concurrency --pools 1,2,4,8     so many reading threads, in turn

Each writer stores, reads back what it stored by its id and by its words, and changes every fourth
memory. Each reader searches, recalls, and counts; a count may never go down, and a memory that was
acknowledged must be there, whole. At the end every row is compared with its SHA-256. Vectors come
from a hash, so that the store is measured and no model. Takes `--seconds` per pool and a little.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia import db as db_module
from sonia.app import MIGRATIONS
from sonia.config import MemoryEngine
from sonia.db import open_database
from sonia.events import Bus
from sonia.memory import Change, Memory, NewMemory, Query, open_memory
from sonia.types import MemoryId

PLACES = ("harbour", "orchard", "station", "library", "garden", "bakery", "museum", "bridge")


class Hashing:
    """Unit vectors that depend on the text and mean nothing."""

    space = "hashing-384"
    dimensions = 384

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return `[len(texts), 384]`."""
        made = np.stack(
            [np.random.default_rng(abs(hash(text))).normal(size=self.dimensions) for text in texts]
        )
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


class Trial(msgspec.Struct, kw_only=True):
    """What came of it. Latencies in milliseconds; `problems` should be empty."""

    writes: int = 0
    reads: int = 0
    write_ms: list[float] = []
    read_ms: list[float] = []
    problems: list[str] = []
    kept: dict[str, str] = {}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Memory]:
    """The memory engine as shipped, over `folder`."""
    async with (
        open_database(folder / "sonia.db", MIGRATIONS) as db,
        open_memory(MemoryEngine(), db, Hashing(), Bus(), folder / "text-index") as memory,
    ):
        yield memory


class Load:
    """Writers and readers of one memory, for `seconds` or until each writer has stored `each`."""

    def __init__(
        self, memory: Memory, writers: int, seconds: float | None, each: int | None
    ) -> None:
        self.result = Trial()
        self._memory = memory
        self._writers = writers
        self._each = each
        self._until = None if seconds is None else time.perf_counter() + seconds
        self.ended = asyncio.Event()

    def _over(self, done: int) -> bool:
        if self._each is not None and done >= self._each:
            return True
        return self._until is not None and time.perf_counter() >= self._until

    async def write(self, writer: int) -> None:
        """Store one after the other, and read each back."""
        done = 0
        while not self._over(done):
            content = f"Writer {writer} met number {done} at the {PLACES[done % 8]}."
            started = time.perf_counter()
            entry = await self._memory.store(NewMemory(type="fact", content=content))
            if done % 4 == 3:
                content += " It rained."
                entry = await self._memory.change(entry.id, Change(content=content))
            self.result.write_ms.append((time.perf_counter() - started) * 1000)
            self.result.writes += 1
            self.result.kept[entry.id] = content
            await self._same(entry.id)
            done += 1

    async def read(self, reader: int) -> None:
        """Recall, search and count until the writers have ended."""
        chance = random.Random(reader)
        seen = 0
        while not self.ended.is_set():
            started = time.perf_counter()
            dice = chance.random()
            if dice < 0.4 and self.result.kept:
                await self._same(chance.choice(list(self.result.kept)[-200:]))
            elif dice < 0.94:
                words = f"writer {chance.randrange(self._writers)} {chance.choice(PLACES)}"
                await self._memory.search(Query(query=words, mode="hybrid", limit=10))
            else:
                seen = await self._counted(seen)
            self.result.read_ms.append((time.perf_counter() - started) * 1000)
            self.result.reads += 1

    async def _same(self, memory_id: str) -> None:
        said = self.result.kept[memory_id]
        if (await self._memory.recall(MemoryId(memory_id))).content != said:
            self.result.problems.append(f"{memory_id} is not what was written")

    async def _counted(self, seen: int) -> int:
        count = (await self._memory.stats()).memories
        if count < seen:
            self.result.problems.append(f"the count went from {seen} to {count}")
        return count


async def trial(
    memory: Memory,
    *,
    writers: int,
    readers: int,
    seconds: float | None = None,
    each: int | None = None,
) -> Trial:
    """Write and read at once."""
    load = Load(memory, writers, seconds, each)

    async def all_writers() -> None:
        try:
            await asyncio.gather(*(load.write(writer) for writer in range(writers)))
        finally:
            load.ended.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(all_writers())
        for reader in range(readers):
            group.create_task(load.read(reader))
    return load.result


async def afterwards(memory: Memory, result: Trial) -> None:
    """Everything acknowledged is there and whole, in the rows and in both indexes."""
    for memory_id, content in result.kept.items():
        if (await memory.recall(MemoryId(memory_id))).content != content:
            result.problems.append(f"{memory_id} is lost")
    found = await memory.check()
    if not found.ok:
        result.problems.append(f"damaged: {found.faults} {found.damaged_rows} rows")


async def measured(pool: int, args: argparse.Namespace) -> str:
    """One line of the table."""
    db_module.READERS = pool
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as memory:
            for start in range(0, args.memories, 500):
                await asyncio.gather(
                    *(
                        memory.store(NewMemory(type="fact", content=f"Before {n} at the bridge."))
                        for n in range(start, min(start + 500, args.memories))
                    )
                )
            started = time.perf_counter()
            result = await trial(
                memory, writers=args.writers, readers=args.readers, seconds=args.seconds
            )
            took_s = time.perf_counter() - started
            await afterwards(memory, result)
    for problem in result.problems[:10]:
        print(f"  {problem}")
    cells = [
        f"{pool:>5}",
        f"{result.writes / took_s:>9.0f}",
        f"{_at(result.write_ms, 50):>8.1f}",
        f"{_at(result.write_ms, 99):>8.1f}",
        f"{result.reads / took_s:>8.0f}",
        f"{_at(result.read_ms, 50):>8.1f}",
        f"{_at(result.read_ms, 99):>8.1f}",
        f"{len(result.problems):>9}",
    ]
    return " ".join(cells)


def _at(values: list[float], percent: int) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def main() -> None:
    """Print a table, a line per pool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--writers", type=int, default=50)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--memories", type=int, default=5_000, help="stored before it begins")
    parser.add_argument(
        "--pools",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[db_module.READERS],
        help="numbers of reading threads to try",
    )
    args = parser.parse_args()
    print(f"{args.writers} writers, {args.readers} readers, {args.seconds:g} s each, milliseconds")
    print(" pool  writes/s      p50      p99  reads/s      p50      p99  problems")
    for pool in args.pools:
        print(asyncio.run(measured(pool, args)), flush=True)


if __name__ == "__main__":
    main()
