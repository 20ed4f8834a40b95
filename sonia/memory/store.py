"""The memories' SQL: functions of a connection, for `Database.write` and `Database.read`.

A memory has an opaque `id` for the world and a `number` for the derived indexes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal, cast

import apsw
import msgspec

from sonia.errors import InvalidRequest
from sonia.integrity import report
from sonia.memory import bookkeeping, rows
from sonia.memory.bookkeeping import VectorTable
from sonia.memory.columns import digest, likeness, maybe_micros, micros, moment, to_json
from sonia.memory.interface import (
    AlreadySuperseded,
    Change,
    Entry,
    EntryDamaged,
    EntryNotFound,
    NewMemory,
    NotTrusted,
    Query,
)
from sonia.memory.provenance import least_trusted, may_replace
from sonia.types import MemoryId, Origin, new_id, new_ids

_INSERT_INTO = (
    f"INSERT INTO memory_entries ({rows.ENTRY_COLUMNS}, turn_id, likeness, digest, number"
)
_INSERT_VALUES = f"VALUES ({rows.ENTRY_MARKS}, ?, ?, ?, ?"

NEW_VERSION = 1
RANKED_CHARS = 20_000  # of a longer text the rest counts for being found, not for its order


def insert(
    c: apsw.Connection, new: NewMemory, at: dt.datetime, turn_id: str | None = None
) -> Entry:
    """Add a memory recorded `at`. Raises `EntryNotFound` for one it says it was made from."""
    entry = _made(c, new, at, new_id("mem"), turn_id)
    c.execute(f"{_INSERT_INTO}) {_INSERT_VALUES})", _row(entry, None))
    return entry


def insert_many(
    c: apsw.Connection,
    new: Sequence[NewMemory],
    at: dt.datetime,
    vectors: VectorTable | None = None,
) -> tuple[int, list[Entry]]:
    """`insert` for many. Their numbers are in a row, in this order: returns the first.

    With `vectors` they are noted to have theirs there.
    """
    column = (vectors or bookkeeping.FIRST).column
    version = 0 if vectors is None else NEW_VERSION
    found = c.execute("SELECT seq FROM sqlite_sequence WHERE name = 'memory_entries'").fetchone()
    first = 1 + (0 if found is None else cast(int, found[0]))
    ids = new_ids("mem", len(new))
    made = [_made(c, one, at, own) for one, own in zip(new, ids, strict=True)]
    c.executemany(
        f"{_INSERT_INTO}, {column}) {_INSERT_VALUES}, ?)",
        ((*_row(entry, number), version) for number, entry in enumerate(made, first)),
    )
    return first, made


def _made(
    c: apsw.Connection, new: NewMemory, at: dt.datetime, own_id: str, turn_id: str | None = None
) -> Entry:
    source = new.source
    if turn_id is not None and source.turn_id is None:
        source = msgspec.structs.replace(source, turn_id=turn_id)
    made_from = [_origin_of(c, memory_id) for memory_id in source.made_from]
    return Entry(
        id=MemoryId(own_id),
        type=new.type,
        content=new.content,
        metadata=new.metadata,
        user_id=new.user_id,
        session_id=new.session_id,
        importance=new.importance,
        origin=least_trusted([new.origin, *made_from]),
        valid_from=_kept(new.valid_from or at),
        valid_to=None if new.valid_to is None else _kept(new.valid_to),
        recorded_at=_kept(at),
        pinned=new.pinned,
        source=source,
    )


def _kept(at: dt.datetime) -> dt.datetime:
    """As it is read again: in UTC."""
    return at if at.tzinfo is dt.UTC else moment(micros(at))


def _row(entry: Entry, number: int | None) -> tuple[Any, ...]:
    row = rows.of_entry(entry)
    return (*row, entry.source.turn_id, likeness(entry.content), digest(row), number)


def _origin_of(c: apsw.Connection, memory_id: str) -> Origin:
    row = c.execute("SELECT origin FROM memory_entries WHERE id = ?", (memory_id,)).fetchone()
    if row is None:
        raise EntryNotFound("No memory has the id that this was made from.", id=memory_id)
    return cast(Origin, row[0])


def number_of(c: apsw.Connection, memory_id: str) -> int:
    """Raises `EntryNotFound`."""
    row = c.execute("SELECT number FROM memory_entries WHERE id = ?", (memory_id,)).fetchone()
    if row is None or not _whole(c, [cast(int, row[0])]):
        raise EntryNotFound("No memory has this id.", id=memory_id)
    return cast(int, row[0])


def entries(c: apsw.Connection, numbers: Sequence[int]) -> dict[int, Entry]:
    """The memories with these numbers, those that are still there and undamaged."""
    found: dict[int, Entry] = {}
    for number, digest_, *row in _stored(c, _whole(c, numbers)):
        entry = rows.entry_of(row, cast("bytes | None", digest_))
        if entry is None:
            report("memory_entries", cast(int, number), rows.NOT_WRITTEN)
        else:
            found[cast(int, number)] = entry
    return found


# A document is there whole or not at all: while it comes or goes, none of its chunks is.
_WHOLE = "AND (document IS NULL OR document NOT IN (SELECT id FROM memory_documents WHERE hidden)) "


def _whole(c: apsw.Connection, numbers: Sequence[int]) -> Sequence[int]:
    """These without the chunks of documents that come or go."""
    if c.execute("SELECT 1 FROM memory_documents WHERE hidden LIMIT 1").fetchone() is None:
        return numbers
    found = c.execute(
        "SELECT number FROM memory_entries WHERE number IN (SELECT value FROM json_each(?)) "
        "AND +document IN (SELECT id FROM memory_documents WHERE hidden)",
        (to_json(numbers),),
    )
    hidden = {cast(int, row[0]) for row in found}
    return [number for number in numbers if number not in hidden]


_ENTRIES = f"SELECT number, digest, {rows.ENTRY_COLUMNS} FROM memory_entries"  # noqa: S608


def _stored(c: apsw.Connection, numbers: Sequence[int]) -> Sequence[Sequence[Any]]:
    """All at once; one by one where a row among them can't be read."""
    try:
        return c.execute(
            f"{_ENTRIES} WHERE number IN (SELECT value FROM json_each(?))",  # noqa: S608
            (to_json(numbers),),
        ).fetchall()
    except (UnicodeDecodeError, apsw.CorruptError):
        found = []
        for number in numbers:
            row = rows.stored(c, f"{_ENTRIES} WHERE number = ?", (number,))
            if row is not None:
                found.append(row)
            elif c.execute("SELECT 1 FROM memory_entries WHERE number = ?", (number,)).fetchone():
                report("memory_entries", number, rows.NOT_READ)
        return found


