"""The database file: what is acknowledged is there, and what failed left nothing behind."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from sonia import db as db_module
from sonia.db import Database, open_database
from sonia.errors import Internal, NotFound, StorageFull, Unavailable

WORDS = "CREATE TABLE words (word TEXT PRIMARY KEY) STRICT;"

FILE_LIMIT = """
import asyncio, resource, signal, sys
from pathlib import Path
from sonia.db import open_database
from sonia.errors import StorageFull

def put(word):
    return lambda c: c.execute("INSERT INTO words VALUES (?)", (word,)) and None

def words(c):
    return [word[:9] for (word,) in c.execute("SELECT word FROM words ORDER BY rowid")]

async def main(folder):
    async with open_database(folder / "data" / "sonia.db", folder / "migrations") as db:
        await db.write(put("before"))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, unlimited[1]))
        try:
            await db.write(put("too large" + "x" * 1024 * 1024))
        except StorageFull as error:
            print(error.status)
        print(await db.read(words))
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        await db.write(put("after"))
        print(await db.read(words))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))  # closing can't checkpoint
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    async with open_database(folder / "data" / "sonia.db", folder / "migrations") as db:
        print(await db.read(words))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sonia.db"


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_words.sql").write_text(WORDS)
    return folder


@pytest.fixture
async def db(path: Path, migrations: Path) -> AsyncIterator[Database]:
    async with open_database(path, migrations) as database:
        yield database


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


def one(connection: apsw.Connection, sql: str) -> Any:
    return next(iter(connection.execute(sql)))[0]


class Held:
    """A write that keeps the writer thread busy until it is let go."""

    def __init__(self, db: Database) -> None:
        self._go = threading.Event()
        self._begun = threading.Event()
        self.written = asyncio.ensure_future(db.write(self._work))

    def _work(self, connection: apsw.Connection) -> None:
        self._begun.set()
        assert self._go.wait(10)
        connection.execute("INSERT INTO words VALUES ('held')")

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 10)

    def let_go(self) -> None:
        self._go.set()


async def queued(db: Database, *works: Callable[[apsw.Connection], Any]) -> list[asyncio.Task[Any]]:
    """Writes that wait behind a held one, in this order."""
    before = db._jobs.qsize()
    tasks = [asyncio.create_task(db.write(work)) for work in works]
    await asyncio.sleep(0)
    assert db._jobs.qsize() == before + len(works)
    return tasks


# --- writing ---------------------------------------------------------------------------------


async def test_a_write_that_returned_is_committed(db: Database, path: Path) -> None:
    await db.write(put("kept"))

    assert await asyncio.to_thread(seen_from_outside, path) == ["kept"]


async def test_a_write_returns_what_its_work_returned(db: Database) -> None:
    assert await db.write(lambda connection: connection.changes()) == 0


async def test_writes_that_wait_together_share_one_transaction(db: Database, path: Path) -> None:
    held = Held(db)
    await held.begun()
    outside: list[list[str]] = []
    first, second, look = await queued(
        db, put("one"), put("two"), lambda _: outside.append(seen_from_outside(path))
    )

    held.let_go()
    await asyncio.gather(first, second, look)

    assert outside == [["held"]]
    assert await db.read(words) == ["held", "one", "two"]


async def test_a_write_that_fails_undoes_only_itself(db: Database) -> None:
    def half(connection: apsw.Connection) -> None:
        put("half")(connection)
        raise NotFound("changed my mind")

    held = Held(db)
    await held.begun()
    before, failing, after = await queued(db, put("before"), half, put("after"))
    held.let_go()

    with pytest.raises(NotFound, match="changed my mind"):
        await failing
    await asyncio.gather(before, after)
    assert await db.read(words) == ["held", "before", "after"]


async def test_an_error_of_sqlite_comes_out_as_ours_with_its_cause(db: Database) -> None:
    await db.write(put("once"))

    with pytest.raises(Internal) as raised:
        await db.write(put("once"))

    assert "words" not in raised.value.message
    await db.write(put("again"))
    assert await db.read(words) == ["once", "again"]


async def test_a_write_cancelled_while_it_waits_is_not_made(db: Database) -> None:
    held = Held(db)
    await held.begun()
    cancelled, other = await queued(db, put("cancelled"), put("other"))

    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    held.let_go()
    await other

    assert cancelled.cancelled()
    assert await db.read(words) == ["held", "other"]


