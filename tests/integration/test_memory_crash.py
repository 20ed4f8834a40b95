"""Memory through kills and lost indexes: what was acknowledged is there, and is found."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from sonia.memory import NewMemory, Query, SqliteMemory
from sonia.types import MemoryId
from tests.integration.memory_writer import MANY
from tests.memory_given import BLNS, NASTY, opened

ROOT = Path(__file__).parent.parent.parent
KILLS = 4
AT_LEAST = 100


async def acknowledged_before_a_kill(
    folder: Path, first: int, acks: int, *how: str
) -> dict[str, str]:
    """Let a process store until it has acknowledged `acks`, kill it, return all it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.memory_writer",
        str(folder),
        str(first),
        *how,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(acks)]
    process.kill()
    lines += (await process.stdout.read()).splitlines()
    await process.wait()
    said = (line.split() for line in lines if len(line.split()) == 2)
    return {memory_id.decode(): word.decode() for memory_id, word in said}


async def assert_all_agree(memory: SqliteMemory, acknowledged: dict[str, str]) -> None:
    """Every acknowledged memory is in the table and in both indexes, and nothing else is."""
    await memory.settled()
    stats = await memory.stats()
    assert stats.memories == stats.text_documents == stats.vectors >= len(acknowledged)
    for memory_id, word in acknowledged.items():
        entry = await memory.recall(MemoryId(memory_id))
        assert entry.content == f"the word is {word}"
    for memory_id, word in random.sample(sorted(acknowledged.items()), 25):
        for mode in ("text", "vector"):
            found = await memory.search(Query(query=f"the word is {word}", mode=mode, limit=1))
            assert [hit.entry.id for hit in found.hits] == [memory_id]


async def test_r01_a_killed_process_loses_no_acknowledged_memory(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for kill in range(KILLS):
        acks = AT_LEAST + random.randrange(150)
        said = await acknowledged_before_a_kill(tmp_path, (kill + 1) * 1_000_000, acks)
        assert len(said) >= acks
        acknowledged |= said

        async with opened(tmp_path) as memory:
            await assert_all_agree(memory, acknowledged)


async def test_r01_of_many_stored_at_once_all_are_there_or_none(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for kill in range(2):
        acks = AT_LEAST + random.randrange(150)
        said = await acknowledged_before_a_kill(tmp_path, (kill + 1) * 1_000_000, acks, "many")
        assert len(said) >= acks - MANY
        acknowledged |= said

        async with opened(tmp_path) as memory:
            await assert_all_agree(memory, acknowledged)
            assert (await memory.stats()).memories % MANY == 0


async def filled(folder: Path, count: int = 300) -> None:
    async with opened(folder) as memory:
        await asyncio.gather(
            *(
                memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
                for number in range(count)
            )
        )
        await memory.settled()


def generations(folder: Path) -> set[str]:
    """The text indexes there are: one, named anew when it is rebuilt."""
    return {path.name for path in (folder / "text-index").iterdir()}


def delete_all(index: Path) -> None:
    shutil.rmtree(index)


def delete_a_segment(index: Path) -> None:
    next(index.rglob("*.term")).unlink()


def truncate_a_segment(index: Path) -> None:
    largest = max(index.rglob("*.idx"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def flip_a_bit(index: Path) -> None:
    largest = max(index.rglob("*.term"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 3] ^= 0x10
    largest.write_bytes(data)


def flip_a_byte_of_a_store(index: Path) -> None:
    store = next(index.rglob("*.store"))
    data = bytearray(store.read_bytes())
    data[0] ^= 0xFF
    store.write_bytes(data)


def spoil_the_list(index: Path) -> None:
    next(index.rglob("meta.json")).write_text("{")


def empty_the_list(index: Path) -> None:
    meta = next(index.rglob("meta.json"))
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "segments": []}))


@pytest.mark.parametrize(
    "damage",
    [
        delete_all,
        delete_a_segment,
        truncate_a_segment,
        flip_a_bit,
        flip_a_byte_of_a_store,
        spoil_the_list,
        empty_the_list,
    ],
)
async def test_r08_a_damaged_text_index_is_rebuilt_and_answers_meanwhile(
    tmp_path: Path, damage: object
) -> None:
    await filled(tmp_path)
    before = generations(tmp_path)
    assert callable(damage)
    await asyncio.to_thread(damage, tmp_path / "text-index")

    async with opened(tmp_path) as memory:
        meanwhile = await memory.search(Query(query="word123", mode="text"))
        await memory.settled()
        rebuilt = await memory.search(Query(query="word123", mode="text"))
        stats = await memory.stats()

    for found in (meanwhile, rebuilt):
        assert [hit.entry.content for hit in found.hits] == ["the word is word123"]
    assert stats.text_documents == 300
    assert before.isdisjoint(generations(tmp_path))


async def test_r08_a_segment_that_was_never_finished_is_no_damage(tmp_path: Path) -> None:
    await filled(tmp_path)
    before = generations(tmp_path)
    (folder,) = (tmp_path / "text-index").iterdir()
    (folder / f"{'0' * 31}1.store").write_bytes(b"half a segm")

    async with opened(tmp_path) as memory:
        await memory.settled()
        found = await memory.search(Query(query="word123", mode="text"))

    assert [hit.entry.content for hit in found.hits] == ["the word is word123"]
    assert generations(tmp_path) == before


async def test_r08_an_index_that_goes_while_it_is_used_is_rebuilt(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as memory:
        await memory.settled()
        await asyncio.to_thread(shutil.rmtree, tmp_path / "text-index")

        await memory.store(NewMemory(type="fact", content="the word is new"))
        await memory.settled()

        found = await memory.search(Query(query="new word123", mode="text", limit=2))
        assert {hit.entry.content for hit in found.hits} == {
            "the word is new",
            "the word is word123",
        }
        assert (await memory.stats()).text_documents == 301


async def test_t42_the_naughty_strings_are_stored_found_and_given_back(tmp_path: Path) -> None:
    known = BLNS.is_file()
    texts = json.loads(await asyncio.to_thread(BLNS.read_text)) if known else list(NASTY)
    texts = [text for text in texts if text]
    async with opened(tmp_path) as memory:
        stored = await asyncio.gather(
            *(memory.store(NewMemory(type="note", content=text)) for text in texts)
        )
        await memory.settled()

        for text, entry in zip(texts, stored, strict=True):
            assert (await memory.recall(entry.id)).content == text
            for mode in ("text", "hybrid"):
                await memory.search(Query(query=text, mode=mode))
        assert (await memory.stats()).text_documents == len(texts)
