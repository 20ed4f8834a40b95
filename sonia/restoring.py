"""Putting a backup in the place of the database, while nobody serves it.

The backup is checked, copied beside the database, brought up to date and told what was
forgotten since; only then does it take the database's place, which is kept aside. Everything
here blocks.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import apsw

from sonia import backups, schema
from sonia.db import connect, translate
from sonia.errors import StorageFull
from sonia.forgetting import TOMBSTONES, read_tombstones, tombstones
from sonia.integrity import Checker
from sonia.types import Value

DRAFT = ".restoring"
ASIDE = ".before-restore-"
BESIDE = ("-wal", "-shm")

# In a transaction on the restored copy: forget what is known to be forgotten, and whatever else
# is to be told of its past. Returns counts by place.
Mend = Callable[[apsw.Connection, Mapping[bytes, int]], dict[str, int]]


class Restored(Value):
    """What was done. `aside` is the file that was the database, if there was one.

    `forgotten` counts what had been forgotten since the backup and was forgotten in it.
    """

    source: str
    schema: str
    rows: dict[str, int]
    aside: str | None
    forgotten: dict[str, int]
    tombstones: int
    tombstones_complete: bool


def restore(
    source: Path,
    database: Path,
    migrations: Path,
    checkers: Sequence[Checker],
    mend: Mend,
    at: dt.datetime,
) -> Restored:
    """Put the backup `source` in the place of `database`; the caller holds the data folder.

    Raises `BackupDamaged`, `SchemaTooNew`, `SchemaChanged`, `StorageFull`; the database is then
    as it was.
    """
    draft = database.with_name(f"{database.name}{DRAFT}")
    try:
        discard(draft)
        check_backup(source, migrations, checkers)
        known, complete = forgotten(database)
        try:
            _check_room(source, database.parent)
            backups.copy(source, draft)
            newest, rows, counts = prepare(draft, migrations, mend, known)
            aside = _exchange(draft, database, at)
        finally:
            discard(draft)
    except apsw.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise StorageFull(
            f"{source.name} can't be restored: {error.strerror}. The database is as it was."
        ) from error
    return Restored(
        source=str(source),
        schema=newest,
        rows=rows,
        aside=None if aside is None else str(aside),
        forgotten=counts,
        tombstones=len(known),
        tombstones_complete=complete,
    )


def check_backup(source: Path, migrations: Path, checkers: Sequence[Checker]) -> None:
    """Raises `BackupDamaged`, `BackupNotFound`, `SchemaTooNew`, `SchemaChanged`."""
    if not source.is_file():
        raise backups.BackupNotFound(f"{source}: no such file: sonia backup list")
    found = backups.verify(source, checkers)
    if not found.ok:
        why = "; ".join(found.integrity.faults[:3])
        if not found.same:
            why = "its SHA-256 is not the one in its manifest"
        elif not why:
            why = f"{found.integrity.damaged_rows} rows are not what was written"
        raise backups.BackupDamaged(
            f"{source.name} is damaged and was not restored: {why}. Try an older one: "
            "sonia backup list"
        )
    with closing(connect(source, read_only=True)) as connection:
        applied = schema.applied_to(connection)
    if not applied:
        raise backups.BackupDamaged(f"{source.name} is no database of Sonia's.")
    schema.check_known(applied, source, migrations)


def _check_room(source: Path, folder: Path) -> None:
    wanted, free = source.stat().st_size + backups.SPARE_BYTES, shutil.disk_usage(folder).free
    if free < wanted:
        raise StorageFull(
            f"Restoring takes {wanted / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free. "
            "Free some space; the database is as it was."
        )


def forgotten(database: Path) -> tuple[dict[bytes, int], bool]:
    """What was ever forgotten, and whether the database itself could be asked."""
    known: dict[bytes, int] = {}
    with suppress(OSError, ValueError):
        known |= read_tombstones(database.with_name(TOMBSTONES).read_bytes())
    if not database.is_file() or not database.stat().st_size:
        return known, True
    try:
        with closing(connect(database, read_only=True)) as connection:
            if "forget_tombstones" in schema.tables(connection):
                for hash_, moment in tombstones(connection).items():
                    known[hash_] = max(moment, known.get(hash_, moment))
    except (apsw.Error, UnicodeDecodeError):
        return known, False
    return known, True


def prepare(
    draft: Path, migrations: Path, mend: Mend, known: Mapping[bytes, int]
) -> tuple[str, dict[str, int], dict[str, int]]:
    """Bring a copy to the present; its newest migration, its rows, and what was forgotten in it."""
    with closing(connect(draft)) as connection:
        schema.migrate(connection, draft, migrations, copy=False)
        with connection:
            counts = mend(connection, known)
        if counts:
            connection.execute("PRAGMA temp_store=FILE")  # it may be larger than the memory
            connection.execute("VACUUM")  # their words are in no corner of a page any more
        rows = backups.counts(connection)
        newest = max(schema.applied_to(connection))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    backups.sync(draft)
    return newest, rows, counts


def _exchange(draft: Path, database: Path, at: dt.datetime) -> Path | None:
    """The database is at every moment the old one or the new one, never none."""
    aside = None
    if database.exists():
        aside = database.with_name(f"{database.name}{ASIDE}{at:%Y%m%dT%H%M%SZ}")
        with suppress(apsw.Error), closing(connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for suffix in BESIDE:  # a log that could not be moved into the file must not meet another
            beside = database.with_name(f"{database.name}{suffix}")
            if beside.exists():
                beside.replace(aside.with_name(f"{aside.name}{suffix}"))
        aside.unlink(missing_ok=True)
        try:
            os.link(database, aside)
        except OSError:  # a file system without links
            shutil.copy2(database, aside)
            backups.sync(aside)
    draft.replace(database)
    backups.sync_folder(database.parent)
    return aside


def discard(draft: Path) -> None:
    """Remove a copy that is not needed, with what SQLite left beside it."""
    for suffix in ("", *BESIDE, "-journal"):
        draft.with_name(f"{draft.name}{suffix}").unlink(missing_ok=True)