def entry(c: apsw.Connection, memory_id: str) -> Entry:
    """Raises `EntryNotFound`, `EntryDamaged`."""
    number = number_of(c, memory_id)
    found = entries(c, [number]).get(number)
    if found is None:
        raise EntryDamaged(
            "This memory is not what was written: its SHA-256 does not fit. Restore a backup "
            "(sonia backup list), or forget it.",
            id=memory_id,
        )
    return found


def change(c: apsw.Connection, memory_id: str, changed: Change, at: dt.datetime) -> Entry:
    """Keep what it said, write what it says now. New words lose their vector; one follows."""
    old = entry(c, memory_id)
    new = msgspec.structs.replace(
        old,
        content=old.content if changed.content is None else changed.content,
        metadata=old.metadata if changed.metadata is None else changed.metadata,
        importance=old.importance if changed.importance is None else changed.importance,
        valid_from=changed.valid_from or old.valid_from,
        valid_to=changed.valid_to or old.valid_to,
    )
    if new.valid_to is not None and new.valid_to < new.valid_from:
        raise InvalidRequest("valid_to lies before valid_from.", pointer="/valid_to")
    return _next_version(c, old, new, at)


def supersede(
    c: apsw.Connection,
    memory_id: str,
    new: NewMemory,
    at: dt.datetime,
    ends_at: dt.datetime | None = None,
) -> Entry:
    """See `Memory.supersede`."""
    old = entry(c, memory_id)
    if old.superseded_by is not None:
        raise AlreadySuperseded(
            "Another memory has taken its place.", id=memory_id, superseded_by=old.superseded_by
        )
    added = insert(c, new, at)
    give_way(c, old, added, at, ends_at)
    return added


