"""The schema: numbered SQL files, forward only, each applied once, all that wait or none.

A file with data is copied before it is changed. A file that a newer Sonia has written is
refused and not touched.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import apsw

from sonia.errors import Conflict, Internal
from sonia.types import now, rfc3339

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class SchemaTooNew(Conflict):
    """The file was written by a newer Sonia than this one."""


class SchemaChanged(Conflict):
    """A migration that was applied has other content now."""


class MigrationFailed(Internal):
    """A migration's SQL does not fit this database; nothing was changed."""


def migrate(
    connection: apsw.Connection, path: Path, migrations: Path, *, copy: bool = True
) -> None:
    """Bring `path`, open as `connection`, up to date; with `copy`, keep what it was beside it.

    Raises `SchemaTooNew`, `SchemaChanged`, `MigrationFailed`, and SQLite's errors.
    """
    files = _files(migrations)
    applied = applied_to(connection)
    pending = check_known(applied, path, migrations)
    if not pending:
        return
    if applied and copy:
        _copy(connection, path.with_name(f"{path.name}.before-{pending[0][:4]}"))
    with connection:  # all of them or none: a file between two versions suits neither
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
        )
        for name in pending:
            _apply(connection, files[name])


def applied_to(connection: apsw.Connection) -> dict[str, str]:
    """Names and digests of the migrations that a file has."""
    if "schema_migrations" not in tables(connection):
        return {}
    rows = connection.execute("SELECT name, sha256 FROM schema_migrations")
    return {str(name): str(digest) for name, digest in rows}


def tables(connection: apsw.Connection) -> set[str]:
    """The names of all tables."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {str(row[0]) for row in found}


def columns(connection: apsw.Connection, table: str) -> set[str]:
    """The names of a table's columns; none when there is no such table."""
    found = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return {str(row[0]) for row in found}


def check_known(applied: dict[str, str], path: Path, migrations: Path) -> list[str]:
    """What a file lacks, in order. Raises `SchemaTooNew`, `SchemaChanged`."""
    files = _files(migrations)
    if unknown := sorted(set(applied) - set(files)):
        raise SchemaTooNew(
            f"{path} was written by a newer Sonia (it has {unknown[-1]}). Update this one, "
            "or restore a backup made before the update: sonia backup list",
            unknown=unknown,
        )
    for name, file in files.items():
        if name in applied and applied[name] != _digest(file):
            raise SchemaChanged(f"{name} is not what was applied to {path}. Restore the file.")
    return [name for name in files if name not in applied]


def _files(migrations: Path) -> dict[str, Path]:
    return {file.name: file for file in sorted(migrations.glob("*.sql")) if _NAME.match(file.name)}


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
    """A whole copy or none: it is written beside and renamed when it is on the disk."""
    draft = target.with_name(f"{target.name}.part")
    draft.unlink(missing_ok=True)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))
        connection.execute("VACUUM INTO ?", (str(draft),))
        number = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
