"""One SQLite file: one writer thread, a few read-only readers, forward-only migrations.

A write is a function of the connection. Writes that wait together share one transaction (each
in its own savepoint), so a hundred at once cost one `fsync`; each returns only after the commit
is on the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import sqlite_vec

from sonia import schema
from sonia.disk import BUSY_MS, LOG_RETRY_S, Gate, Reserve, WriteAheadLog
from sonia.errors import Internal, SoniaError, StorageFull, Unavailable
from sonia.integrity import reports
from sonia.log import get_logger
from sonia.types import Damage, Value

T = TypeVar("T")
Work = Callable[[apsw.Connection], Any]
Watcher = Callable[[tuple[Damage, ...]], None]
_Answer = tuple[Any, BaseException | None]

READERS = 4  # two slow reads leave room; more only crowd the writer (benchmarks.memory_concurrency)
BATCH = 512
LOG_WAIT_MS = 100
READER_CACHE_KB = 8_192  # each: what a search reads lies all over the file
WRITER_CACHE_KB = 65_536  # a vector lies in a blob of 1.5 MB: with 2 MB each change reads it anew
FULL_RETRY_S = 5.0


class DatabaseDamaged(Internal):
    """SQLite can't make sense of the file."""


class Condition(Value):
    """How the file is. `log_bytes` is the write-ahead log; `log_alarm`: a reader keeps it long."""

    writable: bool
    log_bytes: int
    log_alarm: bool
    reserve_bytes: int
    trouble: str | None = None


class _Job(NamedTuple):
    """A write that waits.

    One that frees space is tried again, with the reserve let go; one that runs alone is in no
    transaction.
    """

    work: Work
    future: Future[Any]
    frees: bool
    alone: bool


