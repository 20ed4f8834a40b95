"""A process that stores memories, one by one or many at once, and prints the id of each that is
durable."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from sonia.memory import NewMemory, SqliteMemory
from tests.memory_given import HashingEmbedder, opened

AT_ONCE = 8
MANY = 20


async def keep_storing(memory: SqliteMemory, numbers: itertools.count[int]) -> None:
    for number in numbers:
        entry = await memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
        sys.stdout.write(f"{entry.id} word{number}\n")
        sys.stdout.flush()


async def keep_storing_many(memory: SqliteMemory, numbers: itertools.count[int]) -> None:
    embedder = HashingEmbedder()
    for first in numbers:
        words = [f"word{first}x{number}" for number in range(MANY)]
        new = [NewMemory(type="fact", content=f"the word is {word}") for word in words]
        made = await embedder.embed([one.content for one in new])
        entries = await memory.store_many(new, made)
        for word, entry in zip(words, entries, strict=True):
            sys.stdout.write(f"{entry.id} {word}\n")
        sys.stdout.flush()


async def main(folder: Path) -> None:
    keep = keep_storing_many if sys.argv[3:] == ["many"] else keep_storing
    async with opened(folder) as memory, asyncio.TaskGroup() as group:
        numbers = itertools.count(int(sys.argv[2]))
        for _ in range(AT_ONCE):
            group.create_task(keep(memory, numbers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
