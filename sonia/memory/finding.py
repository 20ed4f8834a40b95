"""One search, in one snapshot of the database: candidates by words and by meaning, one order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import MemoryEngine
from sonia.memory import ranking, store
from sonia.memory.columns import micros
from sonia.memory.interface import Hit, Query
from sonia.memory.ranking import Bm25, Corpus, Floats, Words
from sonia.memory.store import Candidate
from sonia.memory.text import TextIndex, counted, terms

MOST_CANDIDATES = 4_096
SCAN_ROWS = 10_000  # what is read of the table when the text index does not hold it (yet)
SURROUNDED = 16  # of how many of the best, at the least, the memories around them are looked at
DAY_US = 86_400_000_000

Live = Callable[[], TextIndex | None]
Near = Callable[[apsw.Connection, NDArray[np.float32], Query, int], list[tuple[int, float]]]
Vectors = Callable[[Sequence[int]], tuple[NDArray[np.int64], NDArray[np.float32]]]
Pool = dict[int, Candidate]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `vector` is the question's; without it only words count.

    `near` gives numbers and similarities in [0, 1] of the nearest memories, closest first;
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
    words: dict[int, Words]


def find(c: apsw.Connection, search: Search) -> tuple[Hit, ...]:
    """Best first. Raises `IndexDamaged`."""
    query = search.query
    if query.query.strip():
        found = _gathered(c, search)
        pool, parts = _relevance(c, search, found)
        parts = _weighed(pool, parts, search)
    else:
        numbers = store.newest(c, query, search.at)
        parts = {number: {"newest": place} for number, place in ranking.by_place(numbers).items()}
    totals = {number: sum(of.values()) for number, of in parts.items()}
    order = sorted(totals, key=lambda number: (-totals[number], -number))
    return tuple(_hits(c, order, totals, parts, search))


def _hits(
    c: apsw.Connection,
    order: Sequence[int],
    totals: Mapping[int, float],
    parts: Mapping[int, dict[str, float]],
    search: Search,
) -> list[Hit]:
    """The first `limit` that are undamaged."""
    query, hits, start = search.query, list[Hit](), 0
    while len(hits) < query.limit and start < len(order):
        some = order[start : start + query.limit]
        entries = store.seen(c, some, query, search.at)
        hits += [
            Hit(
                entry=entries[number],
                score=totals[number],
                parts=parts[number] if query.explain else None,
            )
            for number in some
            if number in entries
        ]
        start += query.limit
    return hits[: query.limit]


# --- candidates --------------------------------------------------------------------------


def _gathered(c: apsw.Connection, search: Search) -> Candidates:
    """The best by words and the nearest by meaning, those of them that may be seen.

    The indexes know nothing of truth: where too many of theirs are over or archived, more are
    asked for.
    """
    query = search.query
    then = store.replaced_since(c, query, search.at, SCAN_ROWS) if query.known_at else []
    replaced = frozenset(number for number, _ in then)
    limit = max(query.limit, search.settings.ranking.candidates)
    while True:
        text, corpus = _by_words(c, search, then, limit)
        near = _by_meaning(c, search, limit)
        cosines = {number: cosine for number, cosine in near.items() if number not in replaced}
        numbers = list(dict.fromkeys([*text, *cosines]))
        pool = store.candidates(c, numbers, query, search.at)
        exhausted = len(text) < limit and len(near) < limit
        if len(pool) >= query.limit or exhausted or limit >= MOST_CANDIDATES:
            return Candidates(pool, cosines, corpus, replaced, {})
        limit = min(limit * 4, MOST_CANDIDATES)


def _by_meaning(c: apsw.Connection, search: Search, limit: int) -> dict[int, float]:
    if search.vector is None:
        return {}
    near = search.near(c, search.vector, search.query, limit)
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
    new = {number: counted(content) for number, content in fresh.items()}
    held = index.search(asked, query, limit + len(new)) if index is not None and asked else []
    corpus = _corpus(index, list(new.values()))
    scores = ranking.bm25(dict.fromkeys(asked, 1.0), list(new.values()), corpus, _knobs(search))
    scored = [(number, score) for number, score in held if number not in new]
    scored += [(n, score) for n, score in zip(new, scores.tolist(), strict=True) if score > 0]
    scored.sort(key=lambda item: (-item[1], -item[0]))
    return [number for number, _ in scored[:limit]], corpus


def _corpus(index: TextIndex | None, new: Sequence[Words]) -> Corpus:
    known: dict[str, int] = {}

    def frequency(word: str) -> int:
        if word not in known:
            held = index.frequency(word) if index is not None else 0
            known[word] = held + sum(word in text.counts for text in new)
        return known[word]

    return Corpus(frequency, (index.documents if index is not None else 0) + len(new))


def _knobs(search: Search) -> Bm25:
    return Bm25(search.settings.search.bm25_k1, search.settings.search.bm25_b)


# --- order -------------------------------------------------------------------------------


def _relevance(
    c: apsw.Connection, search: Search, found: Candidates
) -> tuple[Pool, dict[int, dict[str, float]]]:
    """The candidates, those that came in beside others too, and the parts of their relevance."""
    mode = search.query.mode
    if mode == "vector":
        near = {n: {"vector": max(found.cosines.get(n, 0.0), 0.0)} for n in found.pool}
        return found.pool, near
    first = _Scores(search, found, found.pool)
    if mode == "text":
        return first.pool, first.parts({"text": first.text})
    best = np.argsort(-first.fit, kind="stable")
    told = ranking.feedback(
        [(first.words[i], float(first.fit[i])) for i in best[: ranking.FEEDBACK_FROM]],
        found.corpus,
    )
    around = {
        first.numbers[i]: store.beside(c, found.pool[first.numbers[i]])
        for i in best[: max(SURROUNDED, search.query.limit)]
    }
    others = {n for places in around.values() for n in places.values()} - found.pool.keys()
    joined = store.candidates(c, list(others), search.query, search.at)
    scores = _Scores(search, found, {**found.pool, **joined})
    again = ranking.bm25(told, scores.words, found.corpus, _knobs(search))
    fed = ranking.FEEDBACK * ranking.share(again)
    return scores.pool, scores.parts(
        {
            "text": scores.text,
            "vector": scores.vector,
            "feedback": fed,
            "beside": ranking.borrowed(scores.fit + fed, scores.places(around)),
        }
    )


class _Scores:
    """What words and vectors say of every candidate, in the order of `numbers`."""

    def __init__(self, search: Search, found: Candidates, pool: Pool) -> None:
        self.pool = pool
        self.numbers = list(pool)
        self.words = [_words(found, pool[number]) for number in self.numbers]
        asked = dict.fromkeys(terms(search.query.query), 1.0)
        self.text = ranking.share(ranking.bm25(asked, self.words, found.corpus, _knobs(search)))
        self.vector = np.zeros(len(self.numbers))
        if search.vector is not None and found.cosines:
            missing = [
                n for n in self.numbers if n not in found.cosines and n not in found.replaced
            ]
            cosines = found.cosines | _cosines(search, missing)
            near = np.array([cosines.get(n, 0.0) for n in self.numbers])
            self.vector = ranking.VECTOR * np.maximum(near, 0.0)
        self.fit: Floats = self.text + self.vector

    def places(self, around: dict[int, dict[int, int]]) -> list[dict[int, int]]:
        """Per candidate, which candidates stand beside it, by their index."""
        index = {number: i for i, number in enumerate(self.numbers)}
        back = _mirrored(around)
        return [
            {
                place: index[other]
                for place, other in {**back.get(number, {}), **around.get(number, {})}.items()
                if other in index
            }
            for number in self.numbers
        ]

    def parts(self, columns: dict[str, Floats]) -> dict[int, dict[str, float]]:
        """By number: each column's value, as a part of the best sum."""
        total = sum(columns.values(), np.zeros(len(self.numbers)))
        best = float(total.max(initial=0.0)) or 1.0
        values = {name: (column / best).tolist() for name, column in columns.items()}
        return {
            number: {name: values[name][i] for name in columns}
            for i, number in enumerate(self.numbers)
            if total[i] > 0
        }


