"""What a search may find: the best by words and the nearest by meaning."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import MemoryEngine
from sonia.memory import ranking, store
from sonia.memory.counting import Texts
from sonia.memory.interface import Query
from sonia.memory.mirroring import Found
from sonia.memory.ranking import Bm25, Corpus
from sonia.memory.store import Candidate
from sonia.memory.text import TextIndex, only_function_words, terms

MOST_CANDIDATES = 4_096
SCAN_ROWS = 10_000  # what is read of the table when the text index does not hold it (yet)

Live = Callable[[], TextIndex | None]
Near = Callable[[NDArray[np.float32], Query, int], Found]
Vectors = Callable[[Sequence[int]], tuple[NDArray[np.int64], NDArray[np.float32]]]
Pool = dict[int, Candidate]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `vector` is the question's; without it only words count.

    `near` begins to look for the nearest memories; what it returns gives their numbers and
    similarities in [0, 1], closest first;
    `vectors` those of the numbers it is given that it has at hand.
    """

    query: Query
    vector: NDArray[np.float32] | None
    live: Live
    near: Near
    vectors: Vectors
    settings: MemoryEngine
    at: dt.datetime


class Candidates(msgspec.Struct, frozen=True):
    """Whatever may be found, and what is known of it.

    `replaced` had other words at the moment that is asked about, so their vectors say nothing.
    """

    pool: Pool
    cosines: dict[int, float]
    corpus: Corpus
    replaced: frozenset[int]


def gathered(c: apsw.Connection, search: Search) -> Candidates:
    """The best by words and the nearest by meaning, those of them that may be seen.

    The indexes know nothing of truth: where too many of theirs are over or archived, more are
    asked for.
    """
    query = search.query
    then = store.replaced_since(c, query, search.at, SCAN_ROWS) if query.known_at else []
    replaced = frozenset(number for number, _ in then)
    limit = max(query.limit, search.settings.ranking.candidates)
    while True:
        looking = None if search.vector is None else search.near(search.vector, query, limit)
        text, corpus = _by_words(c, search, then, limit)
        near = {} if looking is None else _by_meaning(looking(c))
        cosines = {number: cosine for number, cosine in near.items() if number not in replaced}
        numbers = list(dict.fromkeys([*text, *cosines]))
        pool = store.candidates(c, numbers, query, search.at)
        exhausted = len(text) < limit and len(near) < limit
        if len(pool) >= query.limit or exhausted or limit >= MOST_CANDIDATES:
            return Candidates(pool, cosines, corpus, replaced)
        limit = min(limit * 4, MOST_CANDIDATES)


def _by_meaning(near: list[tuple[int, float]]) -> dict[int, float]:
    return {number: 2 * similarity - 1 for number, similarity in near}


def _by_words(
    c: apsw.Connection, search: Search, then: list[tuple[int, str]], limit: int
) -> tuple[list[int], Corpus]:
    """Numbers, best first, and what their words' rarity is taken from.

    What the index does not hold yet is read from the table and scored alike, so a memory is
    found by its words as soon as its row is committed. The table is asked before the index is
    looked up: whatever the table says the index holds, that index holds. Without an index the
    newest rows of the table are all there is to read. `then` is what had other words at the
    moment that is asked about.
    """
    query, at = search.query, search.at
    asked = terms(query.query) if query.mode != "vector" else []
    fresh = dict(store.untexted_matching(c, query, SCAN_ROWS, at)) if asked else {}
    index = search.live()
    if index is None and asked:
        newest = store.newest(c, msgspec.structs.replace(query, limit=SCAN_ROWS), at)
        fresh = {n: entry.content for n, entry in store.seen(c, newest, query, at).items()}
    fresh.update(then)
    every = counts_every(search, asked)
    new = Texts(fresh.values(), every=every)
    held = index.search(asked, query, limit + len(new)) if index is not None and asked else []
    corpus = _corpus(index, new)
    scores = ranking.bm25(dict.fromkeys(asked, 1.0), new, corpus, knobs(search))
    scored = [(number, score) for number, score in held if number not in fresh]
    scored += [(n, score) for n, score in zip(fresh, scores.tolist(), strict=True) if score > 0]
    scored.sort(key=lambda item: (-item[1], -item[0]))
    return [number for number, _ in scored[:limit]], corpus


def _corpus(index: TextIndex | None, new: Texts) -> Corpus:
    def frequency(word: str) -> int:
        held = index.frequency(word) if index is not None else 0
        return held + (new.within(word) if len(new) else 0)

    return Corpus(frequency, (index.documents if index is not None else 0) + len(new))


def counts_every(search: Search, asked: Sequence[str]) -> bool:
    """Whether function words count: where there is nothing else to go by."""
    return search.vector is None and only_function_words(asked)


def knobs(search: Search) -> Bm25:
    return Bm25(search.settings.search.bm25_k1, search.settings.search.bm25_b)
