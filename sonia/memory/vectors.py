"""Vectors in sqlite-vec: the truth of them, in the same file as the memories.

So a vector goes in the transaction in which its memory goes. Distances are L2: on unit vectors
they order as cosine does and cost less.

There are two places, each for one embedding space. When the space changes, the vectors of the
new one are made in the other place while the first answers; then they change their roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.errors import InvalidRequest
from sonia.memory import bookkeeping, store
from sonia.memory.bookkeeping import FIRST, SECOND, VectorTable
from sonia.memory.columns import to_json
from sonia.memory.interface import Query
from sonia.memory.mirror import Held

MAX_NEIGHBOURS = 4096  # sqlite-vec refuses a larger k
SHADOWS = {  # sqlite-vec's own tables
    "info": "key, value",
    "chunks": "chunk_id INTEGER PRIMARY KEY, size, validity, rowids",
    "rowids": "rowid INTEGER PRIMARY KEY, id, chunk_id, chunk_offset",
    "vector_chunks00": "rowid PRIMARY KEY, vectors",
}
UNIT = 1e-2  # how far from 1 a vector's length may be
_FIELDS = "number, version, type, user_id, session_id, valid_from"


class VectorsDamaged(Exception):
    """The table of vectors can't be read. It is made anew; no memory is lost."""


class Standing(msgspec.Struct, frozen=True):
    """Which space answers, how long its vectors are (0: none yet), and which is being made."""

    space: str
    dimensions: int
    coming: str | None = None


def standing(c: apsw.Connection) -> Standing:
    """As of this snapshot."""
    place = bookkeeping.serving(c)
    return Standing(
        space=bookkeeping.derived(c, place.space) or "",
        dimensions=bookkeeping.dimensions(c, place),
        coming=bookkeeping.derived(c, _other(place).space),
    )


def begin(c: apsw.Connection, space: str) -> None:
    """Have a place for vectors of this space.

    That is the place that answers if its vectors are of this space, or if it has none; else the
    other one, where it goes on if vectors of this space are there from before.
    """
    now = bookkeeping.serving(c)
    spare = _other(now)
    if bookkeeping.derived(c, now.space) == space:
        _clear(c, spare)
    elif not bookkeeping.dimensions(c, now):
        _clear(c, spare)
        bookkeeping.note_derived(c, now.space, space)
    elif bookkeeping.derived(c, spare.space) != space:
        _clear(c, spare)
        bookkeeping.note_derived(c, spare.space, space)


def has_begun(c: apsw.Connection, space: str) -> bool:
    """Whether `begin` has nothing to do."""
    found = standing(c)
    return found.coming is None if found.space == space else found.coming == space


def arrive(c: apsw.Connection, space: str) -> bool:
    """Have this space answer from now on, if every memory has its vector. Whether it does."""
    now = bookkeeping.serving(c)
    if bookkeeping.derived(c, now.space) == space:
        return True
    place = _place_of(c, space)
    if place is None or unembedded(c, space, 1):
        return False
    bookkeeping.note_derived(c, bookkeeping.SERVING, place.table)
    _clear(c, now)
    return True


def lose(c: apsw.Connection) -> None:
    """The vectors that answer are damaged: every memory waits for a new one."""
    place = bookkeeping.serving(c)
    space = bookkeeping.derived(c, place.space)
    _clear(c, place)
    if space is not None:
        bookkeeping.note_derived(c, place.space, space)


def renew(c: apsw.Connection) -> None:
    """Have every vector made anew; those there are answer until they are replaced."""
    place = bookkeeping.serving(c)
    c.execute(
        f"UPDATE memory_entries SET {place.column} = -{place.column} "  # noqa: S608
        f"WHERE {place.column} = version"
    )


def _other(place: VectorTable) -> VectorTable:
    return SECOND if place == FIRST else FIRST


def _place_of(c: apsw.Connection, space: str) -> VectorTable | None:
    now = bookkeeping.serving(c)
    for place in (now, _other(now)):
        if bookkeeping.derived(c, place.space) == space:
            return place
    return None


