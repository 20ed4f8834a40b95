"""Fifty writers and fifty readers at once; the full minute is `benchmarks.memory_concurrency`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory_concurrency import afterwards, trial
from sonia.memory import Query
from tests.memory_given import opened


async def test_fifty_writers_and_fifty_readers_lose_and_tear_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        result = await trial(memory, writers=50, readers=50, each=4)
        await memory.settled()
        await afterwards(memory, result)
        stats = await memory.stats()
        found = await memory.search(Query(query="writer 49 number 3", mode="text", limit=1))

    assert result.problems == []
    assert result.reads > 0
    assert stats.memories == stats.text_documents == stats.vectors == result.writes == 200
    assert found.hits[0].entry.content == "Writer 49 met number 3 at the library. It rained."
