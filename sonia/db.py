"""One SQLite file: one writer thread, a few read-only readers, forward-only migrations.

A write is a function of the connection. Writes that wait together share one transaction (each
in its own savepoint), so a hundred at once cost one `fsync`; each returns only after the commit
is on the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import sqlite_vec

from sonia.errors import Conflict, Internal, SoniaError, StorageFull, Unavailable
from sonia.types import now, rfc3339

T = TypeVar("T")
Work = Callable[[apsw.Connection], Any]

READERS = 2
BATCH = 512
BUSY_MS = 5_000
LOG_WAIT_MS = 100
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class SchemaTooNew(Conflict):
    """The file was written by a newer Sonia than this one."""


class SchemaChanged(Conflict):
    """A migration that was applied has other content now."""


class MigrationFailed(Internal):
    """A migration's SQL does not fit this database; nothing was changed."""


class Database:
    """Use `open_database`. Both methods raise what `work` raises, SQLite's errors as ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._writer: threading.Thread | None = None

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread; return when it is durable.

        If `work` raises, what it wrote is undone and nothing else is. Cancelling stops the
        waiting, not a write that has begun. Raises `StorageFull` when the disk is.
        """
        if self._closed.is_set():
            raise Unavailable("The database is closed.")
        future: Future[T] = Future()
        self._jobs.put((work, future))
        return await asyncio.wrap_future(future)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` on a read-only connection, in one snapshot."""
        if self._closed.is_set():
            raise Unavailable("The database is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def compact(self) -> None:
        """Write the file anew: what was deleted is in no corner of a page any more.

        `secure_delete` overwrites what is deleted, but not what moved when a page was split.
        Writes wait meanwhile, reads do not. Needs as much free space again as the file takes.
        """
        await self.write(_Alone(_compact))

    async def empty_log(self) -> bool:
        """Move the write-ahead log into the file and cut it to nothing.

        False when a reader still needs it.
        """
        return await self.write(_Alone(_empty_log))

    def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = connect(self.path, read_only=True)
                self._local.connection = connection
                self._opened.append(connection)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise translate(error) from error

    # --- the writer thread ---------------------------------------------------------------

    def _write_loop(self, connection: apsw.Connection) -> None:
        try:
            while (first := self._jobs.get()) is not None:
                if isinstance(first[0], _Alone):
                    _run_alone(connection, first)
                    continue
                batch, stop = [first], False
                while len(batch) < BATCH and not self._jobs.empty():
                    job = self._jobs.get()
                    if job is None:
                        stop = True
                        break
                    if isinstance(job[0], _Alone):
                        self._jobs.put(job)  # behind what has come meanwhile
                        break
                    batch.append(job)
                self._commit(connection, batch)
                if stop:
                    break
        finally:
            with suppress(apsw.Error):  # on a full disk the log stays, and is read when reopened
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()

    def _commit(self, connection: apsw.Connection, batch: list[tuple[Work, Future[Any]]]) -> None:
        # From here on nobody can cancel: a future that is cancelled while its write is being
        # answered would end this thread.
        batch = [job for job in batch if job[1].set_running_or_notify_cancel()]
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                done.append((future, *_attempt(connection, work)))
            connection.execute("COMMIT")
        except apsw.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            done = [(future, None, translate(error)) for _, future in batch]
        for future, value, failure in done:
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(failure)

    # --- lifetime ------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            connection = connect(self.path)
        except apsw.Error as error:
            raise translate(error) from error
        self._writer = threading.Thread(
            target=self._write_loop, args=(connection,), name="db-write", daemon=True
        )
        self._writer.start()

    def _stop(self) -> None:
        self._jobs.put(None)
        self._readers.shutdown(wait=True)
        for connection in self._opened:
            connection.close()
        if self._writer:
            self._writer.join()
        while not self._jobs.empty():
            job = self._jobs.get()
            if job and job[1].set_running_or_notify_cancel():
                job[1].set_exception(Unavailable("The database is closed."))


class _Alone:
    """Work that runs between transactions, in none."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, connection: apsw.Connection) -> Any:
        return self.work(connection)


def _run_alone(connection: apsw.Connection, job: tuple[Work, Future[Any]]) -> None:
    work, future = job
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = work(connection)
    except apsw.Error as error:
        future.set_exception(translate(error))
    else:
        future.set_result(value)


def _compact(connection: apsw.Connection) -> None:
    connection.execute("PRAGMA temp_store=FILE")  # the copy may be larger than the memory
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store=MEMORY")


def _empty_log(connection: apsw.Connection) -> bool:
    connection.set_busy_timeout(LOG_WAIT_MS)
    try:
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
    finally:
        connection.set_busy_timeout(BUSY_MS)
    return not busy


def _attempt(connection: apsw.Connection, work: Work) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT job")
    try:
        value = work(connection)
    except (apsw.FullError, apsw.IOError):
        raise  # the whole batch is lost: the transaction can't be trusted any more
    except Exception as error:  # noqa: BLE001  handed to whoever asked for this write
        connection.execute("ROLLBACK TO job; RELEASE job")
        return None, translate(error) if isinstance(error, apsw.Error) else error
    connection.execute("RELEASE job")
    return value, None


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open the file with our pragmas and sqlite-vec loaded."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(BUSY_MS)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    if not read_only:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
    return connection


def translate(error: apsw.Error) -> SoniaError:
    """Give SQLite's errors their place in our tree."""
    if isinstance(error, apsw.FullError | apsw.IOError):
        return StorageFull("The disk is full or failing; this was not saved. Free some space.")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable("The database is busy. Try again.")
    return Internal("The database refused this. The log has the details under this id.")


@asynccontextmanager
async def open_database(path: Path, migrations: Path) -> AsyncIterator[Database]:
    """Make or open the file, bring its schema up to date, and serve it until left.

    The file and its folder are readable by their owner only. Raises `SchemaTooNew`,
    `SchemaChanged`, `StorageFull`.
    """
    await asyncio.to_thread(_prepare, path, migrations)
    database = Database(path)
    await asyncio.to_thread(database._start)
    try:
        yield database
    finally:
        database._closed.set()  # on the loop, where `write` looks: no job can slip in behind
        await asyncio.to_thread(database._stop)


# --- migrations --------------------------------------------------------------------------


def _prepare(path: Path, migrations: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        raise StorageFull(f"{path} can't be made: {error.strerror}.", path=str(path)) from error
    try:
        connection = connect(path)
        try:
            _migrate(connection, path, migrations)
        finally:
            connection.close()
    except apsw.Error as error:
        raise translate(error) from error


def _migrate(connection: apsw.Connection, path: Path, migrations: Path) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
    )
    files = {file.name: file for file in sorted(migrations.glob("*.sql")) if _NAME.match(file.name)}
    rows = connection.execute("SELECT name, sha256 FROM schema_migrations")
    applied = {str(name): str(digest) for name, digest in rows}
    if unknown := sorted(set(applied) - set(files)):
        raise SchemaTooNew(
            f"{path} was written by a newer Sonia (it has {unknown[-1]}). Update this one, "
            "or restore a backup made before the update.",
            unknown=unknown,
        )
    pending = [name for name in files if name not in applied]
    for name, file in files.items():
        if name in applied and applied[name] != _digest(file):
            raise SchemaChanged(f"{name} is not what was applied to {path}. Restore the file.")
    if pending and applied:
        _copy(connection, path.with_name(f"{path.name}.before-{pending[0][:4]}"))
    with connection:  # all of them or none: a file between two versions suits neither
        for name in pending:
            _apply(connection, files[name])


def _apply(connection: apsw.Connection, file: Path) -> None:
    try:
        for _ in connection.execute(file.read_text(encoding="utf-8")):
            pass  # a statement that answers rows would hold up those behind it
    except apsw.SQLError as error:
        raise MigrationFailed(
            f"The migration {file.name} can't be applied: {error}. The database is as it was."
        ) from error
    connection.execute(
        "INSERT INTO schema_migrations VALUES (?, ?, ?)",
        (file.name, _digest(file), rfc3339(now())),
    )


def _copy(connection: apsw.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