def _clear(c: apsw.Connection, place: VectorTable) -> None:
    """Leave no vector and no note in this place."""
    _drop_table(c, place)
    _unmark_all(c, place)
    for note in (place.space, place.dimensions):
        c.execute("DELETE FROM memory_derived WHERE name = ?", (note,))


def _drop_table(c: apsw.Connection, place: VectorTable) -> None:
    if bookkeeping.dimensions(c, place):
        for shadow, columns in SHADOWS.items():  # without one of them, it can't be dropped
            c.execute(f"CREATE TABLE IF NOT EXISTS {place.table}_{shadow} ({columns})")
    c.execute(f"DROP TABLE IF EXISTS {place.table}")


def _unmark_all(c: apsw.Connection, place: VectorTable) -> None:
    c.execute(f"UPDATE memory_entries SET {place.column} = 0 WHERE {place.column} > 0")  # noqa: S608
    if place == SECOND:
        c.execute("DROP INDEX IF EXISTS memory_entries_unembedded_2")


def _table_for(c: apsw.Connection, place: VectorTable, dimensions: int) -> None:
    """Have a table of vectors of this length; the first vectors tell it."""
    if bookkeeping.dimensions(c, place) == dimensions:
        return
    _drop_table(c, place)
    _unmark_all(c, place)
    c.execute(
        f"CREATE VIRTUAL TABLE {place.table} USING "
        f"vec0(embedding float[{int(dimensions)}] distance_metric=L2)"
    )
    if place == SECOND:
        c.execute(
            "CREATE INDEX memory_entries_unembedded_2 ON memory_entries (number) "
            "WHERE vector_version_2 < version"
        )
    bookkeeping.note_derived(c, place.dimensions, str(int(dimensions)))


# --- keeping -----------------------------------------------------------------------------


def unembedded(c: apsw.Connection, space: str, limit: int) -> list[tuple[int, int, str]]:
    """Number, version and content of what has no vector in this space yet, oldest first."""
    place = _place_of(c, space)
    if place is None:
        return []
    rows = c.execute(
        f"SELECT number, version, content FROM memory_entries WHERE {place.column} < version "  # noqa: S608
        "ORDER BY number LIMIT ?",
        (limit,),
    )
    return cast("list[tuple[int, int, str]]", rows.fetchall())


def put(
    c: apsw.Connection,
    space: str,
    rows: Sequence[tuple[int, int]],
    vectors: NDArray[np.float32],
) -> list[tuple[int, Held]]:
    """Keep the vectors of these numbers and versions; return which of them, and what they are.

    One that was changed or forgotten meanwhile is not kept, nor any of a space that has gone.
    """
    place = _place_of(c, space)
    if place is None:
        return []
    _table_for(c, place, vectors.shape[1])
    current = _current(c, place, [number for number, _ in rows])
    kept = [
        (index, *current[number])
        for index, (number, version) in enumerate(rows)
        if number in current and current[number][0].version == version
    ]
    c.executemany(
        f"DELETE FROM {place.table} WHERE rowid = ?",  # noqa: S608
        [(held.number,) for _, held, before in kept if before],
    )
    vectors = np.ascontiguousarray(vectors, np.float32)
    c.executemany(
        f"INSERT INTO {place.table} (rowid, embedding) VALUES (?, ?)",  # noqa: S608
        ((held.number, vectors[index].tobytes()) for index, held, _ in kept),
    )
    c.executemany(
        f"UPDATE memory_entries SET {place.column} = version WHERE number = ?",  # noqa: S608
        [(held.number,) for _, held, before in kept if before != held.version],
    )
    return [(index, held) for index, held, _ in kept]


def place_for(c: apsw.Connection, space: str, vectors: NDArray[np.float32]) -> VectorTable | None:
    """Where vectors of this space and length go; none if the space has gone.

    Raises `InvalidRequest` if they are not as long as those there are.
    """
    place = _place_of(c, space)
    if place is None:
        return None
    dimensions = bookkeeping.dimensions(c, place)
    if dimensions not in (0, vectors.shape[1]):
        raise InvalidRequest(
            f"These vectors have {vectors.shape[1]} dimensions; those of {space} have {dimensions}."
        )
    _table_for(c, place, vectors.shape[1])
    return place


