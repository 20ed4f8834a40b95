"""One search, in one snapshot of the database: what may be found, in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import apsw
import msgspec
import numpy as np

from sonia.memory import access, ranking, store
from sonia.memory.columns import micros
from sonia.memory.gathering import Candidates, Pool, Search, counts_every, gathered, knobs
from sonia.memory.interface import Hit
from sonia.memory.ranking import Floats, Words
from sonia.memory.store import Candidate
from sonia.memory.text import counted, terms

SURROUNDED = 16  # of how many of the best, at the least, the memories around them are looked at
DIVERSIFIED = 3  # so many times what was asked for is looked at for repetitions
DAY_US = 86_400_000_000

Parts = dict[int, dict[str, float]]


class Relevance(msgspec.Struct, frozen=True):
    """By number: the candidates, the parts of their relevance, how likely they fit."""

    pool: Pool
    parts: Parts
    fits: Mapping[int, float]


def find(c: apsw.Connection, search: Search) -> tuple[Hit, ...]:
    """Best first. Raises `IndexDamaged`."""
    query = search.query
    if query.query.strip():
        relevance = _relevance(c, search, gathered(c, search))
        parts = _diverse(_weighed(relevance, _accesses(c, relevance, search), search), search)
    else:
        places = ranking.by_place(store.newest(c, query, search.at))
        parts = {number: {"newest": place} for number, place in places.items()}
        relevance = Relevance({}, parts, {})
    return tuple(_hits(c, parts, relevance.fits, search))


def _hits(c: apsw.Connection, parts: Parts, fits: Mapping[int, float], search: Search) -> list[Hit]:
    """The first `limit` that are undamaged."""
    query, hits, start = search.query, list[Hit](), 0
    order = _ordered(parts)
    while len(hits) < query.limit and start < len(order):
        some = order[start : start + query.limit]
        entries = store.seen(c, some, query, search.at)
        hits += [
            Hit(
                entry=entries[number],
                score=sum(parts[number].values()),
                fit=fits.get(number),
                parts=parts[number] if query.explain else None,
            )
            for number in some
            if number in entries
        ]
        start += query.limit
    return hits[: query.limit]


def _ordered(parts: Parts) -> list[int]:
    """Best first; of equals the newest."""
    totals = {number: sum(of.values()) for number, of in parts.items()}
    return sorted(totals, key=lambda number: (-totals[number], -number))


def _relevance(c: apsw.Connection, search: Search, found: Candidates) -> Relevance:
    """The candidates, those that came in beside others too, and the parts of their relevance."""
    mode = search.query.mode
    if mode == "vector":
        near = {n: {"vector": max(found.cosines.get(n, 0.0), 0.0)} for n in found.pool}
        return Relevance(found.pool, near, {})
    first = _Scores(search, found, found.pool)
    if mode == "text":
        return Relevance(first.pool, first.parts({"text": first.text}), {})
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
    again = ranking.bm25(told, scores.words, found.corpus, knobs(search))
    sure = float(first.fit.max(initial=0.0)) / (1 + ranking.VECTOR)
    fed = ranking.FEEDBACK * sure * ranking.share(again)
    columns = {
        "text": scores.text,
        "vector": scores.vector,
        "feedback": fed,
        "beside": ranking.borrowed(scores.fit + fed, scores.places(around)),
    }
    fits = ranking.fits(scores.covered, scores.cosines).tolist()
    return Relevance(
        scores.pool, scores.parts(columns), dict(zip(scores.numbers, fits, strict=True))
    )


class _Scores:
    """What words and vectors say of every candidate, in the order of `numbers`."""

    def __init__(self, search: Search, found: Candidates, pool: Pool) -> None:
        self.pool = pool
        self.numbers = list(pool)
        asked = dict.fromkeys(terms(search.query.query), 1.0)
        every = counts_every(search, list(asked))
        self.words = [_words(found, pool[number], every) for number in self.numbers]
        raw = ranking.bm25(asked, self.words, found.corpus, knobs(search))
        self.text = ranking.share(raw)
        self.covered = raw / ranking.most(asked, found.corpus, knobs(search))
        self.cosines = np.zeros(len(self.numbers))
        if search.vector is not None and found.cosines:
            missing = [
                n for n in self.numbers if n not in found.cosines and n not in found.replaced
            ]
            cosines = found.cosines | _cosines(search, missing)
            self.cosines = np.array([max(cosines.get(n, 0.0), 0.0) for n in self.numbers])
        self.vector: Floats = ranking.VECTOR * self.cosines
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


def _words(found: Candidates, candidate: Candidate, every: bool) -> Words:
    if candidate.number not in found.words:
        found.words[candidate.number] = counted(candidate.content, every=every)
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


def _accesses(c: apsw.Connection, relevance: Relevance, search: Search) -> dict[int, float]:
    settings = search.settings.ranking
    if not settings.access_weight:
        return {}
    return access.accesses(c, list(relevance.parts), search.at, settings.access_half_life_days)


def _weighed(relevance: Relevance, accesses: Mapping[int, float], search: Search) -> Parts:
    """Freshness and importance for their weights, relevance for the rest of the score.

    What use adds comes on top, so that it changes nothing where nothing was used.
    """
    settings, now = search.settings.ranking, micros(search.at)
    half_lives = search.settings.decay.half_life_days
    rest = max(1 - settings.recency_weight - settings.importance_weight, 0.0)
    weighed = {}
    for number, of in relevance.parts.items():
        candidate = relevance.pool[number]
        half_life = getattr(half_lives, candidate.type, half_lives.other)
        age_days = (now - candidate.recorded_at) / DAY_US
        fresh = 1.0 if candidate.pinned else ranking.recency(age_days, half_life)
        relevant = {name: value * rest for name, value in of.items()}
        used = ranking.reinforcement(sum(relevant.values()), accesses.get(number, 0.0))
        weighed[number] = {
            **relevant,
            "recency": fresh * settings.recency_weight,
            "importance": candidate.importance * settings.importance_weight,
            "access": used * settings.access_weight,
        }
    return weighed


def _diverse(parts: Parts, search: Search) -> Parts:
    """What says nearly the same as something better loses the weight of diversity."""
    weight = search.settings.ranking.diversity_weight
    best = _ordered(parts)[: DIVERSIFIED * search.query.limit]
    held, made = search.vectors(best)
    if not weight or not len(held):
        return parts
    place = {number: i for i, number in enumerate(held.tolist())}
    known = [number for number in best if number in place]
    like = made[[place[number] for number in known]]
    repeated = ranking.repetition(like @ like.T)
    lost = dict(zip(known, (-weight * repeated).tolist(), strict=True))
    return {number: {**of, "repetition": lost.get(number, 0.0)} for number, of in parts.items()}
