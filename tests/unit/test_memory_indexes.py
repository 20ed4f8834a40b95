"""The table is the truth; the indexes follow it, and forget with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sonia.config import MemoryEngine, Search
from sonia.db import open_database
from sonia.errors import Internal, Unavailable
from sonia.memory import Change, NewMemory, Query, following, store
from sonia.memory import service as memory_service
from tests.memory_given import (
    MIGRATIONS,
    Clock,
    HangingEmbedder,
    HashingEmbedder,
    LoadingEmbedder,
    opened,
)


def fact(content: str) -> NewMemory:
    return NewMemory(type="fact", content=content)


def everything_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_while_the_embedder_loads_hybrid_finds_by_words(tmp_path: Path) -> None:
    embedder = LoadingEmbedder()
    async with opened(tmp_path, embedder) as memory:
        await memory.store(fact("My dog is called Biscuit"))

        found = await memory.search(Query(query="dog"))

        assert (found.mode, len(found.hits)) == ("text", 1)
        assert (await memory.stats()).unembedded == 1
        with pytest.raises(Unavailable, match="loading"):
            await memory.search(Query(query="dog", mode="vector"))


async def test_once_the_embedder_is_ready_what_waited_is_embedded(tmp_path: Path) -> None:
    embedder = LoadingEmbedder()
    async with opened(tmp_path, embedder) as memory:
        await memory.store(fact("My dog is called Biscuit"))

        embedder.ready.set()
        await memory.settled()

        assert (await memory.stats()).vectors == 1
        assert (await memory.search(Query(query="dog"))).mode == "hybrid"


async def test_batch_size_is_how_many_texts_are_embedded_at_once(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(LoadingEmbedder):
        async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            made = await super().embed(texts)
            sizes.append(len(texts))
            return made

    embedder = Counting()
    config = MemoryEngine(search=Search(batch_size=3))
    async with opened(tmp_path, embedder, config=config) as memory:
        for number in range(7):
            await memory.store(fact(f"the word is {number}"))

        embedder.ready.set()
        await memory.settled()

    assert sizes == [3, 3, 1]


async def test_a_search_does_not_wait_for_an_embedder_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_service, "EMBED_BUDGET_S", 0.01)
    async with opened(tmp_path, HangingEmbedder()) as memory:
        await memory.store(fact("My dog is called Biscuit"))

        found = await memory.search(Query(query="dog"))

        assert (found.mode, len(found.hits)) == ("text", 1)


async def test_an_embedder_may_learn_its_dimensions_late(tmp_path: Path) -> None:
    class Late(LoadingEmbedder):
        @property
        def dimensions(self) -> int:  # type: ignore[override]
            raise Unavailable("Not known yet.")

    embedder = Late()
    embedder._dimensions = 16
    async with opened(tmp_path, embedder) as memory:
        entry = await memory.store(fact("My dog is called Biscuit"))
        await memory.change(entry.id, Change(importance=1.0))
        embedder.ready.set()
        await memory.settled()

        assert len((await memory.search(Query(query="dog", mode="vector"))).hits) == 1


async def test_another_embedding_space_starts_afresh(tmp_path: Path) -> None:
    class Other(HashingEmbedder):
        space = "other"
        dimensions = 32

    async with opened(tmp_path) as memory:
        await memory.store(fact("My dog is called Biscuit"))
        await memory.settled()

    async with opened(tmp_path, Other()) as memory:
        await memory.settled()
        (hit,) = (await memory.search(Query(query="My dog is", mode="vector"))).hits
        stats = await memory.stats()

    assert hit.entry.content == "My dog is called Biscuit"
    assert (stats.embedding_space, stats.vectors, stats.unembedded) == ("other", 1, 0)


async def test_a_changed_memory_is_not_found_by_its_old_vector(tmp_path: Path) -> None:
    embedder = LoadingEmbedder()
    embedder.ready.set()
    async with opened(tmp_path, embedder) as memory:
        entry = await memory.store(fact("green tea"))
        await memory.settled()
        query = Query(query="green tea", mode="vector")
        assert len((await memory.search(query)).hits) == 1

        await memory.change(entry.id, Change(content="a train to Ghent"))
        found_before = await memory.search(query)
        await memory.settled()
        found_after = await memory.search(Query(query="train to Ghent", mode="vector"))

    assert [hit.entry.version for hit in found_before.hits] in ([], [2])
    assert [hit.entry.version for hit in found_after.hits] == [2]


async def test_words_that_were_changed_away_find_nothing_before_the_index_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as memory:
        entry = await memory.store(fact("My dog is called Biscuit"))
        await memory.settled()
        monkeypatch.setattr(following, "GATHER_S", 3600.0)

        await memory.change(entry.id, Change(content="My dog is called Waffle"))

        assert (await memory.search(Query(query="Biscuit", mode="text"))).hits == ()
        assert len((await memory.search(Query(query="Waffle", mode="text"))).hits) == 1


async def test_what_is_forgotten_leaves_every_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        gone = await memory.store(fact("the secret word is xylographer"))
        await memory.store(fact("the other word is tea"))
        await memory.change(gone.id, Change(content="the secret word is xylographers"))
        await memory.settled()
        before = await memory.stats()
        generation = {path.name for path in (tmp_path / "text-index").iterdir()}
        vector = (await HashingEmbedder().embed(["the secret word is xylographers"])).tobytes()

        await memory.forget(gone.id)
        await memory.settled()

        after = await memory.stats()
        assert (before.text_documents, after.text_documents) == (2, 1)
        assert generation.isdisjoint(path.name for path in (tmp_path / "text-index").iterdir())

    files = everything_below(tmp_path)
    assert not any(b"xylograph" in data for data in files)
    assert not any(vector[:32] in data for data in files)
    assert any(b"other word is tea" in data for data in files)


async def test_forgetting_heals_after_a_crash_in_between(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        entry = await memory.store(fact("My dog is called Biscuit"))
        await memory.settled()
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        await db.write(lambda c: store.erase(c, store.number_of(c, entry.id)))

    async with opened(tmp_path) as memory:
        assert (await memory.search(Query(query="dog", mode="text"))).hits == ()
        await memory.settled()
        assert (await memory.stats()).text_documents == 0


async def test_the_ledger_can_not_be_changed_or_cut(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        await memory.append("app.note", {"said": "hello"})
        before = await memory.events()
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        for statement in (
            "DELETE FROM memory_events",
            "UPDATE memory_events SET data = '{}'",
            "UPDATE memory_events SET kind = 'turn.user'",
            "UPDATE memory_events SET data = '{\"erased\":true}', at = 0",
        ):
            with pytest.raises(Internal):
                await db.write(lambda c, sql=statement: c.execute(sql).fetchall())

    async with opened(tmp_path) as memory:
        assert await memory.events() == before


async def test_of_two_alike_the_recent_one_is_found_first(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        recent = await memory.store(fact("the code is 1111"))
        clock.at -= dt.timedelta(days=365)
        await memory.store(fact("the code is 2222"))
        clock.at += dt.timedelta(days=365)

        found = await memory.search(Query(query="code", mode="text", explain=True))

    assert found.hits[0].entry.id == recent.id
    assert found.hits[1].parts is not None
    assert found.hits[1].parts["recency"] < 0.09
