"""R07, R28: every earlier schema comes up to date with all its data, or stays as it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sonia import app, backups, restoring, schema
from sonia.control import chain
from sonia.db import connect, open_database
from sonia.errors import StorageFull
from sonia.memory import Query
from sonia.schema import SchemaTooNew
from sonia.types import MemoryId, now
from tests import golden
from tests.disk_given import leave_free, small_disk
from tests.memory_given import MIGRATIONS, opened

ROOT = Path(__file__).parents[2]
EARLIER = golden.LEVELS[:-1]


@pytest.mark.parametrize("level", golden.LEVELS)
async def test_r07_every_earlier_schema_keeps_all_its_data(tmp_path: Path, level: str) -> None:
    path = tmp_path / "data" / "sonia.db"
    before = await asyncio.to_thread(golden.make, level, path, tmp_path / "sql")

    async with opened(path.parent) as memory:
        await memory.settled()
        with closing(connect(path, read_only=True)) as c:
            after = golden.rows(c, before)
            audit = list(chain(c))
        if level >= "0002":
            for number in range(1, 21):
                entry = await memory.recall(MemoryId(f"mem_{number}"))
                assert entry.content == golden.contents(number)
            found = await memory.search(Query(query="heron 7 pond 7", mode="text", limit=1))
            assert [hit.entry.id for hit in found.hits] == ["mem_7"]
            versions = await memory.versions(MemoryId("mem_1"))
            assert [entry.content[:15] for entry in versions] == [
                "Heron 1 stood i",
                "Heron 1 stands ",
            ]
            assert len(await memory.history("ses_1")) == 20
        checked = await memory.check()

    if level < "0004":  # where they came from was in another column
        for row in before.get("memory_entries", []):
            row.pop("source", None)
        for row in after.get("memory_entries", []):
            row.pop("source", None)
    lost = {name: [row for row in rows if row not in after[name]] for name, rows in before.items()}
    assert not any(lost.values()), lost
    assert checked.ok
    assert [(batch.rows, batch.damaged) for batch in audit] == [(1, ())]
    copies = [p.name for p in path.parent.glob("*.before-*")]
    assert len(copies) == (0 if level == golden.LEVELS[-1] else 1)


def test_r07_a_migration_killed_at_any_statement_is_done_or_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "sonia.db"
    golden.make("0002_memory.sql", path, tmp_path / "sql")

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.integration.migration_killer",
            str(path),
            str(tmp_path / "work"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.stderr == ""
    assert int(done.stdout) > 20


async def test_r07_a_disk_that_fills_during_a_migration_leaves_the_old_file(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "sonia.db"
    before = await asyncio.to_thread(golden.make, "0004_memory_truth.sql", whole, tmp_path / "sql")
    refused = 0

    with small_disk(tmp_path / "disk", 16 * 1024 * 1024) as disk:
        for kilobytes in (0, 64, 160, 192, 224, 256, 320, 448, 4096):
            path = disk / "sonia.db"
            for left in disk.glob("sonia.db*"):
                left.unlink()
            (disk / "ballast").unlink(missing_ok=True)
            await asyncio.to_thread(path.write_bytes, await asyncio.to_thread(whole.read_bytes))
            leave_free(disk, kilobytes * 1024)
            try:
                async with open_database(path, MIGRATIONS):
                    pass
            except StorageFull:
                refused += 1
            (disk / "ballast").unlink(missing_ok=True)
            with closing(connect(path)) as c:
                assert golden.rows(c, before) == before
                applied = set(schema.applied_to(c))
            assert applied in (set(golden.LEVELS[:4]), set(golden.LEVELS))

    assert 0 < refused < 9


async def test_r28_an_older_sonia_says_why_not_and_takes_the_copy_from_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "sonia.db"
    older = tmp_path / "sql"
    before = await asyncio.to_thread(golden.make, EARLIER[-1], path, older)
    async with open_database(path, MIGRATIONS):
        pass
    upgraded = await asyncio.to_thread(path.read_bytes)

    with pytest.raises(SchemaTooNew, match="restore a backup made before the update"):
        async with open_database(path, older):
            pass
    untouched = await asyncio.to_thread(path.read_bytes)
    copy = next(path.parent.glob("*.before-*"))
    with pytest.raises(SchemaTooNew):
        await asyncio.to_thread(
            restoring.restore, path, path, older, app.CHECKERS, lambda c, known: {}, now()
        )
    done = await asyncio.to_thread(
        restoring.restore, copy, path, older, app.CHECKERS, lambda c, known: {}, now()
    )

    assert untouched == upgraded
    assert done.aside is not None
    assert backups.sha256(Path(done.aside)) == hashlib.sha256(upgraded).hexdigest()
    async with open_database(path, older) as db:
        assert await db.read(lambda c: golden.rows(c, before)) == before
