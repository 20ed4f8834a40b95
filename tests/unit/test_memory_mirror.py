"""The nearest vectors: as the table has them, whatever the mirror holds."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonia.config import MemoryEngine, Search
from sonia.db import Database, open_database
from sonia.memory import Change, NewMemory, Query, SqliteMemory, following, vectors
from sonia.memory.mirror import BLOCK, Held, Mirror
from tests.memory_given import MIGRATIONS, HashingEmbedder, opened

WORDS = [f"word{number}" for number in range(40)]


def alike(count: int, dimensions: int = 96, seed: int = 1) -> NDArray[np.float32]:
    """Vectors as embeddings are: near a few directions each, with some noise."""
    topics = np.random.default_rng(0).normal(size=(60, dimensions))
    rng = np.random.default_rng(seed)
    mixed = topics[rng.integers(60, size=count)] + 0.7 * topics[rng.integers(60, size=count)]
    made = mixed + 0.5 * rng.normal(size=(count, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def held(number: int, **changed: Any) -> Held:
    fields = {"type": "fact", "user_id": "owner", "session_id": None, "valid_from": number}
    return Held(number=number, version=1, **(fields | changed))


def filled(made: NDArray[np.float32], **changed: Any) -> Mirror:
    mirror = Mirror("space", made.shape[1])
    mirror.take([held(number + 1, **changed) for number in range(len(made))], made)
    mirror.ready = True
    return mirror


def numbers_of(
    mirror: Mirror, vector: NDArray[np.float32], query: Query, examine: int
) -> list[int]:
    return [int(number) for number in mirror.nearest(vector, query, examine)[0]]


def test_recall_rises_with_the_number_of_vectors_examined() -> None:
    made, asked = alike(12_000, 384), alike(40, 384, seed=2)
    mirror = filled(made)
    exact = [set((np.argsort(-(made @ vector))[:10] + 1).tolist()) for vector in asked]

    def recall(examine: int) -> float:
        found = [
            set(numbers_of(mirror, vector, Query(query="x"), examine)[:10]) for vector in asked
        ]
        return sum(len(a & b) for a, b in zip(found, exact, strict=True)) / (10 * len(asked))

    recalls = [recall(examine) for examine in (10, 40, 200, 1000)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < 0.98 < recalls[2] <= recalls[3], recalls


def test_among_very_many_memories_more_are_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    made = alike(1_600)
    mirror = filled(made)

    few = numbers_of(mirror, made[0], Query(query="x"), 10)
    monkeypatch.setattr("sonia.memory.mirror.MANY", 100)
    more = numbers_of(mirror, made[0], Query(query="x"), 10)

    assert len(few) < 40 <= len(more)


def test_few_rows_that_are_asked_for_are_found_among_many() -> None:
    made = alike(BLOCK + 500)
    mirror = filled(made)
    far = -made[0]
    few = [5, 300, BLOCK + 100]
    mirror.take([held(n, type="task", user_id="ada", session_id=f"s{n}") for n in few], made[few])

    assert set(numbers_of(mirror, far, Query(query="x", types=("task", "odd")), 3)) == set(few)
    assert set(numbers_of(mirror, far, Query(query="x", user_id="ada"), 3)) == set(few)
    assert numbers_of(mirror, far, Query(query="x", session_id="s300"), 1) == [300]
    assert numbers_of(mirror, far, Query(query="x", session_id="s301"), 9) == []
    since = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=BLOCK + 499)
    assert set(numbers_of(mirror, far, Query(query="x", since=since), 9)) == {
        BLOCK + 499,
        BLOCK + 500,
    }


def test_of_very_many_alike_only_some_are_examined() -> None:
    mirror = filled(np.repeat(alike(1), 5_000, axis=0))

    assert len(numbers_of(mirror, alike(1)[0], Query(query="x"), 100)) <= 200


def test_a_later_version_stays_and_what_was_dropped_is_gone() -> None:
    old, new = alike(2)
    mirror = Mirror("space", 96)
    mirror.take([Held(7, 2, "fact", "owner", None, 0)], new[np.newaxis])
    mirror.take([Held(7, 1, "fact", "owner", None, 0)], old[np.newaxis])
    mirror.load(np.array([7]), old[np.newaxis])
    numbers, cosines = mirror.nearest(new, Query(query="x"), 5)
    assert (numbers.tolist(), round(float(cosines[0]), 2)) == ([7], 1.0)

    mirror.drop([7, 8])

    assert numbers_of(mirror, new, Query(query="x"), 5) == []
    assert not any(
        block.halves.any() or block.first.any() or block.rest.any()
        for block in mirror._blocks.values()
    )


async def by_table(memory: SqliteMemory, query: Query) -> list[tuple[int, float]]:
    vector = (await HashingEmbedder().embed([query.query]))[0]
    return await memory._parts.db.read(lambda c: vectors.nearest(c, vector, query, query.limit))


async def by_mirror(memory: SqliteMemory, query: Query) -> list[tuple[int, float]]:
    vector = (await HashingEmbedder().embed([query.query]))[0]
    near = memory._parts.mirror.near
    return await memory._parts.db.read(
        lambda c: near(vector, query, query.limit, space="hashing")(c)
    )


async def assert_same(memory: SqliteMemory, query: Query) -> None:
    mirror = memory._parts.mirror.live
    assert mirror is not None
    assert mirror.ready
    table, found = await by_table(memory, query), await by_mirror(memory, query)
    assert sorted(dict(table)) == sorted(dict(found))
    for number, similarity in found:
        assert similarity == pytest.approx(dict(table)[number], abs=1e-3)


async def test_after_any_changes_the_mirror_finds_what_the_table_has(tmp_path: Path) -> None:
    chosen = random.Random(3)
    live = []
    for _ in range(3):  # and after every restart
        async with opened(tmp_path) as memory:
            for step in range(60):
                what = chosen.random()
                if what < 0.6 or not live:
                    words = " ".join([*chosen.sample(WORDS, 3), f"n{len(live)}x{step}"])
                    live.append(
                        await memory.store(
                            NewMemory(
                                type=chosen.choice(["fact", "task"]),
                                content=words,
                                user_id=chosen.choice(["owner", "ada"]),
                            )
                        )
                    )
                elif what < 0.8:
                    entry = chosen.choice(live)
                    changed = Change(content=" ".join(chosen.sample(WORDS, 4)) + str(step))
                    at = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=step)
                    await memory.change(entry.id, chosen.choice([changed, Change(valid_from=at)]))
                else:
                    await memory.forget(live.pop(chosen.randrange(len(live))).id)
            await memory.settled()

            until = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
            for query in (
                Query(query="word1 word2", limit=1000),
                Query(query="word3", types=("task",), limit=1000),
                Query(query="word3", user_id="ada", types=("fact", "task"), limit=1000),
                Query(query="word4", until=until, limit=1000),
                Query(query="word4", since=until, user_id="owner", limit=1000),
            ):
                await assert_same(memory, query)


async def test_a_mirror_that_is_behind_serves_nothing_forgotten_or_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as memory:
        gone = await memory.store(NewMemory(type="fact", content="green tea"))
        changed = await memory.store(NewMemory(type="fact", content="green tea leaves"))
        moved = await memory.store(NewMemory(type="fact", content="green tea pot"))
        await memory.settled()
        monkeypatch.setattr(following, "GATHER_S", 3600.0)

        await memory.forget(gone.id)
        await memory.change(changed.id, Change(content="a train to Ghent"))
        await memory.change(moved.id, Change(valid_from=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)))
        since = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)

        assert [number for number, _ in await by_mirror(memory, Query(query="green tea"))] == [3]
        assert await by_mirror(memory, Query(query="green tea", since=since)) == []


async def test_a_setting_of_hnsw_ef_never_hides_the_few_that_are_asked_for(tmp_path: Path) -> None:
    config = MemoryEngine(search=Search(hnsw_ef=1))
    async with opened(tmp_path, config=config) as memory:
        for number in range(50):
            await memory.store(NewMemory(type="fact", content=f"green tea {number}"))
        task = await memory.store(NewMemory(type="task", content="something else"))
        await memory.settled()

        query = Query(query="green tea", mode="vector", types=("task",), limit=1)
        assert [hit.entry.id for hit in (await memory.search(query)).hits] == [task.id]


# --- damage ------------------------------------------------------------------------------


async def spoiled(folder: Path, *statements: str) -> None:
    async with opened(folder) as memory:
        for number in range(30):
            await memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
        await memory.settled()
    async with open_database(folder / "sonia.db", MIGRATIONS) as db:
        await _execute(db, statements)


async def _execute(db: Database, statements: tuple[str, ...]) -> None:
    for statement in statements:
        await db.write(lambda c, sql=statement: c.execute(sql).fetchall())


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE memory_vectors_chunks",
        "DROP TABLE memory_vectors_vector_chunks00",
        "DELETE FROM memory_vectors_vector_chunks00",
        "UPDATE memory_vectors_vector_chunks00 SET vectors = substr(vectors, 1, 999)",
        "UPDATE memory_vectors_vector_chunks00 SET vectors = zeroblob(length(vectors))",
        "UPDATE memory_vectors_chunks SET rowids = zeroblob(8)",
        "DELETE FROM memory_vectors WHERE rowid IN (3, 7)",
    ],
)
async def test_r08_damaged_vectors_are_made_anew_and_searches_answer_meanwhile(
    tmp_path: Path, damage: str
) -> None:
    await spoiled(tmp_path, damage)

    async with opened(tmp_path) as memory:
        meanwhile = await memory.search(Query(query="word7"))
        await memory.settled()
        await memory.settled()
        stats = await memory.stats()
        healed = await memory.search(Query(query="the word is word7", mode="vector", limit=1))
        await assert_same(memory, Query(query="word7", limit=1000))

    assert meanwhile.hits[0].entry.content == "the word is word7"
    assert [hit.entry.content for hit in healed.hits] == ["the word is word7"]
    assert (stats.vectors, stats.unembedded) == (30, 0)
