"""Which versions the derived indexes hold: the SQL by which they heal.

`text_version` and `vector_version` of a memory say which of its versions its index holds. An
index takes something up first and notes it here afterwards. A negative vector version is good,
and to be made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.memory.columns import to_json


class Pending(msgspec.Struct, frozen=True):
    """A version that a derived index has yet to take up."""

    number: int
    version: int
    content: str
    type: str
    user_id: str
    session_id: str | None
    valid_from: int


def untexted(c: apsw.Connection, limit: int) -> list[Pending]:
    """What the text index lacks, oldest first."""
    rows = c.execute(
        "SELECT number, version, content, type, user_id, session_id, valid_from "
        "FROM memory_entries WHERE text_version < version ORDER BY number LIMIT ?",
        (limit,),
    )
    return [Pending(*cast("tuple[Any, ...]", row)) for row in rows]


def contents_after(c: apsw.Connection, number: int, limit: int) -> list[Pending]:
    """Everything the text index should hold, oldest first, from above `number`."""
    rows = c.execute(
        "SELECT number, version, content, type, user_id, session_id, valid_from "
        "FROM memory_entries WHERE number > ? ORDER BY number LIMIT ?",
        (number, limit),
    )
    return [Pending(*cast("tuple[Any, ...]", row)) for row in rows]


def mark_texted(c: apsw.Connection, held: Sequence[tuple[int, int]]) -> None:
    """The text index durably holds these (number, version)."""
    c.execute(
        "UPDATE memory_entries SET text_version = held.value ->> 1 FROM json_each(?) AS held "
        "WHERE number = held.value ->> 0 AND text_version <> held.value ->> 1",
        (to_json(held),),
    )


def texted(c: apsw.Connection) -> int:
    """How many documents the text index must at least hold."""
    rows = c.execute("SELECT count(*) FROM memory_entries WHERE text_version > 0")
    return cast(int, rows.fetchall()[0][0])


def text_generation(c: apsw.Connection) -> str | None:
    """The folder of the text index in use."""
    return derived(c, "text_generation")


def lose_text(c: apsw.Connection) -> None:
    """There is no text index: everything waits for one."""
    c.execute("UPDATE memory_entries SET text_version = 0 WHERE text_version > 0")
    c.execute("DELETE FROM memory_derived WHERE name = 'text_generation'")


def adopt_text(c: apsw.Connection, generation: str, without: Sequence[int]) -> None:
    """Use this text index from now on; it was written without these numbers."""
    note_derived(c, "text_generation", generation)
    c.execute("DELETE FROM memory_derived WHERE name = 'text_renewed'")
    c.executemany("DELETE FROM memory_erased WHERE number = ?", [(n,) for n in without])


def renew_text(c: apsw.Connection) -> None:
    """Have the text index written anew; the one there is answers until then."""
    note_derived(c, "text_renewed", "1")


def renews_text(c: apsw.Connection) -> bool:
    """Whether it is to be written anew."""
    return derived(c, "text_renewed") is not None


def erased(c: apsw.Connection) -> list[int]:
    """Numbers whose words may still be in the text index's files."""
    return [cast(int, row[0]) for row in c.execute("SELECT number FROM memory_erased")]


def derived(c: apsw.Connection, name: str) -> str | None:
    """A note about a derived index."""
    row = c.execute("SELECT value FROM memory_derived WHERE name = ?", (name,)).fetchone()
    return None if row is None else cast(str, row[0])


def note_derived(c: apsw.Connection, name: str, value: str) -> None:
    """Replace that note."""
    c.execute("INSERT OR REPLACE INTO memory_derived (name, value) VALUES (?, ?)", (name, value))


class VectorTable(msgspec.Struct, frozen=True):
    """One of the two tables that vectors may be in.

    `column` of `memory_entries` says of which version `table` has the vector; the notes say of
    which space its vectors are and how long.
    """

    table: str
    column: str
    space: str
    dimensions: str


FIRST = VectorTable("memory_vectors", "vector_version", "vector_space", "vector_dimensions")
SECOND = VectorTable(
    "memory_vectors_2", "vector_version_2", "vector_space_2", "vector_dimensions_2"
)
SERVING = "vector_place"


def serving(c: apsw.Connection) -> VectorTable:
    """Where searches look."""
    return SECOND if derived(c, SERVING) == SECOND.table else FIRST


def dimensions(c: apsw.Connection, place: VectorTable) -> int:
    """The length of the vectors in this table; 0 while there is no table."""
    return int(derived(c, place.dimensions) or 0)


def remove_vector(c: apsw.Connection, number: int) -> None:
    """In the transaction in which its memory changes or goes."""
    for place in (FIRST, SECOND):
        if dimensions(c, place):
            c.execute(f"DELETE FROM {place.table} WHERE rowid = ?", (number,))  # noqa: S608
