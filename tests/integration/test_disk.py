"""R03, R09: what a full disk and a long reader do to memory."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from benchmarks.memory_log import trial
from sonia import db as db_module
from sonia import disk
from sonia.db import Database, connect
from sonia.errors import StorageFull
from sonia.memory import Entry, NewMemory, Query, SqliteMemory
from tests.disk_given import leave_free, resize, small_disk
from tests.memory_given import opened

MEGABYTE = 1024 * 1024


async def fill(memory: SqliteMemory) -> list[Entry]:
    """Store until the disk is full; what was acknowledged."""
    kept: list[Entry] = []

    async def store_on() -> None:
        for n in range(10_000):
            content = f"Crane {n} flies north. " + f"{n:06d}" * 1_000
            kept.append(await memory.store(NewMemory(type="fact", content=content)))

    with pytest.raises(StorageFull, match="disk is full") as raised:
        await store_on()
    assert raised.value.status == 507
    return kept


async def test_r03_a_full_disk_stops_writing_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 96 * MEGABYTE) as folder:
        async with opened(folder) as memory:
            leave_free(folder, 3 * MEGABYTE)
            kept = await fill(memory)

            for entry in kept:
                assert (await memory.recall(entry.id)) == entry
            found = await memory.search(Query(query="crane 5 flies", mode="text", limit=1))
            assert len(found.hits) == 1
            detail = await memory.probe()
            assert detail["memories"] == len(kept)
            assert detail["storage"]["writable"] is False  # type: ignore[index]
            assert (await memory.check()).ok

            await memory.forget(kept[0].id)
            kept += await fill(memory)

            resize(folder, 192 * MEGABYTE)
            after = await memory.store(NewMemory(type="fact", content="There is room again."))
            await memory.settled()
            checked = await memory.check()
            detail = await memory.probe()

    assert checked.ok
    assert checked.rows["memory_entries"] == len(kept)
    assert detail["storage"]["writable"] is True  # type: ignore[index]
    assert detail["storage"]["reserve_bytes"] > 0  # type: ignore[index]
    assert after.content == "There is room again."
    told = capsys.readouterr().out
    assert "the disk is full or failing" in told
    assert "the disk has room again" in told


async def test_r03_on_a_full_disk_forgetting_has_the_last_space_to_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 96 * MEGABYTE) as folder:
        async with opened(folder) as memory:
            leave_free(folder, 3 * MEGABYTE)
            kept = await fill(memory)
            leave_free(folder, 0)
            forgetting, written = True, list[Entry]()

            async def keep_writing() -> None:
                while forgetting:
                    new = NewMemory(type="fact", content="A crane lands. " + "c" * 50_000)
                    with suppress(StorageFull):
                        written.append(await memory.store(new))

            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(keep_writing())
                for entry in kept[:20]:
                    await memory.forget(entry.id)
                forgetting = False
            (folder / "ballast").unlink()
            await memory.settled()
            left = await memory.stats()

    assert not written
    assert left.memories == len(kept) - 20


async def test_r03_a_start_on_a_full_disk_serves_what_there_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 96 * MEGABYTE) as folder:
        async with opened(folder) as memory:
            leave_free(folder, 3 * MEGABYTE)
            kept = await fill(memory)
        async with opened(folder) as memory:
            assert (await memory.recall(kept[-1].id)) == kept[-1]
            assert (await memory.stats()).memories == len(kept)
            await memory.forget(kept[1].id)
            assert (await memory.stats()).memories == len(kept) - 1


async def test_r09_a_long_reader_is_told_of_and_the_log_is_short_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "LOG_BYTES", 512 * 1024)
    monkeypatch.setattr(disk, "LOG_RETRY_S", 0.02)
    monkeypatch.setattr(db_module, "LOG_RETRY_S", 0.02)
    async with opened(tmp_path) as memory:
        db = memory._parts.db
        with closing(connect(tmp_path / "sonia.db", read_only=True)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM memory_entries").fetchall()
            for n in range(100):
                await memory.store(NewMemory(type="fact", content=f"{n} " + "z" * 20_000))
            during = db.condition()
            detail = await memory.probe()
        await until_short(db)
        after = db.condition()

    assert during.log_bytes > 2_000_000
    assert during.log_alarm
    assert detail["storage"]["log_alarm"] is True  # type: ignore[index]
    assert after.log_bytes <= 512 * 1024
    told = capsys.readouterr().out
    assert told.count("a reader has been at an old state") == 1
    assert "the write-ahead log is short again" in told


async def until_short(db: Database) -> None:
    async with asyncio.timeout(60):
        while db.condition().log_alarm:  # noqa: ASYNC110  the writer's thread sees to it
            await asyncio.sleep(0.01)


async def test_r09_reads_that_overlap_without_end_do_not_keep_the_log_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "LOG_BYTES", 512 * 1024)
    monkeypatch.setattr(disk, "LOG_RETRY_S", 0.0)
    async with opened(tmp_path) as memory:
        db = memory._parts.db
        written = asyncio.Event()

        def slow(c: apsw.Connection) -> None:
            c.execute("SELECT count(*) FROM memory_entries").fetchall()
            threading.Event().wait(0.005)

        async def keep_reading() -> None:
            while not written.is_set():
                await db.read(slow)

        async def keep_writing() -> int:
            longest = 0
            for n in range(100):
                await memory.store(NewMemory(type="fact", content=f"{n} " + "z" * 20_000))
                longest = max(longest, db.condition().log_bytes)
            written.set()
            return longest

        longest, *_ = await asyncio.gather(keep_writing(), *(keep_reading() for _ in range(8)))

    assert longest < 1_500_000  # all that was written is over 2 MB
    assert "a reader has been at an old state" not in capsys.readouterr().out


async def test_r09_the_log_stays_short_under_many_small_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOG_BYTES", 512 * 1024)
    monkeypatch.setattr(disk, "LOG_RETRY_S", 0.0)
    async with opened(tmp_path) as memory:
        result = await trial(memory, tmp_path / "sonia.db-wal", writes=200)
        stats = await memory.stats()

    assert stats.memories == result.writes == 200
    assert result.longest < 1_500_000  # all that was written is several times that
