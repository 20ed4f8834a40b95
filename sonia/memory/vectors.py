"""Vectors in sqlite-vec: one table, of one embedding space at a time.

The table lives in the same file as the memories, so a vector goes in the transaction in which
its memory goes. Distances are L2: on unit vectors they order as cosine does and cost less.

A narrowed search names the rows it may find (`rowid IN (SELECT …)`), which sqlite-vec looks at
before it ranks: exact for any filter, with nothing of the memories copied into the vector
table and no guess at how many to fetch too many. Partitions by user would be faster for a
person with very many memories and waste a 1.5 MB chunk on each with few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import apsw
import numpy as np
from numpy.typing import NDArray

from sonia.memory import bookkeeping, store
from sonia.memory.interface import Query

MAX_NEIGHBOURS = 4096  # sqlite-vec refuses a larger k


def begin(c: apsw.Connection, space: str) -> None:
    """Drop the vectors of another space; those of this one follow anew."""
    if not is_of(c, space):
        c.execute("DROP TABLE IF EXISTS memory_vectors")
        c.execute("UPDATE memory_entries SET vector_version = 0 WHERE vector_version > 0")
        bookkeeping.note_derived(c, "vector_space", space)
        bookkeeping.note_derived(c, "vector_dimensions", "0")


def is_of(c: apsw.Connection, space: str) -> bool:
    """Whether the vectors there are, if any, are of this space."""
    return bookkeeping.derived(c, "vector_space") == space


def _table_for(c: apsw.Connection, dimensions: int) -> None:
    """Have a table of vectors of this length; the first vectors tell it."""
    if bookkeeping.vector_dimensions(c) == dimensions:
        return
    c.execute("DROP TABLE IF EXISTS memory_vectors")
    c.execute(
        "CREATE VIRTUAL TABLE memory_vectors USING "
        f"vec0(embedding float[{int(dimensions)}] distance_metric=L2)"
    )
    c.execute("UPDATE memory_entries SET vector_version = 0 WHERE vector_version > 0")
    bookkeeping.note_derived(c, "vector_dimensions", str(int(dimensions)))


def unembedded(c: apsw.Connection, limit: int) -> list[tuple[int, int, str]]:
    """Number, version and content of what has no vector yet, oldest first."""
    rows = c.execute(
        "SELECT number, version, content FROM memory_entries WHERE vector_version < version "
        "ORDER BY number LIMIT ?",
        (limit,),
    )
    return cast("list[tuple[int, int, str]]", rows.fetchall())


def put(
    c: apsw.Connection, rows: Sequence[tuple[int, int, str]], vectors: NDArray[np.float32]
) -> None:
    """Keep the vectors of these versions; one that was changed or forgotten meanwhile is not."""
    _table_for(c, vectors.shape[1])
    for (number, version, _), vector in zip(rows, vectors, strict=True):
        current = c.execute(
            "SELECT 1 FROM memory_entries WHERE number = ? AND version = ?", (number, version)
        ).fetchone()
        if current is None:
            continue
        c.execute("DELETE FROM memory_vectors WHERE rowid = ?", (number,))
        c.execute(
            "INSERT INTO memory_vectors (rowid, embedding) VALUES (?, ?)",
            (number, np.ascontiguousarray(vector, np.float32).tobytes()),
        )
        c.execute(
            "UPDATE memory_entries SET vector_version = ? WHERE number = ?", (version, number)
        )


def nearest(
    c: apsw.Connection, vector: NDArray[np.float32], query: Query, limit: int
) -> list[tuple[int, float]]:
    """Numbers and similarities in [0, 1], closest first, of what `query` narrows to."""
    if bookkeeping.vector_dimensions(c) != len(vector):
        return []
    bound = store.narrowing(query)
    parameters = {
        **bound,
        "vector": np.ascontiguousarray(vector, np.float32).tobytes(),
        "limit": min(limit, MAX_NEIGHBOURS),
    }
    if all(value is None for value in bound.values()):
        rows = c.execute(
            "SELECT rowid, distance FROM memory_vectors "
            "WHERE embedding MATCH :vector AND k = :limit",
            parameters,
        )
    else:
        rows = c.execute(
            "SELECT rowid, distance FROM memory_vectors "
            "WHERE embedding MATCH :vector AND k = :limit AND rowid IN ("
            "SELECT number FROM memory_entries "
            "WHERE (:types IS NULL OR type IN (SELECT value FROM json_each(:types))) "
            "AND (:user_id IS NULL OR user_id = :user_id) "
            "AND (:session_id IS NULL OR session_id = :session_id) "
            "AND (:since IS NULL OR valid_from >= :since) "
            "AND (:until IS NULL OR valid_from <= :until))",
            parameters,
        )
    found = cast("list[tuple[int, float]]", rows.fetchall())
    return [(number, 1 - distance**2 / 4) for number, distance in found]


def counts(c: apsw.Connection) -> tuple[int, int]:
    """How many memories have their vector, and how many wait for one."""
    every, waiting = c.execute(
        "SELECT (SELECT count(*) FROM memory_entries), "
        "(SELECT count(*) FROM memory_entries WHERE vector_version < version)"
    ).fetchall()[0]
    return cast(int, every) - cast(int, waiting), cast(int, waiting)
