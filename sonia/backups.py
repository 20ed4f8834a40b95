"""Backups: whole copies of the database, taken while it is written, checked before they count.

A backup is one SQLite file and a manifest beside it. It is copied under another name, read
whole, put on the disk, described, and only then given its name; whatever stops that half-way
leaves no file that looks like a backup. Blocking functions, and `Backups`, which calls them in
threads.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import apsw
import msgspec

from sonia import schema
from sonia.db import connect, translate
from sonia.errors import Conflict, Internal, NotFound, SoniaError, StorageFull
from sonia.integrity import Checker, Stopped, check, check_file
from sonia.log import get_logger
from sonia.types import Integrity, Value, now, rfc3339
from sonia.version import VERSION

T = TypeVar("T")

NAME = re.compile(r"sonia-\d{8}T\d{6}Z(-\d+)?\.db")
DRAFT = ".part"
MANIFEST = ".json"
PAGES = 1_000  # copied between two looks at whether to stop
SPARE_BYTES = 16 * 1024 * 1024
FIRST_AFTER_S = 300.0  # a start has other things to do first
LOOK_EVERY_S = 300.0


class BackupNotFound(NotFound):
    """No backup has this name."""


class BackupDamaged(Internal):
    """The file is not the backup that was made, or not a whole database."""


class BackupUnderWay(Conflict):
    """One is being made at this moment."""


class Backup(Value):
    """What a manifest says. `schema` is the newest migration; `rows` counts by table.

    `damaged_rows` were damaged in the database already when it was copied. What was forgotten
    before `forgotten_until` was forgotten in it after it was made.
    """

    name: str
    created_at: str
    bytes: int
    sha256: str
    version: str
    schema: str
    rows: dict[str, int]
    damaged_rows: int = 0
    forgotten_until: str | None = None


class Verified(Value):
    """A backup that was read again. `same` is whether its SHA-256 is the one in the manifest."""

    name: str
    ok: bool
    same: bool
    integrity: Integrity


# --- making --------------------------------------------------------------------------------


def make(
    database: Path,
    folder: Path,
    checkers: Sequence[Checker],
    at: dt.datetime,
    stop: threading.Event | None = None,
) -> Backup:
    """Copy `database`, check the copy, and give it its name in `folder`.

    Raises `StorageFull`, `BackupDamaged` when the database itself is not whole, `Stopped`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_drafts(folder)
        check_room(folder, database.stat().st_size)
        name = free_name(folder, at)
        draft = folder / f"{name}{DRAFT}"
        try:
            rows = copy(database, draft, stop)
            backup = describe(draft, name, rows, checkers, at, stop)
            publish(folder, draft, backup)
        finally:
            draft.unlink(missing_ok=True)
    except apsw.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise StorageFull(
            f"The backup can't be written to {folder}: {error.strerror}. There is none of this "
            "moment; those from before are as they were."
        ) from error
    return backup


def publish(folder: Path, draft: Path, backup: Backup) -> None:
    """Give a draft its name, its manifest first."""
    describe_as(folder, backup)
    draft.replace(folder / backup.name)
    sync_folder(folder)


def describe_as(folder: Path, backup: Backup) -> None:
    """Write its manifest."""
    manifest = msgspec.json.format(msgspec.json.encode(backup))
    _write(folder / f"{backup.name}{MANIFEST}", manifest)