class Database:
    """Use `open_database`. Both methods raise what `work` raises, SQLite's errors as ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._changed: dict[str, set[int]] = {}
        self._told: dict[str, list[Callable[[set[int]], None]]] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._writer: threading.Thread | None = None
        self._reserve = Reserve(path)
        self._log: WriteAheadLog | None = None
        self._gate = Gate()
        self._trouble: str | None = None
        self._watchers: list[Watcher] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def condition(self) -> Condition:
        """How the file is, as far as the writer knows."""
        return Condition(
            writable=self._trouble is None,
            trouble=self._trouble,
            log_bytes=self._log.bytes if self._log else 0,
            log_alarm=self._log.alarm if self._log else False,
            reserve_bytes=self._reserve.bytes,
        )

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher`, on the event loop, with damage that reads and writes come across.

        Returns what ends it.
        """
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    async def write(
        self, work: Callable[[apsw.Connection], T], *, frees: bool = False, quiet: bool = False
    ) -> T:
        """Run `work` in a transaction on the writer thread; return when it is durable.

        If `work` raises, what it wrote is undone and nothing else is. Cancelling stops the
        waiting, not a write that has begun. Raises `StorageFull` when the disk is; a `work` that
        `frees` space has the reserve to succeed nonetheless, and may run twice. It has its
        transaction to itself, and may touch very many rows. Of what a `quiet` one changes
        nobody is told.
        """
        return await self._queued(self._quietly(work) if quiet else work, frees=frees)

    def _quietly(self, work: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
        def unheard(connection: apsw.Connection) -> T:
            connection.set_update_hook(None)
            try:
                return work(connection)
            finally:
                connection.set_update_hook(self._note_change)

        return unheard

    async def _queued(
        self, work: Callable[[apsw.Connection], T], *, frees: bool = False, alone: bool = False
    ) -> T:
        if self._closed.is_set():
            raise Unavailable("The database is closed.")
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future, frees, alone))
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
        await self._queued(_compact, alone=True)

    async def empty_log(self) -> bool:
        """Move the write-ahead log into the file and cut it to nothing.

        False when a reader still needs it.
        """
        return await self._queued(_empty_log, alone=True)

    def on_change(self, table: str, tell: Callable[[set[int]], None]) -> None:
        """Have `tell` be given the rowids in `table` that each commit wrote or removed.

        It is called on the writer thread, after the commit and before the write returns: it must
        be quick and may not fail. Not told: a DELETE without WHERE, and tables WITHOUT ROWID.
        """
        self._changed.setdefault(table, set())
        self._told.setdefault(table, []).append(tell)

    def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = connect(self.path, read_only=True)
                self._local.connection = connection
                self._opened.append(connection)
            with reports() as found, self._gate.reading():
                connection.execute("BEGIN")
                try:
                    return work(connection)
                finally:
                    connection.execute("ROLLBACK")
                    self._tell(found)
        except apsw.Error as error:
            raise translate(error) from error

    def _tell(self, found: list[Damage]) -> None:
        if found and self._loop is not None and not self._closed.is_set():
            for watcher in tuple(self._watchers):
                self._loop.call_soon_threadsafe(watcher, tuple(found))

    # --- the writer thread ---------------------------------------------------------------

    def _write_loop(self, connection: apsw.Connection) -> None:
        self._log = log = WriteAheadLog(connection, self.path, self._gate)
        self._reserve.fill()
        connection.set_update_hook(self._note_change)
        try:
            while (first := self._next(log)) is not None:
                if first.alone:
                    _run_alone(connection, first)
                    continue
                batch, stop = [first], False
                while not first.frees and len(batch) < BATCH and not self._jobs.empty():
                    job = self._jobs.get()
                    if job is None:
                        stop = True
                        break
                    if job.alone or job.frees:
                        self._jobs.put(job)  # behind what has come meanwhile
                        break
                    batch.append(job)
                self._commit(connection, batch)
                log.tend()
                if stop:
                    break
        finally:
            log.cut()
            connection.close()

    def _next(self, log: WriteAheadLog) -> _Job | None:
        """The next write; meanwhile a disk that was full and a log that was long are looked at."""
        while True:
            wait_s = LOG_RETRY_S if log.alarm else FULL_RETRY_S if self._trouble else None
            try:
                return self._jobs.get(timeout=wait_s)
            except queue.Empty:
                log.tend()
                if self._trouble and self._reserve.is_room():
                    self._note_trouble(None)

    def _commit(self, connection: apsw.Connection, batch: list[_Job]) -> None:
        # From here on nobody can cancel: a future that is cancelled while its write is being
        # answered would end this thread.
        batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if self._trouble and self._reserve.is_room():
            self._note_trouble(None)
        if self._trouble and not any(job.frees for job in batch):
            # What little room there is belongs to what makes more of it.
            answers: list[_Answer] = [(None, StorageFull(self._trouble)) for _ in batch]
        else:
            answers = self._transaction(connection, batch)
        if any(isinstance(failure, StorageFull) for _, failure in answers):
            answers = [
                self._freeing(connection, job) if job.frees else answer
                for job, answer in zip(batch, answers, strict=True)
            ]
        for job, (value, failure) in zip(batch, answers, strict=True):
            if failure is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(failure)

    def _transaction(self, connection: apsw.Connection, batch: list[_Job]) -> list[_Answer]:
        done: list[_Answer] = []
        for rows in self._changed.values():
            rows.clear()
        with reports() as found:
            try:
                connection.execute("BEGIN IMMEDIATE")
                if len(batch) == 1:
                    done.append(_attempt_only(connection, batch[0].work))
                else:
                    done += [_attempt(connection, job.work) for job in batch]
                if connection.in_transaction:
                    connection.execute("COMMIT")
            except apsw.Error as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                failure = translate(error)
                if isinstance(failure, StorageFull):
                    self._note_trouble(failure.message)
                return [(None, failure) for _ in batch]
        self._tell_changes()
        self._tell(found)
        return done

    def _freeing(self, connection: apsw.Connection, job: _Job) -> _Answer:
        self._reserve.give_back()
        (answer,) = self._transaction(connection, [job])
        if self._log is not None:
            self._log.cut()
        self._reserve.fill(share=1)  # before anybody else takes what this left
        return answer

    def _note_trouble(self, trouble: str | None) -> None:
        if trouble and not self._trouble:
            get_logger("database").error("the disk is full or failing; nothing can be written")
        elif self._trouble and not trouble:
            get_logger("database").info("the disk has room again")
        self._trouble = trouble

    def _note_change(self, _: int, __: str, table: str, row: int) -> None:
        if (rows := self._changed.get(table)) is not None:
            rows.add(row)

    def _tell_changes(self) -> None:
        for table, tells in self._told.items():
            if rows := self._changed[table]:
                for tell in tells:
                    tell(set(rows))

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
            if job and job.future.set_running_or_notify_cancel():
                job.future.set_exception(Unavailable("The database is closed."))


def _run_alone(connection: apsw.Connection, job: _Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    try:
        value = job.work(connection)
    except apsw.Error as error:
        job.future.set_exception(translate(error))
    else:
        job.future.set_result(value)


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


def _attempt_only(connection: apsw.Connection, work: Work) -> _Answer:
    """Without a savepoint, in which each statement costs the more the more came before it."""
    try:
        return work(connection), None
    except (apsw.FullError, apsw.IOError):
        raise
    except Exception as error:  # noqa: BLE001  handed to whoever asked for this write
        connection.execute("ROLLBACK")
        return None, translate(error) if isinstance(error, apsw.Error) else error


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
    if read_only:
        connection.execute(f"PRAGMA cache_size=-{READER_CACHE_KB}")
    else:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KB}")
    return connection


def translate(error: apsw.Error) -> SoniaError:
    """Give SQLite's errors their place in our tree."""
    if isinstance(error, apsw.FullError | apsw.IOError):
        return StorageFull("The disk is full or failing; this was not saved. Free some space.")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DatabaseDamaged(
            "The database file is damaged. Stop Sonia and restore a backup: sonia backup list, "
            "sonia backup restore NAME."
        )
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
    database._loop = asyncio.get_running_loop()
    await asyncio.to_thread(database._start)
    try:
        yield database
    finally:
        database._closed.set()  # on the loop, where `write` looks: no job can slip in behind
        await asyncio.to_thread(database._stop)


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
            schema.migrate(connection, path, migrations)
        finally:
            connection.close()
    except apsw.Error as error:
        raise translate(error) from error
