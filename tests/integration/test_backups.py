"""R06: a backup is whole and checked or is none, and what is restored is what was kept."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from sonia import app, backups, restoring
from sonia.backups import Backup, BackupDamaged, BackupNotFound, open_backups
from sonia.db import connect
from sonia.errors import SoniaError, StorageFull
from sonia.memory import NewMemory, Query
from sonia.schema import SchemaTooNew
from sonia.types import MemoryId, now
from tests.disk_given import leave_free, small_disk
from tests.memory_given import MIGRATIONS, opened

ROOT = Path(__file__).parents[2]


def word(n: int) -> str:
    return f"Lark {n} sings over field {n}."


async def filled(data: Path, count: int = 50) -> list[str]:
    async with opened(data) as memory:
        made = [await memory.store(NewMemory(type="fact", content=word(n))) for n in range(count)]
        await memory.settled()
    return [entry.id for entry in made]


async def make(data: Path) -> Backup:
    return await asyncio.to_thread(
        backups.make, data / "sonia.db", data / "backups", app.CHECKERS, now()
    )


async def restore(source: Path, data: Path) -> restoring.Restored:
    return await asyncio.to_thread(
        restoring.restore, source, data / "sonia.db", MIGRATIONS, app.CHECKERS, app.mend, now()
    )


def drafts(data: Path) -> list[Path]:
    return list(data.glob("sonia.db.restoring*"))


def files_with(data: Path, words: bytes) -> list[Path]:
    """All files but the backups that hold these bytes."""
    files = (path for path in data.rglob("*") if path.is_file() and path.parent.name != "backups")
    return [path for path in files if words in path.read_bytes()]


async def contents(data: Path) -> set[str]:
    async with opened(data) as memory:
        checked = await memory.check()
        assert checked.ok, checked
        found = await memory.search(Query(query="", limit=1000))
    return {hit.entry.content for hit in found.hits}


async def test_r06_a_backup_made_while_writing_is_one_moment_and_restores_elsewhere(
    tmp_path: Path,
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    async with opened(data) as memory:
        before = [word(n) for n in range(100)]
        for content in before:
            await memory.store(NewMemory(type="fact", content=content))
        await memory.settled()
        going = True

        async def keep_writing() -> None:
            n = 1_000
            while going:
                await memory.store(NewMemory(type="fact", content=word(n)))
                n += 1

        writing = asyncio.create_task(keep_writing())
        made = await make(data)
        going = False
        await writing

    other.mkdir()
    done = await restore(data / "backups" / made.name, other)
    async with opened(other) as memory:
        await memory.settled()
        stats = await memory.stats()
        text = await memory.search(Query(query="lark 77 field 77", mode="text", limit=1))
        near = await memory.search(Query(query=word(42), mode="vector", limit=1))

    assert set(before) <= await contents(other)
    assert done.aside is None
    assert stats.memories == stats.text_documents == stats.vectors
    assert stats.memories == made.rows["memory_entries"] >= 100
    assert text.hits[0].entry.content == word(77)
    assert near.hits[0].entry.content == word(42)


async def test_r06_it_is_described_checked_and_its_owners_alone(tmp_path: Path) -> None:
    await filled(tmp_path)

    made = await make(tmp_path)

    path = tmp_path / "backups" / made.name
    assert backups.sha256(path) == made.sha256
    assert made.rows["memory_entries"] == 50
    assert made.schema == max(file.name for file in MIGRATIONS.glob("*.sql"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
    assert backups.listed(path.parent) == (made,)
    assert backups.verify(path, app.CHECKERS).ok


async def test_r06_a_killed_backup_leaves_no_file_that_looks_like_one(tmp_path: Path) -> None:
    await filled(tmp_path, 400)
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.backup_maker",
            "make",
            str(tmp_path),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(random.uniform(0.0, 0.15))
        process.kill()
        await process.stdout.read()
        await process.wait()

    folder = tmp_path / "backups"
    named = [path for path in folder.iterdir() if backups.NAME.fullmatch(path.name)]
    for path in named:
        assert backups.verify(path, app.CHECKERS).ok
        assert backups.described(folder, path.name).sha256 == backups.sha256(path)
    await make(tmp_path)
    assert not list(folder.glob("*.part*"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "another"])
async def test_r06_a_damaged_backup_is_refused_and_the_database_untouched(
    tmp_path: Path, damage: str
) -> None:
    await filled(tmp_path)
    path = tmp_path / "backups" / (await make(tmp_path)).name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[data.index(b"Lark 7 sings")] ^= 1
        (path.parent / f"{path.name}.json").unlink()  # found by its rows alone
    content = {"cut": data[:8192], "emptied": b"", "another": b"no database" * 99}
    path.write_bytes(content.get(damage, bytes(data)))
    before = (tmp_path / "sonia.db").read_bytes()

    with pytest.raises(SoniaError) as raised:
        await restore(path, tmp_path)

    assert "Lark" not in raised.value.message
    assert isinstance(raised.value, BackupDamaged)
    assert (tmp_path / "sonia.db").read_bytes() == before
    assert not drafts(tmp_path)


async def test_r06_a_backup_of_a_newer_sonia_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    connection = connect(tmp_path / "sonia.db")
    connection.execute("INSERT INTO schema_migrations VALUES ('9999_later.sql', '', '')")
    connection.close()
    made = await make(tmp_path)

    with pytest.raises(SchemaTooNew, match="9999_later"):
        await restore(tmp_path / "backups" / made.name, tmp_path)


async def test_r06_what_was_forgotten_since_is_not_in_what_is_restored(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    made = await make(tmp_path)
    async with opened(tmp_path) as memory:
        await memory.forget(MemoryId(ids[7]))
        await memory.settled()

    done = await restore(tmp_path / "backups" / made.name, tmp_path)

    assert done.forgotten
    assert word(7) not in await contents(tmp_path)
    assert word(8) in await contents(tmp_path)
    assert files_with(tmp_path, b"Lark 7 sings") == []


async def test_r06_a_damaged_database_is_kept_aside_and_the_backup_takes_its_place(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    made = await make(tmp_path)
    with (tmp_path / "sonia.db").open("r+b") as file:
        file.write(b"\0" * 4096)
    broken = (tmp_path / "sonia.db").read_bytes()

    done = await restore(tmp_path / "backups" / made.name, tmp_path)

    assert not done.tombstones_complete
    assert done.aside is not None
    assert await asyncio.to_thread(Path(done.aside).read_bytes) == broken
    assert await contents(tmp_path) == {word(n) for n in range(50)}


@pytest.mark.parametrize(
    "where",
    [
        "check:after",
        "copy:after",
        "migrate:before",
        "prepare:after",
        "link:before",
        "link:after",
        "exchange:after",
    ],
)
async def test_r06_a_killed_restore_leaves_the_old_or_the_new(tmp_path: Path, where: str) -> None:
    await filled(tmp_path, 10)
    path = tmp_path / "backups" / (await make(tmp_path)).name
    async with opened(tmp_path) as memory:
        await memory.store(NewMemory(type="fact", content="This came later."))

    done = await asyncio.to_thread(
        subprocess.run,
        [
            sys.executable,
            "-m",
            "tests.integration.backup_maker",
            "restore",
            str(tmp_path),
            str(path),
            where,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )

    assert done.returncode == -9, done.stderr
    kept = {word(n) for n in range(10)}
    after = await contents(tmp_path)
    assert after == (kept if where == "exchange:after" else kept | {"This came later."})
    await restore(path, tmp_path)
    assert await contents(tmp_path) == kept
    assert not drafts(tmp_path)


async def test_r06_a_full_disk_leaves_no_backup_and_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024 * 1024) as disk:
        await filled(disk, 200)
        leave_free(disk, 200_000)
        with pytest.raises(StorageFull, match="MB free"):
            await make(disk)
        monkeypatch.setattr(backups, "SPARE_BYTES", -(10**9))  # it fills while it copies
        with pytest.raises(StorageFull):
            await make(disk)

        assert list((disk / "backups").iterdir()) == []
        (disk / "ballast").unlink()
        assert len(await contents(disk)) == 200


async def test_the_newest_are_kept_and_one_without_damage_always(tmp_path: Path) -> None:
    await filled(tmp_path, 3)
    sound = await make(tmp_path)
    connection = connect(tmp_path / "sonia.db")
    connection.execute("UPDATE memory_entries SET content = 'x' WHERE number = 1")
    connection.close()
    damaged = [await make(tmp_path) for _ in range(3)]

    gone = backups.prune(tmp_path / "backups", 2)

    left = backups.listed(tmp_path / "backups")
    assert all(item.damaged_rows == 1 for item in damaged)
    assert len(gone) == 1
    assert {item.name for item in left} == {sound.name, *(item.name for item in left[:2])}


async def test_they_are_made_by_themselves_when_the_newest_is_old(tmp_path: Path) -> None:
    await filled(tmp_path, 3)
    database, folder = tmp_path / "sonia.db", tmp_path / "backups"
    at = now()

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while len(backups.listed(folder)) < count:  # noqa: ASYNC110  a thread makes it
                await asyncio.sleep(0.01)

    for hours, expected in ((0, 1), (23, 1), (25, 2)):
        later = at + dt.timedelta(hours=hours)
        async with open_backups(
            database,
            folder,
            app.CHECKERS,
            keep=5,
            every_s=86_400,
            clock=lambda later=later: later,  # type: ignore[misc]
            first_after_s=0,
        ):
            await until(expected)
            await asyncio.sleep(0)
        assert len(backups.listed(folder)) == expected


async def test_a_name_that_is_a_path_is_no_backup(tmp_path: Path) -> None:
    await filled(tmp_path, 1)
    async with open_backups(
        tmp_path / "sonia.db", tmp_path / "backups", app.CHECKERS, keep=1, every_s=0
    ) as kept:
        for name in ("../sonia.db", "sonia.db", "", "sonia-20250101T000000Z.db"):
            with pytest.raises(BackupNotFound):
                await kept.remove(name)

    assert (tmp_path / "sonia.db").is_file()