def give_way(
    c: apsw.Connection,
    old: Entry,
    to: Entry,
    at: dt.datetime,
    ends_at: dt.datetime | None = None,
) -> Entry:
    """Note that `to` has taken the place of `old`, and return what `old` is now.

    Raises `NotTrusted`, and `EntryNotFound` when they are two people's.
    """
    if not may_replace(to.origin, old.origin):
        raise NotTrusted(
            f"What comes from a {to.origin} can't take the place of what comes from "
            f"the {old.origin}.",
            id=old.id,
        )
    if to.user_id != old.user_id:
        raise EntryNotFound("No memory of this person has this id.", id=old.id)
    ends = ends_at or min(to.valid_from, moment(micros(at)))
    ended = msgspec.structs.replace(
        old,
        valid_to=max(old.valid_from, min(ends, old.valid_to or ends)),
        superseded_by=to.id,
    )
    return _next_version(c, old, ended, at)


def set_aside(
    c: apsw.Connection,
    memory_id: str,
    *,
    pinned: bool | None = None,
    archived_at: dt.datetime | Literal["same"] | None = "same",
) -> Entry:
    """Pin, archive, or undo either. Raises `EntryNotFound`, `EntryDamaged`."""
    old = entry(c, memory_id)
    new = msgspec.structs.replace(
        old,
        pinned=old.pinned if pinned is None else pinned,
        archived_at=old.archived_at if archived_at == "same" else archived_at,
    )
    _write(c, new)
    return new


def _next_version(c: apsw.Connection, old: Entry, new: Entry, at: dt.datetime) -> Entry:
    number = number_of(c, old.id)
    new = msgspec.structs.replace(new, version=old.version + 1, recorded_at=moment(micros(at)))
    row = rows.of_version(number, old)
    c.execute(
        f"INSERT INTO memory_versions ({rows.VERSION_COLUMNS}, digest) "  # noqa: S608
        f"VALUES ({rows.VERSION_MARKS}, ?)",
        (*row, digest(row)),
    )
    _write(c, new)
    if new.content != old.content:
        bookkeeping.remove_vector(c, number)
    else:  # the indexes hold these words already
        c.execute(
            "UPDATE memory_entries SET "
            "text_version = iif(text_version = ?1, ?2, text_version), "
            "vector_version = iif(vector_version = ?1, ?2, vector_version), "
            "vector_version_2 = iif(vector_version_2 = ?1, ?2, vector_version_2) "
            "WHERE number = ?3",
            (old.version, new.version, number),
        )
    return new


def _write(c: apsw.Connection, new: Entry) -> None:
    row = rows.of_entry(new)
    c.execute(
        f"UPDATE memory_entries SET ({rows.ENTRY_COLUMNS}, likeness, digest) = "  # noqa: S608
        f"({rows.ENTRY_MARKS}, ?, ?) WHERE id = ?",
        (*row, likeness(new.content), digest(row), new.id),
    )


def versions(c: apsw.Connection, memory_id: str) -> tuple[Entry, ...]:
    """Oldest first, the current one last. Raises `EntryNotFound`, `EntryDamaged`."""
    current = entry(c, memory_id)
    number = number_of(c, memory_id)
    found = c.execute(
        "SELECT version FROM memory_versions WHERE number = ? ORDER BY version", (number,)
    )
    earlier = [_version(c, number, cast(int, version), current) for (version,) in found.fetchall()]
    return (*(entry for entry in earlier if entry is not None), current)


def exists(c: apsw.Connection, memory_id: str) -> bool:
    """Whether there is such a memory."""
    row = c.execute("SELECT 1 FROM memory_entries WHERE id = ?", (memory_id,)).fetchone()
    return row is not None


def owners(c: apsw.Connection, memory_ids: Sequence[str]) -> set[str]:
    """Whose memories these are."""
    found = c.execute(
        "SELECT DISTINCT user_id FROM memory_entries WHERE id IN (SELECT value FROM json_each(?))",
        (to_json(memory_ids),),
    )
    return {cast(str, row[0]) for row in found}


def erase(c: apsw.Connection, number: int) -> None:
    """Delete row, versions and vector.

    Its number is noted until the text index has been rewritten without it. A damaged row can
    be erased like any other.
    """
    c.execute("DELETE FROM memory_entries WHERE number = ?", (number,))
    bookkeeping.remove_vector(c, number)
    c.execute("INSERT INTO memory_erased (number) VALUES (?)", (number,))


# --- finding -----------------------------------------------------------------------------


def narrowing(query: Query) -> dict[str, Any]:
    """The named parameters of every narrowed statement; null where nothing was asked."""
    return {
        "types": to_json(query.types) if query.types else None,
        "user_id": query.user_id,
        "session_id": query.session_id,
        "since": None if query.since is None else micros(query.since),
        "until": None if query.until is None else micros(query.until),
    }


