"""One search, in one snapshot of the database: what may be found, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apsw
import msgspec
import numpy as np

from sonia.memory import access, ranking, store
from sonia.memory.columns import micros
from sonia.memory.counting import Floats, Texts
from sonia.memory.gathering import Candidates, Pool, Search, counts_every, gathered, knobs
from sonia.memory.interface import Hit
from sonia.memory.store import Candidate
from sonia.memory.text import terms

SURROUNDED = 16  # of how many of the best, at the least, the memories around them are looked at
DIVERSIFIED = 3  # so many times what was asked for is looked at for repetitions
DAY_US = 86_400_000_000

Columns = dict[str, Floats]  # a part of the score by its name: a number for each of some memories


class Ranked(msgspec.Struct, frozen=True):
    """Numbers of memories; in their order the parts of their scores, and how likely they fit."""

    numbers: list[int]
    parts: Columns
    fits: Floats | None = None

    def scores(self) -> Floats:
        """The sum of the parts."""
        return _sum(self.parts)

    def order(self) -> list[int]:
        """Places, best first; of equals the newest."""
        best: list[int] = np.lexsort((-np.array(self.numbers), -self.scores())).tolist()
        return best


def find(c: apsw.Connection, search: Search) -> tuple[Hit, ...]:
    """Best first. Raises `IndexDamaged`."""
    query = search.query
    if query.query.strip():
        found = gathered(c, search)
        ranked, pool = _relevance(c, search, found)
        ranked = _diverse(_weighed(c, ranked, pool, search), search)
    else:
        places = ranking.by_place(store.newest(c, query, search.at))
        ranked = Ranked(list(places), {"newest": np.array(list(places.values()))})
    return tuple(_hits(c, ranked, search))


def _hits(c: apsw.Connection, ranked: Ranked, search: Search) -> list[Hit]:
    """The first `limit` that are undamaged."""
    query, hits, start = search.query, list[Hit](), 0
    order, scores = ranked.order(), ranked.scores()
    while len(hits) < query.limit and start < len(order):
        some = {place: ranked.numbers[place] for place in order[start : start + query.limit]}
        entries = store.seen(c, list(some.values()), query, search.at)
        hits += [
            Hit(
                entry=entries[number],
                score=float(scores[place]),
                fit=None if ranked.fits is None else float(ranked.fits[place]),
                parts=_parts(ranked, place) if query.explain else None,
            )
            for place, number in some.items()
            if number in entries
        ]
        start += query.limit
    return hits[: query.limit]


def _parts(ranked: Ranked, place: int) -> dict[str, float]:
    return {name: float(column[place]) for name, column in ranked.parts.items()}


def _relevance(c: apsw.Connection, search: Search, found: Candidates) -> tuple[Ranked, Pool]:
    """The candidates, those that came in beside others too, by their relevance alone."""
    mode, pool = search.query.mode, found.pool
    if mode == "vector":
        return Ranked(list(pool), {"vector": _cosines_of(list(pool), found, search)}), pool
    asked = dict.fromkeys(terms(search.query.query), 1.0)
    every = counts_every(search, list(asked))
    texts = Texts((one.content for one in pool.values()), every=every)
    if mode == "text":
        text = ranking.bm25(asked, texts, found.corpus, knobs(search))
        return _shared(list(pool), {"text": ranking.share(text)}), pool
    return _together(c, search, found, asked, texts)


def _together(
    c: apsw.Connection, search: Search, found: Candidates, asked: dict[str, float], texts: Texts
) -> tuple[Ranked, Pool]:
    """By words, by meaning, by the words of the best, and by what stands beside."""
    numbers, score = (
        list(found.pool),
        partial(ranking.bm25, corpus=found.corpus, knobs=knobs(search)),
    )
    cosines = _cosines_of(numbers, found, search)
    fit = ranking.share(score(asked, texts)) + ranking.VECTOR * cosines
    best = np.argsort(-fit, kind="stable").tolist()
    told = {place: float(fit[place]) for place in best[: ranking.FEEDBACK_FROM]}
    feedback = ranking.feedback(texts, told, found.corpus)
    sure = float(fit.max(initial=0.0)) / (1 + ranking.VECTOR)

    looked_at = best[: max(SURROUNDED, search.query.limit)]
    around = store.beside(c, [numbers[place] for place in looked_at])
    others = {n for places in around.values() for n in places.values()} - found.pool.keys()
    joined = store.candidates(c, list(others), search.query, search.at)
    texts.add(one.content for one in joined.values())
    numbers += joined
    cosines = np.concatenate([cosines, _cosines_of(list(joined), found, search)])
    text = score(asked, texts)
    parts = {
        "text": ranking.share(text),
        "vector": ranking.VECTOR * cosines,
        "feedback": ranking.FEEDBACK * sure * ranking.share(score(feedback, texts)),
    }
    pool = {**found.pool, **joined}
    parts["alike"] = _alike(_sum(parts), [pool[number] for number in numbers], found, search)
    parts["beside"] = ranking.borrowed(_sum(parts), _beside(numbers, around))
    covered = text / ranking.most(asked, found.corpus, knobs(search))
    return _shared(numbers, parts, ranking.fits(covered, cosines)), pool


def _alike(scores: Floats, pool: list[Candidate], found: Candidates, search: Search) -> Floats:
    """What memories of no session, which have none beside them, get of those like them."""
    got = np.zeros(len(scores))
    alone = {
        one.number: place
        for place, one in enumerate(pool)
        if one.session_id is None and one.number not in found.replaced
    }
    held, made = search.vectors(list(alone))
    if len(held):
        places = [alone[number] for number in held.tolist()]
        got[places] = ranking.lent(scores[places], made)
    return got


def _sum(parts: Columns) -> Floats:
    total: Floats = np.sum(list(parts.values()), axis=0)
    return total


def _shared(numbers: list[int], parts: Columns, fits: Floats | None = None) -> Ranked:
    """The parts as shares of the best sum, of those that have any."""
    total = _sum(parts)
    some = total > 0
    best = float(total.max(initial=0.0)) or 1.0
    return Ranked(
        [number for number, has in zip(numbers, some.tolist(), strict=True) if has],
        {name: part[some] / best for name, part in parts.items()},
        None if fits is None else fits[some],
    )


def _beside(numbers: list[int], around: dict[int, dict[int, int]]) -> dict[tuple[int, int], int]:
    """Which candidate stands beside which, and at what place, by their index.

    If B stands after A, then A stands before B.
    """
    index = {number: at for at, number in enumerate(numbers)}
    pairs = [
        (index[number], place, index[other])
        for number, places in around.items()
        for place, other in places.items()
        if other in index
    ]
    back = {(other, -place): at for at, place, other in pairs}
    return back | {(at, place): other for at, place, other in pairs}


def _cosines_of(numbers: list[int], found: Candidates, search: Search) -> Floats:
    """How near each is to the question, from 0 on; 0 where nothing says so."""
    if search.vector is None or not found.cosines:
        return np.zeros(len(numbers))
    missing = [n for n in numbers if n not in found.cosines and n not in found.replaced]
    cosines = found.cosines | _cosines(search, missing)
    return np.array([max(cosines.get(number, 0.0), 0.0) for number in numbers])


def _cosines(search: Search, numbers: Sequence[int]) -> dict[int, float]:
    held, made = search.vectors(numbers)
    if search.vector is None or made.shape[1] != len(search.vector):
        return {}
    return dict(zip(held.tolist(), (made @ search.vector).tolist(), strict=True))


def _weighed(c: apsw.Connection, ranked: Ranked, pool: Pool, search: Search) -> Ranked:
    """Freshness and importance for their weights, relevance for the rest of the score.

    What use adds comes on top, so that it changes nothing where nothing was used.
    """
    settings = search.settings.ranking
    some = [pool[number] for number in ranked.numbers]
    rest = max(1 - settings.recency_weight - settings.importance_weight, 0.0)
    relevant = {name: part * rest for name, part in ranked.parts.items()}
    total = _sum(relevant)
    used = ranking.reinforcement(total, _accesses(c, ranked.numbers, search))
    importance = np.array([candidate.importance for candidate in some])
    parts = {
        **relevant,
        "recency": settings.recency_weight * _freshness(some, search),
        "importance": settings.importance_weight * importance,
        "access": settings.access_weight * used,
    }
    return Ranked(ranked.numbers, parts, ranked.fits)


def _freshness(some: Sequence[Candidate], search: Search) -> Floats:
    lives, now = search.settings.decay.half_life_days, micros(search.at)
    types = {candidate.type for candidate in some}
    half_lives = {kind: getattr(lives, kind, lives.other) for kind in types}
    fresh = ranking.recency(
        np.array([(now - candidate.recorded_at) / DAY_US for candidate in some]),
        np.array([half_lives[candidate.type] for candidate in some]),
    )
    return np.where([bool(candidate.pinned) for candidate in some], 1.0, fresh)


def _accesses(c: apsw.Connection, numbers: list[int], search: Search) -> Floats:
    settings = search.settings.ranking
    if not settings.access_weight:
        return np.zeros(len(numbers))
    used = access.accesses(c, numbers, search.at, settings.access_half_life_days)
    return np.array([used.get(number, 0.0) for number in numbers])


def _diverse(ranked: Ranked, search: Search) -> Ranked:
    """What says nearly the same as something better loses the weight of diversity."""
    weight = search.settings.ranking.diversity_weight
    best = ranked.order()[: DIVERSIFIED * search.query.limit]
    held, made = search.vectors([ranked.numbers[place] for place in best])
    if not weight or not len(held):
        return ranked
    row = {number: i for i, number in enumerate(held.tolist())}
    known = [place for place in best if ranked.numbers[place] in row]
    like = made[[row[ranked.numbers[place]] for place in known]]
    lost = np.zeros(len(ranked.numbers))
    lost[known] = -weight * ranking.repetition(like @ like.T)
    return Ranked(ranked.numbers, {**ranked.parts, "repetition": lost}, ranked.fits)
