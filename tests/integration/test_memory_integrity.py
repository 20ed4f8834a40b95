"""R05: what is not what was written is found, told and never served."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from sonia.db import DatabaseDamaged, connect
from sonia.errors import SoniaError
from sonia.events import TurnFinished
from sonia.memory import Change, EntryDamaged, NewMemory, Query, SqliteMemory
from sonia.memory.digests import incomplete
from sonia.types import MemoryId, now
from tests.memory_given import opened

MEMORIES = 60
FLIPS = 40


async def filled(folder: Path) -> list[str]:
    """Sixty memories, each changed once, and thirty turns; their ids, oldest first."""
    async with opened(folder) as memory:
        made = [
            await memory.store(NewMemory(type="fact", content=f"Badger {n} digs in meadow {n}."))
            for n in range(MEMORIES)
        ]
        for n, entry in enumerate(made):
            await memory.change(entry.id, Change(content=f"Badger {n} sleeps in hollow {n}."))
        for n in range(MEMORIES // 2):
            await memory.remember_turn(turn(n))
        await memory.settled()
    return [entry.id for entry in made]


def turn(n: int) -> TurnFinished:
    return TurnFinished(
        turn_id=f"turn_{n}",
        session_id="ses_1",
        user_id="owner",
        text=f"Where is otter {n}?",
        response=f"In river {n}.",
        complete=True,
        at=now(),
    )


async def served(memory: SqliteMemory, ids: list[str]) -> dict[str, Any]:
    """All that memory gives out, by what it was asked for; what it refuses is missing."""
    answers: dict[str, Any] = {}

    async def ask(name: str, asking: Any) -> None:
        with suppress(SoniaError):
            answers[name] = await asking

    for id in ids:
        await ask(f"recall {id}", memory.recall(MemoryId(id)))
        await ask(f"versions {id}", memory.versions(MemoryId(id)))
    for n in (3, 30, 57):
        await ask(f"search {n}", memory.search(Query(query=f"hollow {n}", mode="text", limit=5)))
    await ask("events", memory.events(limit=1000))
    await ask("history", memory.history("ses_1", limit=1000))
    return answers


def pieces(answers: dict[str, Any]) -> set[str]:
    """Each single value that was given out."""
    found: set[str] = set()
    for answer in answers.values():
        values = answer if isinstance(answer, tuple) else getattr(answer, "hits", (answer,))
        found |= {str(getattr(value, "entry", value)) for value in values}
    return found


def flip(path: Path, seed: int) -> None:
    """One bit: anywhere in the file, every other time within words that are kept."""
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    if seed % 2:
        at = chance.choice([match.start() for match in re.finditer(rb"Badger|Where is", data)])
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


async def test_r05_a_flipped_bit_anywhere_is_never_served(tmp_path: Path) -> None:
    ids = await filled(tmp_path / "whole")
    async with opened(tmp_path / "whole") as memory:
        whole = await served(memory, ids)
    written, refused, missing, unseen = pieces(whole), 0, 0, 0

    for seed in range(FLIPS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shutil.copy(tmp_path / "whole" / "sonia.db", folder)
        flip(folder / "sonia.db", seed)
        try:
            async with opened(folder) as memory:
                answers = await served(memory, ids)
                found = await memory.check()
        except SoniaError:  # it is no database any more
            refused += 1
            continue

        assert pieces(answers) <= written, f"seed {seed}: {pieces(answers) - written}"
        all_there = pieces(answers) == written
        if not all_there:
            assert not found.ok, f"seed {seed}: something is missing and nobody says so"
            missing += 1
        unseen += all_there and found.ok

    assert missing + refused >= FLIPS // 4, (missing, refused, unseen)


def spoil(folder: Path, sql: str) -> None:
    """Change a row behind everybody's back, as a disk would."""
    connection = connect(folder / "sonia.db")
    for name in ("memory_events_are_only_erased", "memory_events_erased_are_undigested"):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("place", "sql"),
    [
        ("memory_entries", "UPDATE memory_entries SET content = 'x' WHERE number = 5"),
        ("memory_entries", "UPDATE memory_entries SET origin = 'web' WHERE number = 5"),
        (
            "memory_entries",
            "UPDATE memory_entries SET content = CAST(x'ff' AS TEXT) WHERE number = 5",
        ),
        ("memory_versions", "UPDATE memory_versions SET content = 'x' WHERE number = 5"),
        ("memory_events", "UPDATE memory_events SET data = '{}' WHERE number = 5"),
        ("memory_events", "UPDATE memory_events SET data = '{' WHERE number = 5"),
    ],
)
async def test_r05_a_row_found_damaged_on_reading_is_listed_and_told(
    tmp_path: Path, place: str, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = await filled(tmp_path)
    spoil(tmp_path, sql)

    async with opened(tmp_path) as memory:
        await served(memory, ids)
        await until(lambda: counted(memory, 1))
        detail = await memory.probe()

    assert detail["damaged"] == 1
    told = capsys.readouterr().out
    assert "a row is damaged and is not served" in told
    assert place in told
    assert "sonia backup restore" in told


async def counted(memory: SqliteMemory, damaged: int) -> bool:
    return (await memory.stats()).damaged == damaged


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110  nothing tells it
            await asyncio.sleep(0.01)


async def test_r05_the_rest_is_found_and_the_damaged_memory_is_an_error(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    spoil(
        tmp_path, "UPDATE memory_entries SET content = CAST(x'ff' AS TEXT) WHERE number IN (3, 4)"
    )

    async with opened(tmp_path) as memory:
        with pytest.raises(EntryDamaged, match="sonia backup list"):
            await memory.recall(MemoryId(ids[2]))
        found = await memory.search(Query(query="", limit=100))

    assert {hit.entry.id for hit in found.hits} == set(ids) - {ids[2], ids[3]}


async def test_r05_damage_is_found_soon_after_a_start(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "UPDATE memory_versions SET importance = 0.9 WHERE number = 7")

    async with opened(tmp_path, check_after_s=0) as memory:
        await until(lambda: counted(memory, 1))


async def test_r05_a_check_says_what_is_damaged_and_forgets_what_is_right_again(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "UPDATE memory_entries SET importance = importance + 0.25 WHERE number < 4")

    async with opened(tmp_path) as memory:
        found = await memory.check()
    undo = connect(tmp_path / "sonia.db")
    undo.execute("UPDATE memory_entries SET importance = importance - 0.25 WHERE number < 3")
    undo.close()
    async with opened(tmp_path) as memory:
        again = await memory.check()
        stats = await memory.stats()

    assert not found.ok
    assert [(item.place, item.number) for item in found.damaged] == [
        ("memory_entries", number) for number in (1, 2, 3)
    ]
    assert found.rows["memory_entries"] == found.rows["memory_versions"] == MEMORIES
    assert found.rows["memory_events"] == 3 * MEMORIES
    assert [item.number for item in again.damaged] == [3]
    assert stats.damaged == 1


async def test_r05_an_erased_row_is_right_and_gets_a_digest_of_its_own(tmp_path: Path) -> None:
    ids = await filled(tmp_path)

    async with opened(tmp_path) as memory:
        await memory.close_session("ses_1")
        await memory.forget(MemoryId(ids[0]))
        during = await memory.check()
    async with opened(tmp_path) as memory:
        await until(lambda: complete(memory))
        after = await memory.check()

    assert during.ok
    assert after.ok


async def complete(memory: SqliteMemory) -> bool:
    return not await memory._parts.db.read(incomplete)


async def test_r05_rows_from_before_there_were_digests_get_theirs(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    connection = connect(tmp_path / "sonia.db")
    connection.execute("UPDATE memory_entries SET digest = NULL")
    connection.execute("UPDATE memory_versions SET digest = NULL")
    connection.execute("DROP TRIGGER memory_events_are_only_erased")
    connection.execute("UPDATE memory_events SET digest = NULL")
    connection.close()

    async with opened(tmp_path) as memory:
        await until(lambda: complete(memory))
        found = await memory.check()
        answers = await served(memory, ids)
    spoil_later = connect(tmp_path / "sonia.db")
    spoil_later.execute("UPDATE memory_entries SET content = 'y' WHERE number = 9")
    spoil_later.close()
    async with opened(tmp_path) as memory:
        after = await memory.check()

    assert found.ok
    assert len(answers) == 2 * MEMORIES + 5
    assert [item.number for item in after.damaged] == [9]


async def test_r05_a_file_that_is_no_longer_a_database_says_what_to_do(tmp_path: Path) -> None:
    await filled(tmp_path)
    with (tmp_path / "sonia.db").open("r+b") as file:
        file.write(b"\0" * 4096)

    with pytest.raises(DatabaseDamaged, match="sonia backup restore"):
        async with opened(tmp_path):
            pass


async def test_r05_a_check_that_is_left_ends_its_thread(tmp_path: Path) -> None:
    await filled(tmp_path)

    async with opened(tmp_path) as memory:
        checking = asyncio.create_task(memory.check())
        await asyncio.sleep(0)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking


def test_the_ledger_takes_a_digest_once_and_no_other_change(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path))
    connection = connect(tmp_path / "sonia.db")

    for change in ("digest = x'00'", "digest = NULL", "at = 1", "data = '{}'", "kind = 'x'"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            connection.execute(f"UPDATE memory_events SET {change} WHERE number = 1")  # noqa: S608
    connection.close()