async def test_cancelling_a_write_that_has_begun_stops_only_the_waiting(db: Database) -> None:
    held = Held(db)
    await held.begun()

    held.written.cancel()
    await asyncio.gather(held.written, return_exceptions=True)
    held.let_go()
    await db.write(put("next"))

    assert await db.read(words) == ["held", "next"]


async def test_a_waiter_cancelled_while_its_batch_fails_does_not_end_the_writer(
    db: Database,
) -> None:
    held = Held(db)
    await held.begun()
    waiting: list[asyncio.Task[Any]] = []
    cancelled = threading.Event()
    loop = asyncio.get_running_loop()

    def cancel_last() -> None:
        waiting[1].cancel()
        loop.call_soon(cancelled.set)

    def full(_: apsw.Connection) -> None:
        loop.call_soon_threadsafe(cancel_last)
        assert cancelled.wait(10)
        raise apsw.FullError("full")

    waiting += await queued(db, full, put("last"))
    held.let_go()
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(answer) for answer in answers] == [StorageFull, asyncio.CancelledError]
    await db.write(put("alive"))
    assert await db.read(words) == ["held", "alive"]


# --- reading ---------------------------------------------------------------------------------


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(Internal) as raised:
        await db.read(put("smuggled"))

    assert isinstance(raised.value.__cause__, apsw.ReadOnlyError)
    assert await db.read(words) == []


async def test_a_read_sees_one_snapshot_while_writes_go_on(db: Database) -> None:
    await db.write(put("old"))
    looked, written = threading.Event(), threading.Event()

    def twice(connection: apsw.Connection) -> tuple[list[str], list[str]]:
        first = words(connection)
        looked.set()
        assert written.wait(10)
        return first, words(connection)

    reading = asyncio.create_task(db.read(twice))
    await asyncio.to_thread(looked.wait, 10)
    await db.write(put("new"))
    written.set()

    assert await reading == (["old"], ["old"])
    assert await db.read(words) == ["old", "new"]


async def test_a_read_that_fails_leaves_its_connection_usable(db: Database) -> None:
    def fail(connection: apsw.Connection) -> None:
        words(connection)
        raise NotFound("not there")

    for _ in range(2 * db_module.READERS):
        with pytest.raises(NotFound, match="not there"):
            await db.read(fail)

    await db.write(put("fresh"))
    assert await db.read(words) == ["fresh"]


# --- the disk --------------------------------------------------------------------------------


async def test_r02_the_writing_connection_waits_for_the_disk(db: Database) -> None:
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}

    found = await db.write(lambda c: {name: one(c, f"PRAGMA {name}") for name in pragmas})

    assert found == pragmas


async def test_the_file_and_its_folder_are_their_owners_alone(path: Path, migrations: Path) -> None:
    path.parent.mkdir(mode=0o755)
    await asyncio.to_thread(path.touch, mode=0o644)

    async with open_database(path, migrations) as db:
        await db.write(put("secret"))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    names = ("sonia.db", "sonia.db-wal", "sonia.db-shm", "sonia.db.reserve")
    assert modes == dict.fromkeys(names, 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_r03_a_full_disk_refuses_the_write_and_later_ones_succeed(db: Database) -> None:
    def limit(pages: int) -> Callable[[apsw.Connection], None]:
        return lambda c: one(c, f"PRAGMA max_page_count={pages}")

    await db.write(put("before"))
    await db.write(limit(await db.read(lambda c: one(c, "PRAGMA page_count"))))

    with pytest.raises(StorageFull) as raised:
        await db.write(put("x" * 100_000))
    assert raised.value.status == 507
    assert await db.read(words) == ["before"]

    await db.write(limit(1_000_000))
    await db.write(put("after"))
    assert await db.read(words) == ["before", "after"]


async def test_r04_a_file_size_limit_refuses_the_write_and_nobody_dies(
    migrations: Path, tmp_path: Path
) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FILE_LIMIT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stderr == ""
    assert [line for line in done.stdout.splitlines() if "service=database" not in line] == [
        "507",
        "['before']",
        "['before', 'after']",
        "['before', 'after']",
    ]
    assert done.returncode == 0


# --- closing ---------------------------------------------------------------------------------


async def test_writes_waiting_when_it_closes_are_made_and_answered(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations) as db:
        held = Held(db)
        await held.begun()
        (waiting,) = await queued(db, put("waiting"))
        held.let_go()

    await asyncio.gather(held.written, waiting)
    assert seen_from_outside(path) == ["held", "waiting"]


async def test_a_closed_database_says_so_at_once(path: Path, migrations: Path) -> None:
    async with open_database(path, migrations) as db:
        pass

    with pytest.raises(Unavailable, match="closed"):
        await db.write(put("late"))
    with pytest.raises(Unavailable, match="closed"):
        await db.read(words)


async def test_while_it_closes_new_work_is_refused_not_kept_waiting(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations) as db:
        held = Held(db)
        await held.begun()
        asyncio.get_running_loop().call_soon(held.let_go)
        late = asyncio.create_task(db.write(put("late")))  # begins when the leaving has

    with pytest.raises(Unavailable, match="closed"):
        await late
    await held.written
    assert await asyncio.to_thread(seen_from_outside, path) == ["held"]


async def test_work_that_no_writer_took_is_answered_when_it_closes(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations) as db:
        db._jobs.put(None)
        writer = db._writer
        assert writer
        await asyncio.to_thread(writer.join)
        cancelled, left = await queued(db, put("cancelled"), put("left"))
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)

    with pytest.raises(Unavailable, match="closed"):
        await left


