"""The memories' SQL: functions of a connection, for `Database.write` and `Database.read`.

A memory has an opaque `id` for the world and a `number` for the derived indexes.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.memory import bookkeeping
from sonia.memory.columns import from_json, likeness, micros, moment, to_json
from sonia.memory.interface import Change, Entry, EntryNotFound, NewMemory, Query
from sonia.types import MemoryId, Origin, new_id


def insert(
    c: apsw.Connection, new: NewMemory, at: dt.datetime, turn_id: str | None = None
) -> Entry:
    """Add a memory recorded `at`."""
    entry = Entry(
        id=MemoryId(new_id("mem")),
        type=new.type,
        content=new.content,
        metadata=new.metadata,
        user_id=new.user_id,
        session_id=new.session_id,
        importance=new.importance,
        origin=new.origin,
        valid_from=moment(micros(new.valid_from or at)),
        recorded_at=at,
    )
    c.execute(
        "INSERT INTO memory_entries (id, type, content, metadata, user_id, session_id, "
        "importance, origin, valid_from, recorded_at, turn_id, likeness) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.id,
            entry.type,
            entry.content,
            to_json(entry.metadata),
            entry.user_id,
            entry.session_id,
            entry.importance,
            entry.origin,
            micros(entry.valid_from),
            micros(at),
            turn_id,
            likeness(entry.content),
        ),
    )
    return entry


def known(c: apsw.Connection, user_id: str, content: str) -> bool:
    """Whether this person already has a memory that says the same."""
    row = c.execute(
        "SELECT 1 FROM memory_entries WHERE likeness = ? AND user_id = ? LIMIT 1",
        (likeness(content), user_id),
    ).fetchone()
    return row is not None


def number_of(c: apsw.Connection, memory_id: str) -> int:
    """Raises `EntryNotFound`."""
    row = c.execute("SELECT number FROM memory_entries WHERE id = ?", (memory_id,)).fetchone()
    if row is None:
        raise EntryNotFound("No memory has this id.", id=memory_id)
    return cast(int, row[0])


def entries(c: apsw.Connection, numbers: Sequence[int]) -> dict[int, Entry]:
    """The memories with these numbers, those that are still there."""
    rows = c.execute(
        "SELECT number, id, type, content, metadata, user_id, session_id, importance, origin, "
        "valid_from, recorded_at, version FROM memory_entries "
        "WHERE number IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    )
    return {cast(int, row[0]): _entry(row[1:]) for row in rows}


def entry(c: apsw.Connection, memory_id: str) -> Entry:
    """Raises `EntryNotFound`."""
    number = number_of(c, memory_id)
    return entries(c, [number])[number]


def change(c: apsw.Connection, memory_id: str, changed: Change, at: dt.datetime) -> Entry:
    """Keep what it said, write what it says now. Its vector goes; a new one follows."""
    number = number_of(c, memory_id)
    old = entries(c, [number])[number]
    new = msgspec.structs.replace(
        old,
        content=old.content if changed.content is None else changed.content,
        metadata=old.metadata if changed.metadata is None else changed.metadata,
        importance=old.importance if changed.importance is None else changed.importance,
        recorded_at=at,
        version=old.version + 1,
    )
    c.execute(
        "INSERT INTO memory_versions (number, version, content, metadata, importance, recorded_at)"
        " SELECT number, version, content, metadata, importance, recorded_at "
        "FROM memory_entries WHERE number = ?",
        (number,),
    )
    c.execute(
        "UPDATE memory_entries SET content = ?, metadata = ?, importance = ?, recorded_at = ?, "
        "version = ?, likeness = ? WHERE number = ?",
        (
            new.content,
            to_json(new.metadata),
            new.importance,
            micros(at),
            new.version,
            likeness(new.content),
            number,
        ),
    )
    bookkeeping.remove_vector(c, number)
    return new


def versions(c: apsw.Connection, memory_id: str) -> tuple[Entry, ...]:
    """Oldest first, the current one last. Raises `EntryNotFound`."""
    current = entry(c, memory_id)
    rows = c.execute(
        "SELECT version, content, metadata, importance, recorded_at FROM memory_versions "
        "WHERE number = ? ORDER BY version",
        (number_of(c, memory_id),),
    )
    earlier = tuple(
        msgspec.structs.replace(
            current,
            version=cast(int, version),
            content=cast(str, content),
            metadata=from_json(cast(str, metadata)),
            importance=cast(float, importance),
            recorded_at=moment(cast(int, recorded_at)),
        )
        for version, content, metadata, importance, recorded_at in rows
    )
    return (*earlier, current)


def erase(c: apsw.Connection, memory_id: str) -> tuple[Entry, str | None]:
    """Delete row, versions and vector; return what it was and the turn it came from.

    Its number is noted until the text index has been rewritten without it.
    """
    number = number_of(c, memory_id)
    was = entries(c, [number])[number]
    (turn_id,) = c.execute(
        "DELETE FROM memory_entries WHERE number = ? RETURNING turn_id", (number,)
    ).fetchall()[0]
    bookkeeping.remove_vector(c, number)
    c.execute("INSERT INTO memory_erased (number) VALUES (?)", (number,))
    return was, cast("str | None", turn_id)


# --- finding -----------------------------------------------------------------------------


def narrowing(query: Query) -> dict[str, Any]:
    """The named parameters of every narrowed statement; null where nothing was asked."""
    return {
        "types": json.dumps(query.types) if query.types else None,
        "user_id": query.user_id,
        "session_id": query.session_id,
        "since": None if query.since is None else micros(query.since),
        "until": None if query.until is None else micros(query.until),
    }


def newest(c: apsw.Connection, query: Query) -> list[int]:
    """Numbers, newest first."""
    rows = c.execute(
        "SELECT number FROM memory_entries "
        "WHERE (:types IS NULL OR type IN (SELECT value FROM json_each(:types))) "
        "AND (:user_id IS NULL OR user_id = :user_id) "
        "AND (:session_id IS NULL OR session_id = :session_id) "
        "AND (:since IS NULL OR valid_from >= :since) "
        "AND (:until IS NULL OR valid_from <= :until) "
        "ORDER BY number DESC LIMIT :limit",
        {**narrowing(query), "limit": query.limit},
    )
    return [cast(int, row[0]) for row in rows]


def untexted_matching(c: apsw.Connection, query: Query, limit: int) -> list[tuple[int, str]]:
    """Number and content of the newest `limit` that the text index does not hold yet."""
    rows = c.execute(
        "SELECT number, content FROM memory_entries "
        "WHERE text_version < version "
        "AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types))) "
        "AND (:user_id IS NULL OR user_id = :user_id) "
        "AND (:session_id IS NULL OR session_id = :session_id) "
        "AND (:since IS NULL OR valid_from >= :since) "
        "AND (:until IS NULL OR valid_from <= :until) "
        "ORDER BY number DESC LIMIT :limit",
        {**narrowing(query), "limit": limit},
    )
    return cast("list[tuple[int, str]]", rows.fetchall())


# --- counting ----------------------------------------------------------------------------


def by_type(c: apsw.Connection) -> dict[str, int]:
    """How many memories of each type."""
    rows = c.execute("SELECT type, count(*) FROM memory_entries GROUP BY type ORDER BY type")
    return {cast(str, kind): cast(int, count) for kind, count in rows}


def file_bytes(c: apsw.Connection) -> int:
    """The size of the whole database, other modules' tables included."""
    return _count(c, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")


def _count(c: apsw.Connection, sql: str) -> int:
    return cast(int, c.execute(sql).fetchall()[0][0])


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        id=MemoryId(row[0]),
        type=row[1],
        content=row[2],
        metadata=from_json(row[3]),
        user_id=row[4],
        session_id=row[5],
        importance=row[6],
        origin=cast(Origin, row[7]),
        valid_from=moment(row[8]),
        recorded_at=moment(row[9]),
        version=row[10],
    )