def copy(source: Path, target: Path, stop: threading.Event | None = None) -> dict[str, int]:
    """Copy a database as it is at this moment, others writing it; how many rows, by table.

    The copy is one file, for its owner only, and on the disk when this returns.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o600))
    with closing(connect(source, read_only=True)) as reader:
        reader.execute("BEGIN")  # one snapshot, however long it takes
        rows = counts(reader)
        with closing(apsw.Connection(str(target))) as writer:
            writer.execute("PRAGMA synchronous=OFF")  # it is put on the disk below, whole
            with writer.backup("main", reader, "main") as copying:
                while not copying.done:
                    copying.step(PAGES)
                    if stop is not None and stop.is_set():
                        raise Stopped
            writer.execute("PRAGMA journal_mode=DELETE")  # one file, not three
        reader.execute("ROLLBACK")
    sync(target)
    return rows


def describe(
    draft: Path,
    name: str,
    rows: dict[str, int],
    checkers: Sequence[Checker],
    at: dt.datetime,
    stop: threading.Event | None = None,
) -> Backup:
    """Read the copy whole. Raises `BackupDamaged` when it is not the database it should be."""
    with closing(connect(draft, read_only=True)) as connection:
        found = check(connection, checkers, stop=stop)
        if found.faults or counts(connection) != rows:
            raise BackupDamaged(
                "The copy is not a whole database, so it was thrown away: "
                f"{'; '.join(found.faults[:3]) or 'rows are missing'}. The database itself may be "
                "damaged: sonia check",
                faults=list(found.faults),
            )
        applied = schema.applied_to(connection)
    return Backup(
        name=name,
        created_at=rfc3339(at),
        bytes=draft.stat().st_size,
        sha256=sha256(draft),
        version=VERSION,
        schema=max(applied, default=""),
        rows=rows,
        damaged_rows=found.damaged_rows,
    )


def counts(connection: apsw.Connection) -> dict[str, int]:
    """How many rows each table has."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL %' ORDER BY name"
    ).fetchall()
    return {
        cast(str, name): cast(
            int,
            connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()[0][0],  # noqa: S608
        )
        for (name,) in names
    }


def check_room(folder: Path, wanted: int) -> None:
    """Raises `StorageFull`."""
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_BYTES:
        raise StorageFull(
            f"A backup takes {wanted / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free. "
            "Free some space, remove old backups, or set backups.folder to another disk.",
            needed_bytes=wanted + SPARE_BYTES,
            free_bytes=free,
        )


def free_name(folder: Path, at: dt.datetime) -> str:
    """For a backup of this moment."""
    stem = f"sonia-{at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}"
    names = [f"{stem}.db", *(f"{stem}-{number}.db" for number in range(2, 1000))]
    return next(name for name in names if not (folder / name).exists())


# --- what there is -------------------------------------------------------------------------


def listed(folder: Path) -> tuple[Backup, ...]:
    """The backups in a folder, newest first."""
    if not folder.is_dir():
        return ()
    names = (path.name for path in folder.iterdir() if NAME.fullmatch(path.name))
    found = []
    for name in names:
        with suppress(BackupNotFound):
            found.append(described(folder, name))
    return tuple(sorted(found, key=lambda item: (item.created_at, item.name), reverse=True))


def described(folder: Path, name: str) -> Backup:
    """What the manifest says. Raises `BackupNotFound`."""
    manifest = _manifest(folder / name) if NAME.fullmatch(name) else None
    if manifest is None or not (folder / name).is_file():
        raise BackupNotFound("No backup has this name: sonia backup list", name=name)
    return msgspec.structs.replace(manifest, name=name)


def verify(
    path: Path, checkers: Sequence[Checker], stop: threading.Event | None = None
) -> Verified:
    """Read a backup, or any other database of Sonia's, whole."""
    manifest = _manifest(path)
    same = manifest is None or sha256(path) == manifest.sha256
    found = check_file(path, partial(connect, read_only=True), checkers, stop=stop)
    known = manifest.damaged_rows if manifest else 0
    ok = same and not found.faults and found.damaged_rows <= known
    return Verified(name=path.name, ok=ok, same=same, integrity=found)


def remove(folder: Path, name: str) -> None:
    """Delete a backup, the file first: without it the manifest means nothing."""
    described(folder, name)
    (folder / name).unlink()
    (folder / f"{name}{MANIFEST}").unlink(missing_ok=True)


def prune(folder: Path, keep: int) -> list[str]:
    """Delete all but the newest `keep`, and never the newest without damaged rows."""
    backups = listed(folder)
    sound = next((item.name for item in backups if not item.damaged_rows), None)
    old = [item.name for item in backups[keep:] if item.name != sound]
    for name in old:
        remove(folder, name)
    return old