async def test_closing_leaves_the_file_its_reserve_and_no_thread(
    path: Path, migrations: Path
) -> None:
    async with open_database(path, migrations) as db:
        await db.write(put("word"))
        await db.read(words)

    assert sorted(f.name for f in path.parent.iterdir()) == ["sonia.db", "sonia.db.reserve"]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("db-")]


async def test_a_writer_that_cannot_open_the_file_stops_the_start(
    path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = db_module._prepare

    def prepare_and_lose(path: Path, migrations: Path) -> None:
        prepare(path, migrations)
        path.unlink()

    monkeypatch.setattr(db_module, "_prepare", prepare_and_lose)

    with pytest.raises(Internal) as raised:
        async with open_database(path, migrations):
            pass

    assert isinstance(raised.value.__cause__, apsw.CantOpenError)


async def test_after_compacting_no_page_keeps_what_was_deleted(db: Database, path: Path) -> None:
    """`secure_delete` alone leaves pieces where pages were split."""
    chance = random.Random(1)
    texts = (f"hush{n:05d}" + "z" * chance.choice([5, 40, 200, 900, 5000]) for n in count())

    def stir(c: apsw.Connection) -> None:
        c.execute("CREATE TABLE IF NOT EXISTS kept (word TEXT PRIMARY KEY, text) WITHOUT ROWID")
        for _ in range(150):
            key = f"{chance.getrandbits(32):x}"
            c.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, next(texts)))
        keys = [row[0] for row in c.execute("SELECT word FROM kept")]
        for key in chance.sample(keys, 50):
            c.execute("DELETE FROM kept WHERE word = ?", (key,))
        for key in chance.sample(keys, 30):
            c.execute("UPDATE kept SET text = ? WHERE word = ?", (next(texts), key))

    def kept(c: apsw.Connection) -> set[bytes]:
        return {str(text)[:9].encode() for (text,) in c.execute("SELECT text FROM kept")}

    for _ in range(30):
        await db.write(stir)
    await db.compact()
    emptied = await db.empty_log()

    held = set(re.findall(rb"hush\d{5}", path.read_bytes()))  # noqa: ASYNC240
    assert (emptied, held) == (True, await db.read(kept))
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0


async def test_a_log_that_a_reader_needs_is_not_emptied(db: Database) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read_long(c: apsw.Connection) -> None:
        c.execute("SELECT count(*) FROM words").fetchall()
        reading.set()
        go_on.wait()

    reader = asyncio.create_task(db.read(read_long))
    await asyncio.to_thread(reading.wait)
    await db.write(put("later"))

    emptied = await db.empty_log()
    go_on.set()
    await reader

    assert not emptied
    assert await db.empty_log()


async def test_of_what_was_written_quietly_nobody_is_told(db: Database) -> None:
    told: list[set[int]] = []
    db.on_change("words", told.append)

    def refuse(connection: apsw.Connection) -> None:
        raise NotFound("There is no such word.")

    await db.write(put("aloud"))
    await db.write(put("quiet"), quiet=True)
    with pytest.raises(NotFound):
        await db.write(refuse, quiet=True)
    await db.write(put("aloud again"))

    assert told == [{1}, {3}]
    assert await db.read(words) == ["aloud", "quiet", "aloud again"]