_NARROWED = (
    "(:types IS NULL OR type IN (SELECT value FROM json_each(:types))) "
    "AND (:user_id IS NULL OR user_id = :user_id) "
    "AND (:session_id IS NULL OR session_id = :session_id) "
)
_BOUNDED = (
    "AND (:since IS NULL OR valid_from >= :since) "
    "AND (:until IS NULL OR valid_from <= :until) "
    "AND (valid_to IS NULL OR valid_to > :true_at) "
    "AND (:as_of IS NULL OR valid_from <= :as_of) "
)
_UNARCHIVED = "AND (:archived OR archived_at IS NULL OR archived_at > :known_at) "


def newest(
    c: apsw.Connection, query: Query, at: dt.datetime, before: int | None = None
) -> list[int]:
    """Numbers, newest first, of what is to be seen at the moment `at`, below `before`."""
    found = c.execute(
        "SELECT number FROM memory_entries "  # noqa: S608
        f"WHERE {_NARROWED} {_BOUNDED} {_UNARCHIVED} {_WHOLE} "
        "AND (:limited IS NULL OR recorded_at <= :limited) "
        "AND (:before IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit",
        {**truth(query, at), "limit": query.limit, "before": before},
    )
    numbers = [cast(int, row[0]) for row in found]
    if query.known_at is not None:
        numbers += [number for number, _ in replaced_since(c, query, at, query.limit)]
    return sorted(numbers, reverse=True)[: query.limit]


def untexted_matching(
    c: apsw.Connection, query: Query, limit: int, at: dt.datetime
) -> list[tuple[int, str]]:
    """Number and content of the newest `limit` that the text index does not hold yet."""
    found = c.execute(
        "SELECT number, content FROM memory_entries "  # noqa: S608
        f"WHERE text_version < version AND {_NARROWED} {_BOUNDED} {_UNARCHIVED} {_WHOLE} "
        "ORDER BY number DESC LIMIT :limit",
        {**truth(query, at), "limit": limit},
    )
    return cast("list[tuple[int, str]]", found.fetchall())


def replaced_since(
    c: apsw.Connection, query: Query, at: dt.datetime, limit: int
) -> list[tuple[int, str]]:
    """Number and then content of what was on record at `known_at` in another version than now."""
    found = c.execute(
        "SELECT number, content FROM (SELECT v.number, v.content, v.valid_from, v.valid_to, "  # noqa: S608
        "e.type, e.user_id, e.session_id, e.archived_at, max(v.version) "
        "FROM memory_entries e JOIN memory_versions v USING (number) "
        "WHERE e.recorded_at > :known_at AND v.recorded_at <= :known_at GROUP BY v.number) "
        f"WHERE {_NARROWED} {_BOUNDED} {_UNARCHIVED} ORDER BY number DESC LIMIT :limit",
        {**truth(query, at), "limit": limit},
    )
    return cast("list[tuple[int, str]]", found.fetchall())


def truth(query: Query, at: dt.datetime) -> dict[str, Any]:
    """`narrowing`, and what bounds truth and knowledge for a search made at the moment `at`."""
    known_at = micros(query.known_at or at)
    return {
        **narrowing(query),
        "as_of": maybe_micros(query.as_of),
        "true_at": known_at if query.as_of is None else micros(query.as_of),
        "known_at": known_at,
        "limited": maybe_micros(query.known_at),
        "archived": query.archived,
    }


def seen(
    c: apsw.Connection, numbers: Sequence[int], query: Query, at: dt.datetime
) -> dict[int, Entry]:
    """Of these, what a search made at the moment `at` may find, in the words it had then."""
    known = entries(c, numbers)
    if query.known_at is not None:
        known = {
            number: then
            for number, now in known.items()
            if (then := _version_at(c, number, now, query.known_at)) is not None
        }
    return {number: entry for number, entry in known.items() if visible(entry, query, at)}


class Candidate(msgspec.Struct, frozen=True):
    """What the order of a search is made of: a memory's words and how it stands."""

    number: int
    content: str
    type: str
    session_id: str | None
    recorded_at: int
    importance: float
    pinned: bool