def checked_vectors(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """As they are kept: `[count, dimensions]`, each of length 1. Raises `InvalidRequest`."""
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise InvalidRequest(
            f"Give one vector for each of the {count} memories, not the shape {vectors.shape}."
        )
    made = np.ascontiguousarray(vectors, np.float32)
    if not _of_unit_length(made).all():
        raise InvalidRequest("Every vector must have the length 1.")
    return made


def _current(
    c: apsw.Connection, place: VectorTable, numbers: list[int]
) -> dict[int, tuple[Held, int]]:
    rows = c.execute(
        f"SELECT {place.column}, {_FIELDS} FROM memory_entries "  # noqa: S608
        "WHERE number IN (SELECT value FROM json_each(?))",
        (to_json(numbers),),
    )
    return {cast(int, row[1]): (Held(*row[1:]), cast(int, row[0])) for row in rows}


def unmark(c: apsw.Connection, numbers: Iterable[int]) -> None:
    """The vectors of these are not what they should be: have them made anew."""
    place = bookkeeping.serving(c)
    for number in numbers:
        c.execute(f"DELETE FROM {place.table} WHERE rowid = ?", (number,))  # noqa: S608
        c.execute(
            f"UPDATE memory_entries SET {place.column} = 0 WHERE number = ?",  # noqa: S608
            (number,),
        )


def counts(c: apsw.Connection) -> tuple[int, int]:
    """How many memories have their vector where searches look, and how many wait for one."""
    return _counts(c, bookkeeping.serving(c))


def coming(c: apsw.Connection) -> int:
    """How many memories have their vector in the space that is being made."""
    return _counts(c, _other(bookkeeping.serving(c)))[0]


def _counts(c: apsw.Connection, place: VectorTable) -> tuple[int, int]:
    every, waiting = c.execute(
        "SELECT (SELECT count(*) FROM memory_entries), "  # noqa: S608
        f"(SELECT count(*) FROM memory_entries WHERE {place.column} < version)"
    ).fetchall()[0]
    return cast(int, every) - cast(int, waiting), cast(int, waiting)


# --- reading for the mirror --------------------------------------------------------------


def chunk_after(
    c: apsw.Connection, after: int
) -> tuple[int, NDArray[np.int64], NDArray[np.float32]] | None:
    """The next of the chunks in which sqlite-vec keeps vectors: its id, numbers, vectors.

    Read from its own tables, a thousand times faster than row by row. Vectors that are not of
    length 1 are left out. Raises `VectorsDamaged`.
    """
    place = bookkeeping.serving(c)
    size = bookkeeping.dimensions(c, place)
    try:
        row = c.execute(
            "SELECT c.chunk_id, c.validity, c.rowids, v.vectors "  # noqa: S608
            f"FROM {place.table}_chunks c LEFT JOIN {place.table}_vector_chunks00 v "
            "ON v.rowid = c.chunk_id WHERE c.chunk_id > ? ORDER BY c.chunk_id LIMIT 1",
            (after,),
        ).fetchone()
        if row is None:
            return None
        chunk_id, validity, rowids, blob = cast("tuple[int, bytes, bytes, bytes]", row)
        valid = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
        numbers = np.frombuffer(rowids, np.int64)
        vectors = np.frombuffer(blob, np.float32).reshape(len(numbers), size)
        whole = valid[: len(numbers)].astype(np.bool_) & _of_unit_length(vectors)
    except (apsw.SQLError, apsw.CorruptError, TypeError, ValueError) as error:
        raise VectorsDamaged(str(error)) from error
    return chunk_id, numbers[whole], vectors[whole]


def vectors_of(
    c: apsw.Connection, numbers: Iterable[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of these that are there and of length 1. Raises `VectorsDamaged`."""
    place = bookkeeping.serving(c)
    found: list[int] = []
    made = [np.empty((0, bookkeeping.dimensions(c, place)), np.float32)]
    try:
        for number in numbers:
            row = c.execute(
                f"SELECT embedding FROM {place.table} WHERE rowid = ?",  # noqa: S608
                (number,),
            ).fetchone()
            if row is not None:
                vector = np.frombuffer(cast(bytes, row[0]), np.float32)[np.newaxis]
                if _of_unit_length(vector).all():
                    found.append(number)
                    made.append(vector)
    except apsw.Error as error:
        raise VectorsDamaged(str(error)) from error
    return np.array(found, np.int64), np.concatenate(made)


def held_between(c: apsw.Connection, first: int, last: int) -> list[Held]:
    """What is known of those with these numbers whose vector is kept."""
    place = bookkeeping.serving(c)
    rows = c.execute(
        f"SELECT {_FIELDS} FROM memory_entries "  # noqa: S608
        f"WHERE number BETWEEN ? AND ? AND abs({place.column}) = version",
        (first, last),
    )
    return [Held(*row) for row in rows]


def held_of(c: apsw.Connection, numbers: Iterable[int]) -> list[Held]:
    """The same of these numbers."""
    place = bookkeeping.serving(c)
    current = _current(c, place, list(numbers))
    return [held for held, version in current.values() if held.version == abs(version)]


def last_number(c: apsw.Connection) -> int:
    """The highest number of a memory."""
    rows = c.execute("SELECT coalesce(max(number), 0) FROM memory_entries")
    return cast(int, rows.fetchall()[0][0])


def _of_unit_length(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    return cast("NDArray[np.bool_]", np.abs(np.sqrt(lengths) - 1) < UNIT)


# --- searching ---------------------------------------------------------------------------

_NARROWED = (
    "(:types IS NULL OR type IN (SELECT value FROM json_each(:types))) "
    "AND (:user_id IS NULL OR user_id = :user_id) "
    "AND (:session_id IS NULL OR session_id = :session_id) "
    "AND (:since IS NULL OR valid_from >= :since) "
    "AND (:until IS NULL OR valid_from <= :until)"
)


def nearest(
    c: apsw.Connection, vector: NDArray[np.float32], query: Query, limit: int
) -> list[tuple[int, float]]:
    """Numbers and similarities in [0, 1], closest first, of what `query` narrows to.

    Every vector is looked at. Raises `VectorsDamaged`.
    """
    place = bookkeeping.serving(c)
    if bookkeeping.dimensions(c, place) != len(vector):
        return []
    bound = store.narrowing(query)
    parameters = {
        **bound,
        "vector": np.ascontiguousarray(vector, np.float32).tobytes(),
        "limit": min(limit, MAX_NEIGHBOURS),
    }
    sql = (
        f"SELECT rowid, distance FROM {place.table} "  # noqa: S608
        "WHERE embedding MATCH :vector AND k = :limit"
    )
    if any(value is not None for value in bound.values()):
        sql += f" AND rowid IN (SELECT number FROM memory_entries WHERE {_NARROWED})"  # noqa: S608
    try:
        found = cast("list[tuple[int, float]]", c.execute(sql, parameters).fetchall())
    except (apsw.SQLError, apsw.CorruptError) as error:
        raise VectorsDamaged(str(error)) from error
    return [(number, similarity(1 - distance**2 / 2)) for number, distance in found]


def confirmed(c: apsw.Connection, numbers: Sequence[int], query: Query) -> set[int]:
    """Those of these whose vector is that of their present words, and that `query` narrows to."""
    place = bookkeeping.serving(c)
    rows = c.execute(
        "SELECT number FROM memory_entries "  # noqa: S608
        "WHERE number IN (SELECT value FROM json_each(:numbers)) "
        f"AND abs({place.column}) = version AND {_NARROWED}",
        {**store.narrowing(query), "numbers": to_json(numbers)},
    )
    return {number for (number,) in cast("list[tuple[int]]", rows.fetchall())}


def similarity(cosine: float) -> float:
    """In [0, 1]: 0 is opposite, 1 the same."""
    return min(1.0, max(0.0, (1 + cosine) / 2))
