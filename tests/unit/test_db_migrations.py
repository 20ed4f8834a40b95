"""Migrations: each once, in order, all or none, and never over data that has no copy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from sonia.db import open_database
from sonia.errors import Conflict, Internal
from sonia.schema import MigrationFailed, SchemaChanged, SchemaTooNew

WORDS = "CREATE TABLE words (word TEXT PRIMARY KEY) STRICT;"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sonia.db"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_words.sql").write_text(WORDS)
    return folder


def put(word: str) -> Callable[[apsw.Connection], None]:
    def work(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO words VALUES (?)", (word,))

    return work


def words(connection: apsw.Connection) -> list[str]:
    return [str(row[0]) for row in connection.execute("SELECT word FROM words ORDER BY rowid")]


def seen_from_outside(path: Path) -> list[str]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return words(connection)
    finally:
        connection.close()


async def test_migrations_are_applied_in_order_and_once(path: Path, migrations: Path) -> None:
    (migrations / "0003_last.sql").write_text("INSERT INTO words SELECT word || '!' FROM words;")
    (migrations / "0002_first.sql").write_text("INSERT INTO words VALUES ('hello');")
    (migrations / "notes.sql").write_text("this is no migration")

    async with open_database(path, migrations):
        pass
    async with open_database(path, migrations) as db:
        ledger = await db.read(lambda c: list(c.execute("SELECT name FROM schema_migrations")))

        assert await db.read(words) == ["hello", "hello!"]
        assert [name for (name,) in ledger] == [
            "0001_words.sql",
            "0002_first.sql",
            "0003_last.sql",
        ]


async def test_every_statement_of_a_migration_runs_though_one_answers_rows(
    path: Path, migrations: Path
) -> None:
    (migrations / "0002_more.sql").write_text(
        "INSERT INTO words VALUES ('a'), ('b') RETURNING word; INSERT INTO words VALUES ('c');"
    )

    async with open_database(path, migrations) as db:
        assert await db.read(words) == ["a", "b", "c"]


async def test_a_migration_that_changed_after_it_was_applied_is_refused(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations):
        pass
    (migrations / "0001_words.sql").write_text(WORDS + " -- and more")

    with pytest.raises(SchemaChanged, match=r"0001_words\.sql"):
        async with open_database(path, migrations):
            pass


async def test_r07_a_file_from_a_newer_sonia_is_refused_and_not_touched(
    path: Path, migrations: Path
) -> None:
    newer = migrations / "0002_newer.sql"
    newer.write_text("CREATE TABLE newer (x) STRICT;".replace("x", "x TEXT"))
    async with open_database(path, migrations):
        pass
    newer.unlink()
    (migrations / "0003_other.sql").write_text("DROP TABLE words;")
    before = await asyncio.to_thread(path.read_bytes)

    with pytest.raises(SchemaTooNew, match=r"0002_newer\.sql") as raised:
        async with open_database(path, migrations):
            pass

    assert isinstance(raised.value, Conflict)
    assert await asyncio.to_thread(path.read_bytes) == before


async def test_r07_a_migration_that_fails_leaves_the_old_schema_and_rows(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations) as db:
        await db.write(put("kept"))
    (migrations / "0002_good.sql").write_text("INSERT INTO words VALUES ('new'); DELETE FROM words")
    broken = migrations / "0003_broken.sql"
    broken.write_text("CREATE TABLE half (x TEXT) STRICT; INSERT INTO nowhere VALUES (1);")

    with pytest.raises(MigrationFailed, match=r"\.sql can't be applied") as raised:
        async with open_database(path, migrations):
            pass

    assert isinstance(raised.value.__cause__, apsw.SQLError)
    assert seen_from_outside(path) == ["kept"]
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert list(connection.execute("SELECT name FROM schema_migrations")) == [("0001_words.sql",)]
    assert not list(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'"))
    connection.close()


async def test_r07_a_copy_is_made_before_a_file_with_data_is_migrated(
    path: Path, migrations: Path
) -> None:
    copy = path.with_name("sonia.db.before-0002")
    async with open_database(path, migrations) as db:
        await db.write(put("old"))
    assert list(path.parent.glob("*.before-*")) == []
    (migrations / "0002_empty.sql").write_text("DELETE FROM words;")

    async with open_database(path, migrations) as db:
        assert await db.read(words) == []

    assert seen_from_outside(copy) == ["old"]
    assert copy.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_no_database_is_refused(path: Path, migrations: Path) -> None:
    path.parent.mkdir()
    letter = b"a letter to a friend, " * 100
    await asyncio.to_thread(path.write_bytes, letter)

    with pytest.raises(Internal) as raised:
        async with open_database(path, migrations):
            pass

    assert isinstance(raised.value.__cause__, apsw.NotADBError)
    assert await asyncio.to_thread(path.read_bytes) == letter
