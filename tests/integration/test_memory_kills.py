"""R01, R08: memory's work behind, killed in the middle: the old answers, and it is gone on with."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from sonia.memory import NewDocument, NewMemory, Query
from sonia.types import MemoryId
from tests.integration.memory_victim import DOCUMENT, STEPS
from tests.memory_given import HashingEmbedder, OtherEmbedder, opened

ROOT = Path(__file__).parent.parent.parent
COUNT = 100


async def kill_while(work: str, folder: Path) -> list[str]:
    """What it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.memory_victim",
        work,
        str(folder),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().splitlines()


async def test_r01_embedding_again_that_is_killed_goes_on_and_the_old_vectors_answer(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as memory:
        for number in range(COUNT):
            await memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
        await memory.settled()
    asked = Query(query="the word is word7", mode="vector", limit=1)

    await kill_while("embedding", tmp_path)

    other = OtherEmbedder(allowed=0)
    async with opened(tmp_path, other, earlier={"hashing": HashingEmbedder()}.get) as memory:
        await other.waiting.wait()
        stats = await memory.stats()
        (meanwhile,) = (await memory.search(asked)).hits
        other.go_on.set()
        await memory.settled()
        made = other.made
        after = await memory.stats()
        (found,) = (await memory.search(asked)).hits
    assert (stats.embedding_space, stats.vectors, stats.coming_vectors) == ("hashing", COUNT, 64)
    assert (after.embedding_space, after.vectors, after.unembedded) == ("other", COUNT, 0)
    assert made == COUNT - 64
    assert meanwhile.entry.content == found.entry.content == "the word is word7"


async def test_r08_a_text_index_whose_writer_is_killed_fifteen_times_lacks_nothing(
    tmp_path: Path,
) -> None:
    printed = await kill_while("indexing", tmp_path)
    acknowledged = dict(line.split() for line in printed if line.startswith("mem_"))

    async with opened(tmp_path) as memory:
        await memory.settled()
        stats = await memory.stats()
        found = {
            memory_id: await memory.search(Query(query=word, mode="text", limit=1))
            for memory_id, word in list(acknowledged.items())[:: len(acknowledged) // 30]
        }
        for memory_id, word in acknowledged.items():
            kept = await memory.recall(MemoryId(memory_id))
            assert kept.content == f"the word is {word}"

    assert len(acknowledged) >= 15
    assert stats.memories == stats.text_documents == stats.vectors >= len(acknowledged)
    assert {name: hit.hits[0].entry.id for name, hit in found.items()} == {n: n for n in found}


async def test_r01_of_a_document_whose_reading_is_killed_nothing_is_left(tmp_path: Path) -> None:
    await kill_while("ingesting", tmp_path)

    for step in STEPS:
        async with opened(tmp_path / step) as memory:
            found = await memory.search(Query(query="moss tomatoes", mode="text"))
            await memory.settled()
            stats = await memory.stats()
            left = await memory.documents()
            async with memory.incoming() as incoming:
                await incoming.write(DOCUMENT.encode())
                again = await memory.ingest(incoming, NewDocument(name="garden.md"))
        assert (found.hits, left, stats.memories, stats.text_documents) == ((), (), 1, 1), step
        assert (again.created, again.document.chunks) == (True, 2)
