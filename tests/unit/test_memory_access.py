"""What turns use ranks a little higher, does not fade, and is counted behind the answer."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia.config import MemoryEngine, Ranking
from sonia.errors import StorageFull
from sonia.memory import (
    Hit,
    NewMemory,
    Query,
    SearchMode,
    SqliteMemory,
    access,
    fading,
    following,
    store,
)
from sonia.memory.access import MOST_WAITING
from sonia.memory.ranking import USED_MUCH, reinforcement
from sonia.types import MemoryId
from tests.memory_given import Clock, opened

DAY = dt.timedelta(days=1)
WEIGHT = Ranking().access_weight


async def put(memory: SqliteMemory, *contents: str, kind: str = "fact") -> list[MemoryId]:
    new = [NewMemory(type=kind, content=content, importance=0.4) for content in contents]
    return [entry.id for entry in await memory.store_many(new)]


async def use(memory: SqliteMemory, *ids: MemoryId, times: int = 1) -> None:
    for _ in range(times):
        memory.touch(ids)
    await memory._parts.access.settled()


async def hits(memory: SqliteMemory, words: str, mode: SearchMode = "hybrid") -> list[Hit]:
    await memory.settled()
    return list((await memory.search(Query(query=words, mode=mode, explain=True))).hits)


def gained(hit: Hit) -> float:
    return (hit.parts or {})["access"]


def reinforced(relevance: float, accesses: float) -> float:
    return float(reinforcement(np.array([relevance]), np.array([accesses]))[0])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e9))
def test_however_often_it_is_used_it_passes_nothing_that_fits_clearly_better(
    less: float, more: float, times: float
) -> None:
    total = less + WEIGHT * reinforced(less, times)

    assert less <= total <= less * (1 + WEIGHT) + 1e-12
    if more > less * (1 + WEIGHT) + 1e-9:
        assert total < more


@given(st.floats(0.01, 1), st.floats(0, 100), st.floats(0, 100))
def test_more_use_never_counts_less(relevance: float, some: float, further: float) -> None:
    assert reinforced(relevance, 0) == 0
    assert reinforced(relevance, some) <= reinforced(relevance, some + further)
    assert reinforced(relevance, USED_MUCH + some) == pytest.approx(relevance)


async def test_of_two_that_fit_alike_the_used_one_is_first(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=Clock()) as memory:
        used, other = await put(
            memory, "The heron nests by the mill", "The heron nests by the weir"
        )
        before = await hits(memory, "heron nests", "text")
        await use(memory, used)
        after = await hits(memory, "heron nests", "text")

    assert [hit.entry.id for hit in before] == [other, used], "of equals, the newer"
    assert [gained(hit) for hit in before] == [0, 0]
    assert [hit.entry.id for hit in after] == [used, other]
    assert after[0].score == pytest.approx(sum((after[0].parts or {}).values()))
    assert (0 < gained(after[0]) < WEIGHT, gained(after[1])) == (True, 0)
    assert after[1].score == pytest.approx(before[0].score), "nothing is taken from the others"


async def test_what_is_unrelated_stays_below_however_often_it_was_used(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=Clock()) as memory:
        right, unrelated = await put(
            memory, "The spare key is under the pot", "The boiler and the pot were serviced"
        )
        await use(memory, unrelated, times=100)
        found = await hits(memory, "where is the spare key to the pot")

    assert [hit.entry.id for hit in found] == [right, unrelated]
    assert gained(found[1]) > 0 == gained(found[0])


async def test_a_use_long_ago_counts_little(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        (once,) = await put(memory, "The heron nests by the mill")
        await use(memory, once, times=4)
        gains = []
        for _ in range(3):
            clock.at += 30 * DAY
            gains.append(gained((await hits(memory, "heron nests"))[0]))
        await use(memory, once)
        held = await memory._parts.db.read(lambda c: access.accesses(c, [1], clock.at, 30.0))

    assert gains[0] > gains[1] > gains[2] > 0
    assert held == {1: pytest.approx(4 / 2**3 + 1)}


async def test_a_clock_that_went_back_makes_no_use_more_than_one(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        (once,) = await put(memory, "The heron nests by the mill")
        await use(memory, once)
        clock.at -= 90 * DAY
        await use(memory, once)
        held = await memory._parts.db.read(lambda c: access.accesses(c, [1], clock.at, 30.0))

    assert held == {1: 2.0}


async def test_without_a_weight_use_counts_nothing(tmp_path: Path) -> None:
    config = MemoryEngine(ranking=Ranking(access_weight=0))
    async with opened(tmp_path, clock=Clock(), config=config) as memory:
        (once,) = await put(memory, "The heron nests by the mill")
        await use(memory, once)

        assert [gained(hit) for hit in await hits(memory, "heron")] == [0]


async def test_what_was_touched_at_the_end_is_counted_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        (once,) = await put(memory, "The heron nests by the mill")
        memory.touch([once])
    async with opened(tmp_path) as memory:
        assert gained((await hits(memory, "heron"))[0]) > 0


async def test_what_is_forgotten_takes_its_count_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        gone, kept = await put(memory, "The code is 1815", "The heron nests by the mill")
        await use(memory, gone, kept)
        memory.touch([gone])
        await memory.forget(gone)
        await use(memory, gone, MemoryId("mem_unknown"))
        held = await memory._parts.db.read(
            lambda c: c.execute("SELECT number FROM memory_access").fetchall()
        )

    assert held == [(2,)]


async def test_what_a_full_disk_kept_from_being_counted_is_counted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = access.add, [StorageFull("Full.")]

    def full(*args: object, **named: object) -> None:
        if failures:
            raise failures.pop()
        write(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(access, "add", full)
    monkeypatch.setattr(following, "FIRST_RETRY_S", 0.0)
    async with opened(tmp_path, clock=Clock()) as memory:
        (once,) = await put(memory, "The heron nests by the mill")
        await use(memory, once)

        assert not failures
        assert gained((await hits(memory, "heron"))[0]) > 0


async def test_what_waits_to_be_counted_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        for number in range(MOST_WAITING + 5):
            memory.touch([MemoryId(f"mem_{number}")])

        assert len(memory._parts.access._touched) == MOST_WAITING
        await use(memory)
        assert not memory._parts.access._touched


async def test_what_is_used_does_not_fade(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        used, _ = await put(memory, "I went to the zoo", "I went to the lake", kind="episode")
        clock.at += 250 * DAY
        await use(memory, used)
        clock.at += 50 * DAY

        first = await memory.run_job("decay")
        left = [hit.entry.id for hit in (await memory.search(Query(query=""))).hits]
        clock.at += 300 * DAY
        second = await memory.run_job("decay")

    assert (first.outcome, left) == ({"archived": 1}, [used])
    assert second.outcome == {"archived": 1}, "since it was last used, it has faded like any other"


async def test_strength_in_the_table_is_strength_in_words_of_what_is_used_too(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        settings = memory._parts.config.decay
        ids = await put(memory, "I went to the zoo", "I went to the lake", kind="episode")
        clock.at += 100 * DAY
        await use(memory, ids[0])
        for _ in range(4):
            clock.at += 60 * DAY
            found, entries, used_at = await memory._parts.db.read(
                lambda c: (
                    fading.faded(c, settings, clock.at),
                    store.entries(c, [1, 2]),
                    access.last_used(c, [1, 2]),
                )
            )
            weak = [
                number
                for number, entry in entries.items()
                if fading.strength(entry, clock.at, settings, used_at.get(number))
                < settings.archive_below
            ]
            assert sorted(found) == sorted(weak)
        assert sorted(found) == [1, 2]