def _words(found: Candidates, candidate: Candidate) -> Words:
    if candidate.number not in found.words:
        found.words[candidate.number] = counted(candidate.content)
    return found.words[candidate.number]


def _cosines(search: Search, numbers: Sequence[int]) -> dict[int, float]:
    held, made = search.vectors(numbers)
    if search.vector is None or made.shape[1] != len(search.vector):
        return {}
    return dict(zip(held.tolist(), (made @ search.vector).tolist(), strict=True))


def _mirrored(around: dict[int, dict[int, int]]) -> dict[int, dict[int, int]]:
    """If B stands after A, then A stands before B."""
    back: dict[int, dict[int, int]] = {}
    for number, places in around.items():
        for place, other in places.items():
            back.setdefault(other, {})[-place] = number
    return back


def _weighed(
    pool: Pool, parts: dict[int, dict[str, float]], search: Search
) -> dict[int, dict[str, float]]:
    """Relevance for the rest of the score, freshness for its weight."""
    settings, now = search.settings.ranking, micros(search.at)
    weighed = {}
    for number, of in parts.items():
        candidate = pool[number]
        fresh = (
            1.0
            if candidate.pinned
            else ranking.recency((now - candidate.recorded_at) / DAY_US, settings.half_life_days)
        )
        weighed[number] = {
            **{name: value * (1 - settings.recency_weight) for name, value in of.items()},
            "recency": fresh * settings.recency_weight,
        }
    return weighed