def remove_drafts(folder: Path) -> None:
    """What backups that were stopped half-way have left."""
    for path in folder.glob(f"sonia-*{DRAFT}*"):
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Put a file's content on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Put names on the disk, where a folder can be opened for that."""
    if os.name != "nt":
        sync(folder)


def _manifest(path: Path) -> Backup | None:
    try:
        data = path.with_name(f"{path.name}{MANIFEST}").read_bytes()
        return msgspec.json.decode(data, type=Backup)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}{DRAFT}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


# --- beside a running Sonia ----------------------------------------------------------------


class Backups:
    """Use `open_backups`. One backup is made at a time."""

    def __init__(
        self,
        database: Path,
        folder: Path,
        checkers: Sequence[Checker],
        keep: int,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self.folder = folder
        self._database = database
        self._checkers = checkers
        self._keep = keep
        self._clock = clock
        self._making = asyncio.Lock()

    async def create(self) -> Backup:
        """Make one, and let the oldest go. Raises `BackupUnderWay` and what `make` raises."""
        if self._making.locked():
            raise BackupUnderWay("A backup is being made. It will be in the list when it is done.")
        async with self._making:
            backup = await self._in_thread(
                partial(make, self._database, self.folder, self._checkers, self._clock())
            )
            gone = await asyncio.to_thread(prune, self.folder, self._keep)
        get_logger("database").info("backup made", name=backup.name, removed=gone)
        return backup

    async def alone(self, work: Callable[[], T]) -> T:
        """Do this in a thread while none is made. Raises `BackupUnderWay`."""
        if self._making.locked():
            raise BackupUnderWay("A backup is being made. Try again when it is done.")
        async with self._making:
            return await asyncio.to_thread(work)

    async def every(self) -> tuple[Backup, ...]:
        """Newest first."""
        return await asyncio.to_thread(listed, self.folder)

    async def one(self, name: str) -> Backup:
        """Raises `BackupNotFound`."""
        return await asyncio.to_thread(described, self.folder, name)

    async def verify(self, name: str) -> Verified:
        """Read it whole. Raises `BackupNotFound`."""
        await self.one(name)
        return await self._in_thread(partial(verify, self.folder / name, self._checkers))

    async def remove(self, name: str) -> None:
        """Raises `BackupNotFound`."""
        await asyncio.to_thread(remove, self.folder, name)

    async def keep_making(self, every_s: float, first_after_s: float = FIRST_AFTER_S) -> None:
        """Make one whenever the newest is older than that, until cancelled."""
        await asyncio.sleep(first_after_s)
        while True:
            newest = next(iter(await self.every()), None)
            if newest is None or self._age_s(newest) >= every_s:
                try:
                    await self.create()
                except SoniaError as error:
                    get_logger("database").error("no backup was made", reason=error.message)
            await asyncio.sleep(min(LOOK_EVERY_S, every_s))

    def _age_s(self, backup: Backup) -> float:
        return (self._clock() - dt.datetime.fromisoformat(backup.created_at)).total_seconds()

    async def _in_thread(self, work: Callable[..., T]) -> T:
        """In a thread that ends soon when this is cancelled."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(partial(work, stop=stop))
        finally:
            stop.set()


@asynccontextmanager
async def open_backups(
    database: Path,
    folder: Path,
    checkers: Sequence[Checker],
    *,
    keep: int,
    every_s: float,
    clock: Callable[[], dt.datetime] = now,
    first_after_s: float = FIRST_AFTER_S,
) -> AsyncIterator[Backups]:
    """Make backups of `database` in `folder` every so often (0: only when asked), until left."""
    backups = Backups(database, folder, checkers, keep, clock)
    task = None
    if every_s:
        task = asyncio.create_task(backups.keep_making(every_s, first_after_s), name="backups")
    try:
        yield backups
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
