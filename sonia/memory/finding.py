"""One search, in one snapshot of the database: words, neighbours, one order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import Ranking
from sonia.memory import ranking, store
from sonia.memory.interface import Entry, Hit, Query
from sonia.memory.text import TextIndex, terms, words

MOST_CANDIDATES = 4_096
SCAN_ROWS = 10_000  # what is read of the table when the text index does not hold it (yet)
DAY = dt.timedelta(days=1)

Live = Callable[[], TextIndex | None]
Near = Callable[[apsw.Connection, NDArray[np.float32], Query, int], list[tuple[int, float]]]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `vector` is the question's; without it only words count.

    `near` gives numbers and similarities in [0, 1] of the nearest memories, closest first.
    """

    query: Query
    vector: NDArray[np.float32] | None
    live: Live
    near: Near
    settings: Ranking
    at: dt.datetime


def find(c: apsw.Connection, search: Search) -> tuple[Hit, ...]:
    """Best first. Raises `IndexDamaged`."""
    query, weight = search.query, search.settings.recency_weight
    if query.query.strip():
        parts, entries = _asked(c, search)
    else:
        parts, weight = ranking.fused({"newest": store.newest(c, query, search.at)}), 0.0
        entries = store.seen(c, list(parts), query, search.at)
    recent = {
        number: 1.0
        if entry.pinned
        else ranking.recency((search.at - entry.recorded_at) / DAY, search.settings.half_life_days)
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


def _asked(
    c: apsw.Connection, search: Search
) -> tuple[dict[int, dict[str, float]], dict[int, Entry]]:
    """Candidates with their parts, and those of them that may be seen.

    The indexes know nothing of truth: where too many of theirs are over or archived, more are
    asked for.
    """
    limit = max(search.query.limit, search.settings.candidates)
    while True:
        lists = _lists(c, search, limit)
        parts = ranking.fused(lists)
        entries = store.seen(c, list(parts), search.query, search.at)
        exhausted = all(len(found) < limit for found in lists.values())
        if len(entries) >= search.query.limit or exhausted or limit >= MOST_CANDIDATES:
            return parts, entries
        limit = min(limit * 4, MOST_CANDIDATES)


def _lists(c: apsw.Connection, search: Search, limit: int) -> dict[str, list[int]]:
    query = search.query
    then = store.replaced_since(c, query, search.at, SCAN_ROWS) if query.known_at else []
    lists: dict[str, list[int]] = {}
    if query.mode != "vector":
        scored = by_words(c, search, then, limit)
        lists["text"] = [number for number, _ in scored]
    if search.vector is not None:
        other = {number for number, _ in then}  # the vector is of other words
        near = search.near(c, search.vector, query, limit)
        lists["vector"] = [number for number, _ in near if number not in other]
    return lists


def by_words(
    c: apsw.Connection, search: Search, then: list[tuple[int, str]], limit: int
) -> list[tuple[int, float]]:
    """Numbers and BM25 scores, best first.

    What the index does not hold yet is read from the table and scored alike, so a memory is
    found by its words as soon as its row is committed. The table is asked before the index is
    looked up: whatever the table says the index holds, that index holds. Without an index the
    newest rows of the table are all there is to read. `then` is what had other words at the
    moment that is asked about.
    """
    query = search.query
    asked = terms(query.query)
    if not asked:
        return []
    fresh = store.untexted_matching(c, query, SCAN_ROWS, search.at)
    index = search.live()
    if index is None:
        everything = store.newest(c, msgspec.structs.replace(query, limit=SCAN_ROWS), search.at)
        seen = store.seen(c, everything, query, search.at)
        fresh = [(number, entry.content) for number, entry in seen.items()]
        return ranking.bm25(asked, _cut(fresh), lambda _: 0, 0)[:limit]
    if then:
        fresh = list({**dict(fresh), **dict(then)}.items())
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
