"""The digests of memory's rows: computing those that are missing, and checking them all.

Rows from before there were digests, and rows of the ledger that were erased, have none for a
while; `complete` gives them one, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia import integrity, schema
from sonia.memory import rows
from sonia.memory.columns import digest
from sonia.types import Damage

BATCH = 500
CHECKED_AT_ONCE = 100  # a few milliseconds, between which a check behind can rest
UNREADABLE = b""  # the digest of nothing: the row stays damaged


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table with digests: its columns that are digested, and what tells rows apart."""

    name: str
    columns: str
    keys: str


TABLES = (
    Table(
        name="memory_entries",
        columns=rows.ENTRY_COLUMNS,
        keys="number",
    ),
    Table(
        name="memory_versions",
        columns=rows.VERSION_COLUMNS,
        keys="number, version",
    ),
    Table(
        name="memory_events",
        columns=rows.EVENT_COLUMNS,
        keys="number",
    ),
)


def complete(c: apsw.Connection, limit: int = BATCH) -> int:
    """Give up to `limit` rows the digest they lack. Return how many; 0 when none lacks one."""
    for table in TABLES:
        keys = c.execute(
            f"SELECT {table.keys} FROM {table.name} WHERE digest IS NULL "  # noqa: S608
            f"ORDER BY {table.keys} LIMIT ?",
            (limit,),
        ).fetchall()
        for key in keys:
            row = _read(c, table, key)
            c.execute(
                f"UPDATE {table.name} SET digest = ? WHERE ({table.keys}) = ({_marks(key)})",  # noqa: S608
                (UNREADABLE if row is None else digest(row[1:]), *key),
            )
        if keys:
            return len(keys)
    return 0


def damaged(c: apsw.Connection) -> Iterator[integrity.Batch]:
    """Read every row of memory's and compare it with its digest. See `integrity.Checker`."""
    for table in TABLES:
        wanted = {"digest", *table.columns.split(", ")}
        if not wanted <= schema.columns(c, table.name):
            continue  # a copy from before there were digests
        yield integrity.Batch(table.name, 0)
        after: Sequence[Any] = [-1] * len(table.keys.split(","))
        while found := _batch(c, table, after):
            wrong = tuple(_wrong(table, found))
            yield integrity.Batch(table.name, len(found), wrong)
            after = found[-1][0]


_Found = tuple[Sequence[Any], Sequence[Any] | None]  # a row's key, and its digest and columns


def _batch(c: apsw.Connection, table: Table, after: Sequence[Any]) -> list[_Found]:
    """The next rows; one by one where one of them can't be read."""
    width = len(after)
    bounds = (
        f"FROM {table.name} WHERE ({table.keys}) > ({_marks(after)}) ORDER BY {table.keys} LIMIT ?"
    )
    try:
        rows_ = c.execute(
            f"SELECT {table.keys}, digest, {table.columns} {bounds}",
            (*after, CHECKED_AT_ONCE),
        ).fetchall()
    except (UnicodeDecodeError, apsw.CorruptError):
        keys = c.execute(f"SELECT {table.keys} {bounds}", (*after, CHECKED_AT_ONCE)).fetchall()
        return [(key, _read(c, table, key)) for key in keys]
    return [(row[:width], row[width:]) for row in rows_]


def _wrong(table: Table, found: Sequence[_Found]) -> Iterator[Damage]:
    for key, row in found:
        if row is not None and (row[0] is None or row[0] == digest(row[1:])):
            continue
        yield Damage(
            place=table.name,
            number=key[0],
            version=key[1] if len(key) > 1 else 0,
            why=rows.NOT_READ if row is None else rows.NOT_WRITTEN,
        )


def _read(c: apsw.Connection, table: Table, key: Sequence[Any]) -> Sequence[Any] | None:
    """Digest and columns of one row; nothing when SQLite can't give them."""
    sql = f"SELECT digest, {table.columns} FROM {table.name} "  # noqa: S608
    return rows.stored(c, f"{sql} WHERE ({table.keys}) = ({_marks(key)})", key)


def _marks(key: Sequence[Any]) -> str:
    return ", ".join("?" * len(key))


# --- the list of damaged rows ------------------------------------------------------------


def quarantine(c: apsw.Connection, found: Iterable[Damage], at_micros: int) -> list[Damage]:
    """Put these on the list; return those that were not on it."""
    new = []
    for item in found:
        c.execute(
            "INSERT OR IGNORE INTO memory_damaged (place, number, version, why, found_at) "
            "VALUES (?, ?, ?, ?, ?)",
            (item.place, item.number, item.version, item.why, at_micros),
        )
        if c.changes():
            new.append(item)
    return new


def replace_list(c: apsw.Connection, found: Iterable[Damage], at_micros: int) -> list[Damage]:
    """After a check of everything: these and no others are damaged. Return the new ones."""
    found = list(found)
    keys = {(item.place, item.number, item.version) for item in found}
    listed = c.execute("SELECT place, number, version FROM memory_damaged").fetchall()
    c.executemany(
        "DELETE FROM memory_damaged WHERE (place, number, version) = (?, ?, ?)",
        [key for key in listed if key not in keys],
    )
    return quarantine(c, found, at_micros)


def damaged_count(c: apsw.Connection) -> int:
    """How many rows are on the list."""
    return cast(int, c.execute("SELECT count(*) FROM memory_damaged").fetchall()[0][0])


def incomplete(c: apsw.Connection) -> bool:
    """Whether any row has no digest yet."""
    return any(
        c.execute(f"SELECT 1 FROM {table.name} WHERE digest IS NULL LIMIT 1").fetchone()  # noqa: S608
        for table in TABLES
    )
