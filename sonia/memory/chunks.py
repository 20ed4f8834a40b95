"""Writing many vectors into sqlite-vec's table at once: whole chunks, not row by row.

sqlite-vec keeps vectors in chunks of `SIZE`, each one value of its own tables; its own way in
opens the chunk anew for each vector. What is written here is what it would have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import apsw
import numpy as np
from numpy.typing import NDArray

SIZE = 1024  # vectors; sqlite-vec's own choice, which our table leaves to it


def append(
    c: apsw.Connection, table: str, numbers: Sequence[int], vectors: NDArray[np.float32]
) -> None:
    """Insert these. None of the numbers is there yet."""
    start = min(_room(c, table), len(numbers))
    _one_by_one(c, table, numbers[:start], vectors[:start])
    while len(numbers) - start >= SIZE:
        end = start + SIZE
        _chunk(c, table, numbers[start:end], vectors[start:end])
        start = end
    _one_by_one(c, table, numbers[start:], vectors[start:])


def _room(c: apsw.Connection, table: str) -> int:
    """How many vectors the last chunk still takes: those come first, so that none stays unused."""
    row = c.execute(
        f"SELECT validity FROM {table}_chunks ORDER BY chunk_id DESC LIMIT 1"  # noqa: S608
    ).fetchone()
    if row is None:
        return 0
    taken = np.unpackbits(np.frombuffer(cast(bytes, row[0]), np.uint8))
    return len(taken) - int(taken.sum())


def _one_by_one(
    c: apsw.Connection, table: str, numbers: Sequence[int], vectors: NDArray[np.float32]
) -> None:
    c.executemany(
        f"INSERT INTO {table} (rowid, embedding) VALUES (?, ?)",  # noqa: S608
        ((number, vector.tobytes()) for number, vector in zip(numbers, vectors, strict=True)),
    )


def _chunk(
    c: apsw.Connection, table: str, numbers: Sequence[int], vectors: NDArray[np.float32]
) -> None:
    c.execute(
        f"INSERT INTO {table}_chunks (size, validity, rowids) VALUES (?, ?, ?)",  # noqa: S608
        (SIZE, b"\xff" * (SIZE // 8), np.array(numbers, np.int64).tobytes()),
    )
    chunk = c.last_insert_rowid()
    c.execute(
        f"INSERT INTO {table}_vector_chunks00 (_rowid_, rowid, vectors) VALUES (?1, ?1, ?2)",  # noqa: S608
        (chunk, vectors.tobytes()),
    )
    c.executemany(
        f"INSERT INTO {table}_rowids (rowid, chunk_id, chunk_offset) VALUES (?, ?, ?)",  # noqa: S608
        ((number, chunk, place) for place, number in enumerate(numbers)),
    )
