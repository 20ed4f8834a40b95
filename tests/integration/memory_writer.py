"""A process that stores memories, a few at a time, and prints the id of each that is durable."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from sonia.memory import NewMemory, SqliteMemory
from tests.memory_given import opened

AT_ONCE = 8


async def keep_storing(memory: SqliteMemory, numbers: itertools.count[int]) -> None:
    for number in numbers:
        entry = await memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
        sys.stdout.write(f"{entry.id} word{number}\n")
        sys.stdout.flush()


async def main(folder: Path) -> None:
    async with opened(folder) as memory, asyncio.TaskGroup() as group:
        numbers = itertools.count(int(sys.argv[2]))
        for _ in range(AT_ONCE):
            group.create_task(keep_storing(memory, numbers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
