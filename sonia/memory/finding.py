"""One search, in one snapshot of the database: words, neighbours, one order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import Ranking
from sonia.memory import ranking, store, vectors
from sonia.memory.interface import Hit, Query
from sonia.memory.text import TextIndex, terms, words

SCAN_ROWS = 10_000  # what is read of the table when the text index does not hold it (yet)
DAY = dt.timedelta(days=1)

Live = Callable[[], TextIndex | None]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `vector` is the question's; without it only words count."""

    query: Query
    vector: NDArray[np.float32] | None
    live: Live
    settings: Ranking
    at: dt.datetime


def find(c: apsw.Connection, search: Search) -> tuple[Hit, ...]:
    """Best first. Raises `IndexDamaged`."""
    query, weight = search.query, search.settings.recency_weight
    if query.query.strip():
        parts = ranking.fused(_lists(c, search))
    else:
        parts, weight = ranking.fused({"newest": store.newest(c, query)}), 0.0
    entries = store.entries(c, list(parts))
    recent = {
        number: ranking.recency(
            (search.at - entry.recorded_at) / DAY, search.settings.half_life_days
        )
        for number, entry in entries.items()
    }
    best = ranking.ordered(parts, recent, weight)[: query.limit]
    return tuple(
        Hit(
            entry=entries[ranked.number],
            score=ranked.score,
            parts=ranked.parts if query.explain else None,
        )
        for ranked in best
    )


def _lists(c: apsw.Connection, search: Search) -> dict[str, list[int]]:
    query = search.query
    limit = max(query.limit, search.settings.candidates)
    lists: dict[str, list[int]] = {}
    if query.mode != "vector":
        scored = by_words(c, query, search.live, limit)
        lists["text"] = [number for number, _ in scored]
    if search.vector is not None:
        near = vectors.nearest(c, search.vector, query, limit)
        lists["vector"] = [number for number, _ in near]
    return lists


def by_words(c: apsw.Connection, query: Query, live: Live, limit: int) -> list[tuple[int, float]]:
    """Numbers and BM25 scores, best first.

    What the index does not hold yet is read from the table and scored alike, so a memory is
    found by its words as soon as its row is committed. The table is asked before the index is
    looked up: whatever the table says the index holds, that index holds. Without an index the
    newest rows of the table are all there is to read.
    """
    asked = terms(query.query)
    if not asked:
        return []
    fresh = store.untexted_matching(c, query, SCAN_ROWS)
    index = live()
    if index is None:
        everything = store.newest(c, msgspec.structs.replace(query, limit=SCAN_ROWS))
        fresh = [(number, e.content) for number, e in store.entries(c, everything).items()]
        return ranking.bm25(asked, _cut(fresh), lambda _: 0, 0)[:limit]
    numbers = {number for number, _ in fresh}
    held = [
        (number, score)
        for number, score in index.search(asked, query, limit + len(fresh))
        if number not in numbers
    ]
    new = ranking.bm25(asked, _cut(fresh), index.frequency, index.documents)
    return sorted([*held, *new], key=lambda item: (-item[1], -item[0]))[:limit]


def _cut(rows: list[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    return [(number, words(content)) for number, content in rows]
