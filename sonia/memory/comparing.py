"""Near-duplicates by meaning: what two sentences share is most of both, and their vectors agree.

A number, a name or a "not" that only one of them has keeps them apart, whatever the vectors say:
"I love red wine" lies as near to "I love white wine" as to its own paraphrase. So of two that
differ both ways only almost equal vectors make one; of two where one says all the other does,
the fuller stays.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, cast

import apsw

from sonia.errors import Unavailable
from sonia.memory import bookkeeping, ledger, merging, store, vectors
from sonia.memory.attributes import attribute_of, said_words
from sonia.memory.interface import Entry, Query
from sonia.memory.ledger import Row
from sonia.memory.mirroring import MirrorFollower
from sonia.memory.provenance import may_replace
from sonia.types import Value

NEIGHBOURS = 20
BATCH = 50
SAME_COSINE = 0.97
FULLER_COSINE = 0.85
LEAST_SHARED = 0.6  # of the words of both
_APART = re.compile(r"\d|^(?:not|no|never|cannot|nor|without|ex|former)$")
_NAME = re.compile(r"(?<!^)(?<![.!?] )\b(?!I\b|I')[A-Z]\w+")


class Pair(Value):
    """Two memories by their numbers, and the cosine of their vectors."""

    number: int
    other: int
    cosine: float


def uncompared(c: apsw.Connection, limit: int = BATCH) -> list[int]:
    """Numbers of what was said and has its vector, oldest first."""
    column = bookkeeping.serving(c).column
    rows = c.execute(
        "SELECT number FROM memory_uncompared JOIN memory_entries USING (number) "  # noqa: S608
        f"WHERE {column} = version ORDER BY number LIMIT ?",
        (limit,),
    )
    return [cast(int, row[0]) for row in rows]


def neighbours(c: apsw.Connection, number: int, mirror: MirrorFollower) -> list[Pair]:
    """The nearest others of the same person, nearest first. Raises `Unavailable`."""
    row = c.execute("SELECT user_id FROM memory_entries WHERE number = ?", (number,)).fetchone()
    if row is None:
        return []
    query = Query(query="", user_id=cast(str, row[0]))
    try:
        _, made = vectors.vectors_of(c, [number])
        if not len(made):
            return []
        space = vectors.standing(c).space
        near = mirror.near(made[0], query, NEIGHBOURS, space=space)(c)
    except vectors.VectorsDamaged as error:
        raise Unavailable("The vectors are damaged; they are being made anew.") from error
    return [
        Pair(number=number, other=other, cosine=2 * similarity - 1)
        for other, similarity in near
        if other != number
    ]


def merge_all(c: apsw.Connection, near: dict[int, list[Pair]], note: Row) -> int:
    """`merge` each; return how many gave way."""
    return sum(merge(c, number, pairs, note) for number, pairs in near.items())


def merge(c: apsw.Connection, number: int, pairs: list[Pair], note: Row) -> bool:
    """Have one memory give way to what says the same, if anything does; note it compared."""
    c.execute("DELETE FROM memory_uncompared WHERE number = ?", (number,))
    found = store.entries(c, [number, *(pair.other for pair in pairs)])
    mine = found.get(number)
    if mine is None or not _current(mine, note.at):
        return False
    for pair in pairs:
        other = found.get(pair.other)
        if other is None or other.user_id != mine.user_id or not _current(other, note.at):
            continue
        if other.type not in merging.STATEMENTS or not same(mine, other, pair.cosine):
            continue
        keep, gone = _fuller(mine, other)
        if may_replace(keep.origin, gone.origin):
            was = store.give_way(c, gone, keep, note.at)
            ledger.append(c, _about(note, was))
            return True
    return False


def same(one: Entry, other: Entry, cosine: float) -> bool:
    """Whether both say the same, or one says all that the other does."""
    mine, theirs = said_words(one.content), said_words(other.content)
    differing = mine ^ theirs
    if not mine or not theirs or len(mine & theirs) < LEAST_SHARED * len(mine | theirs):
        return False
    if any(_APART.search(word) for word in differing):
        return False
    if set(_NAME.findall(one.content)) != set(_NAME.findall(other.content)):
        return False
    told, before = attribute_of(one.content), attribute_of(other.content)
    if told != before and told is not None and before is not None:
        return False
    subset = mine <= theirs or theirs <= mine
    return cosine >= (FULLER_COSINE if subset else SAME_COSINE)


def _fuller(one: Entry, other: Entry) -> tuple[Entry, Entry]:
    """What says more stays; of two that say as much, the one that was there first."""
    mine, theirs = len(said_words(one.content)), len(said_words(other.content))
    if (mine, -one.recorded_at.timestamp()) > (theirs, -other.recorded_at.timestamp()):
        return one, other
    return other, one


def _current(entry: Entry, at: dt.datetime) -> bool:
    over = entry.valid_to is not None and entry.valid_to <= at
    return entry.superseded_by is None and entry.archived_at is None and not over


def _about(note: Row, entry: Entry) -> Row:
    data: dict[str, Any] = {"id": entry.id, "type": entry.type, "version": entry.version}
    return Row(
        kind="memory.superseded",
        at=note.at,
        data={**data, "by": "merge"},
        correlation_id=note.correlation_id,
        user_id=entry.user_id,
        session_id=entry.session_id,
    )
