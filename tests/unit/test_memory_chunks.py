"""Vectors that are written in whole chunks are as if sqlite-vec had written them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import numpy as np
import pytest
from numpy.typing import NDArray

from sonia.db import connect
from sonia.memory.chunks import SIZE, append

DIMENSIONS = 8
VECTORS = np.random.default_rng(1).normal(size=(3 * SIZE, DIMENSIONS)).astype(np.float32)


@pytest.fixture
def c(tmp_path: Path) -> Iterator[apsw.Connection]:
    path = tmp_path / "vectors.db"
    path.touch()
    connection = connect(path)
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{DIMENSIONS}] distance_metric=L2)"
    )
    yield connection
    connection.close()


def put(c: apsw.Connection, first: int, last: int) -> None:
    """The vectors with these numbers, from 1 on."""
    append(c, "v", range(first, last + 1), VECTORS[first - 1 : last])


def nearest(c: apsw.Connection, vector: NDArray[np.float32]) -> list[int]:
    rows = c.execute(
        "SELECT rowid FROM v WHERE embedding MATCH ? AND k = 5 ORDER BY distance",
        (vector.tobytes(),),
    )
    return [number for (number,) in rows.fetchall()]


def exactly(numbers: Sequence[int], vector: NDArray[np.float32]) -> list[int]:
    distances = [np.linalg.norm(VECTORS[number - 1] - vector) for number in numbers]
    return [numbers[place] for place in np.argsort(distances)[:5]]


@pytest.mark.parametrize("before", [0, 10, SIZE, SIZE + 1])
def test_they_are_found_wherever_the_table_stood(c: apsw.Connection, before: int) -> None:
    last = before + 2 * SIZE - 100

    put(c, 1, before)
    put(c, before + 1, last)

    for vector in VECTORS[::400]:
        assert nearest(c, vector) == exactly(range(1, last + 1), vector)
    assert c.execute("SELECT count(*) FROM v").fetchone() == (last,)


def test_no_room_in_a_chunk_stays_unused(c: apsw.Connection) -> None:
    for first in range(1, len(VECTORS), 512 + SIZE):
        put(c, first, first + 511 + SIZE)

    assert c.execute("SELECT count(*) FROM v_chunks").fetchone() == (3,)


def test_one_of_them_is_read_and_removed_and_others_come_after_it(c: apsw.Connection) -> None:
    put(c, 1, SIZE)

    c.execute("DELETE FROM v WHERE rowid = 7")
    put(c, SIZE + 1, SIZE + 3)

    left = [number for number in range(1, SIZE + 4) if number != 7]
    assert nearest(c, VECTORS[6]) == exactly(left, VECTORS[6])
    kept = c.execute("SELECT embedding FROM v WHERE rowid = 8").fetchone()
    assert kept == (VECTORS[7].tobytes(),)
