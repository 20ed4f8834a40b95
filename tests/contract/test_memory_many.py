"""Many memories at once: all of them or none, found like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sonia.errors import InvalidRequest, NotFound
from sonia.memory import NewMemory, Query, Source, SqliteMemory, following
from sonia.types import MemoryId
from tests.memory_given import HashingEmbedder, LoadingEmbedder, opened


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[SqliteMemory]:
    async with opened(tmp_path) as memory:
        yield memory


def many(count: int) -> list[NewMemory]:
    return [
        NewMemory(type="fact", content=f"the word is word{number}", user_id=f"user{number % 2}")
        for number in range(count)
    ]


async def test_each_is_stored_in_order_and_recalled(memory: SqliteMemory) -> None:
    await memory.store(NewMemory(type="fact", content="before"))
    stored = await memory.store_many(many(700))
    after = await memory.store(NewMemory(type="fact", content="after"))

    assert [entry.content for entry in stored] == [new.content for new in many(700)]
    for entry in (stored[0], stored[-1], after):
        assert await memory.recall(entry.id) == entry
    await memory.settled()
    stats = await memory.stats()
    assert stats.memories == stats.vectors == stats.text_documents == 702
    for mode in ("text", "vector"):
        query = Query(query="the word is word123", mode=mode, limit=1)
        assert (await memory.search(query)).hits[0].entry.id == stored[123].id


async def test_the_ledger_names_each_under_its_person(memory: SqliteMemory) -> None:
    stored = await memory.store_many(many(5))

    events = await memory.events(kind="memory.stored")

    told = {event.user_id: event.data["ids"] for event in events}
    assert told == {user: [entry.id for entry in stored if entry.user_id == user] for user in told}
    assert sorted(told) == ["user0", "user1"]


async def test_given_vectors_find_them_at_once_without_an_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "GATHER_S", 3600.0)
    embedder = LoadingEmbedder()
    new = many(50)
    made = await HashingEmbedder().embed([one.content for one in new])
    async with opened(tmp_path, embedder) as memory:
        stored = await memory.store_many(new, made)
        stats = await memory.stats()
        embedder.ready.set()
        (hit,) = (
            await memory.search(Query(query="the word is word7", mode="vector", limit=1))
        ).hits

    assert (stats.vectors, stats.unembedded) == (50, 0)
    assert hit.entry.id == stored[7].id


@pytest.mark.parametrize(
    ("shape", "told"),
    [((2, 64), "one vector for each of the 3"), ((3,), "one vector"), ((3, 8), "8 dimensions")],
)
async def test_vectors_that_do_not_fit_are_refused_and_nothing_is_stored(
    memory: SqliteMemory, shape: tuple[int, ...], told: str
) -> None:
    await memory.store_many(many(1))
    await memory.settled()
    made = np.ones(shape, np.float32)
    made = made / np.linalg.norm(made, axis=-1, keepdims=True)

    with pytest.raises(InvalidRequest, match=told):
        await memory.store_many(many(3), made)

    assert (await memory.stats()).memories == 1


@pytest.mark.parametrize("value", [0.0, 2.0, float("nan"), float("inf")])
async def test_vectors_must_have_the_length_1(memory: SqliteMemory, value: float) -> None:
    with pytest.raises(InvalidRequest, match="length 1"):
        await memory.store_many(many(1), np.full((1, 64), value, np.float32))


async def test_one_that_is_wrong_stops_all(memory: SqliteMemory) -> None:
    unknown = Source(made_from=(MemoryId("mem_unknown"),))
    wrong = [
        msgspec.structs.replace(many(1)[0], content=""),
        msgspec.structs.replace(many(1)[0], type="Bad Type"),
        msgspec.structs.replace(many(1)[0], metadata={"x": "y" * 20_000}),
    ]
    for one in wrong:
        with pytest.raises(InvalidRequest):
            await memory.store_many([*many(3), one])
    with pytest.raises(NotFound):
        await memory.store_many([*many(3), msgspec.structs.replace(many(1)[0], source=unknown)])
    for count in (0, 5_001):
        with pytest.raises(InvalidRequest, match="1 to 5000"):
            await memory.store_many(many(count))

    assert (await memory.stats()).memories == 0