def candidates(
    c: apsw.Connection, numbers: Sequence[int], query: Query, at: dt.datetime
) -> dict[int, Candidate]:
    """Of these, what a search made at the moment `at` may find. Digests are not looked at."""
    if query.known_at is None:
        try:
            found = c.execute(
                "SELECT number, substr(content, 1, :chars), type, session_id, recorded_at, "  # noqa: S608
                "importance, pinned FROM memory_entries "
                "WHERE number IN (SELECT value FROM json_each(:numbers)) "
                f"AND {_NARROWED} {_BOUNDED} {_UNARCHIVED}",
                {**truth(query, at), "numbers": to_json(numbers), "chars": RANKED_CHARS},
            ).fetchall()
            return {row[0]: Candidate(*row) for row in cast("list[Any]", found)}
        except (UnicodeDecodeError, apsw.CorruptError):
            pass  # one of them is damaged: look at each
    return {
        number: Candidate(
            number,
            entry.content[:RANKED_CHARS],
            entry.type,
            entry.session_id,
            micros(entry.recorded_at),
            entry.importance,
            entry.pinned,
        )
        for number, entry in seen(c, numbers, query, at).items()
    }


def beside(c: apsw.Connection, numbers: Sequence[int]) -> dict[int, dict[int, int]]:
    """By number: the two memories before and after it in its session, by their place.

    -1 is the one before, 1 the one after.
    """
    found = c.execute(_BESIDE, (to_json(numbers),))
    return {
        cast(int, number): {
            place: other for place, other in zip(_PLACES, others, strict=True) if other
        }
        for number, *others in found
    }


def _nth(order: str, nth: int) -> str:
    """SQL: the number of the nth memory of the same session, counted from this one."""
    past = "<" if order == "DESC" else ">"
    return (
        "(SELECT number FROM memory_entries WHERE session_id = here.session_id "  # noqa: S608
        f"AND number {past} here.number ORDER BY number {order} LIMIT 1 OFFSET {nth})"
    )


_PLACES = (-2, -1, 1, 2)
_BESIDE = (
    f"SELECT number, {_nth('DESC', 1)}, {_nth('DESC', 0)}, {_nth('ASC', 0)}, {_nth('ASC', 1)} "  # noqa: S608
    "FROM memory_entries here WHERE number IN (SELECT value FROM json_each(?)) "
    "AND session_id IS NOT NULL"
)


def visible(entry: Entry, query: Query, at: dt.datetime) -> bool:
    """Whether it is true when the query asks about, and not archived."""
    known_at = query.known_at or at
    if query.as_of is not None and entry.valid_from > query.as_of:
        return False
    if entry.valid_to is not None and entry.valid_to <= (query.as_of or known_at):
        return False
    return query.archived or entry.archived_at is None or entry.archived_at > known_at


def _version_at(
    c: apsw.Connection, number: int, current: Entry, known_at: dt.datetime
) -> Entry | None:
    if current.recorded_at <= known_at:
        return current
    found = c.execute(
        "SELECT version FROM memory_versions "
        "WHERE number = ? AND recorded_at <= ? ORDER BY version DESC LIMIT 1",
        (number, micros(known_at)),
    ).fetchone()
    return None if found is None else _version(c, number, cast(int, found[0]), current)


def _version(c: apsw.Connection, number: int, version: int, current: Entry) -> Entry | None:
    row = rows.stored(
        c,
        f"SELECT digest, {rows.VERSION_COLUMNS} FROM memory_versions "  # noqa: S608
        "WHERE number = ? AND version = ?",
        (number, version),
    )
    entry = None if row is None else rows.version_of(row[1:], row[0], current)
    if entry is None:
        why = rows.NOT_READ if row is None else rows.NOT_WRITTEN
        report("memory_versions", number, why, version)
    return entry


# --- counting ----------------------------------------------------------------------------


def by_type(c: apsw.Connection, user_id: str | None = None) -> dict[str, int]:
    """How many memories of each type."""
    found = c.execute(
        "SELECT type, count(*) FROM memory_entries WHERE ?1 IS NULL OR user_id = ?1 "
        "GROUP BY type ORDER BY type",
        (user_id,),
    )
    return {cast(str, kind): cast(int, count) for kind, count in found}


def file_bytes(c: apsw.Connection) -> int:
    """The size of the whole database, other modules' tables included."""
    return _count(c, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")


def _count(c: apsw.Connection, sql: str) -> int:
    return cast(int, c.execute(sql).fetchall()[0][0])
