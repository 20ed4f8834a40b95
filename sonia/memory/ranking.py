"""From what was found to one order. Plain functions of numbers, so that they can be reasoned about.

A candidate's relevance is what its words say (BM25), what its vector says (cosine), what the
words of the best candidates say of it (pseudo-relevance feedback), and a share of what the
memories around it in the same session have: in a conversation the answer often stands beside the
words that were asked for. What is of no session has a share of what those like it have. The
weights are fixed here; `benchmarks/retrieval.py` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.memory.counting import Floats, Texts

VECTOR = 2.0  # what a cosine of 1 weighs beside the best words
FEEDBACK = 0.8  # when the best are as good as can be; less when they are not
FEEDBACK_FROM = 5  # candidates
FEEDBACK_WORDS = 20
BESIDE = {-1: 0.3, 1: 0.2, -2: 0.1, 2: 0.1}  # of the score of the memory before, after, …

LENT = 0.5  # of the scores of the best that are like it, to a memory of no session
LENDERS = 50

PRIOR_WORDS = 40  # that are added to each text's length: how few a short one has says little

USED_MUCH = 16.0  # accesses: from so many on, more don't count

ALIKE = 0.9  # from this cosine on, a memory repeats another

# How likely a found memory has to do with the question: a logistic regression on its cosine and
# on how much of the question's words it has, of questions asked of conversations that answer
# them and of conversations that don't.
FIT = (-5.86, 5.39, 4.78)  # constant, words, cosine


class Bm25(msgspec.Struct, frozen=True):
    """Robertson and Zaragoza, 2009. `k1`: how soon a repeated word stops counting; `b`: how
    much a long text is held against it."""

    k1: float = 1.2
    b: float = 0.75


class Corpus(msgspec.Struct, frozen=True):
    """What the words' rarity is taken from: `frequency` is in how many of `documents` a word is."""

    frequency: Callable[[str], int]
    documents: int

    def rarities(self, words: Sequence[str]) -> Floats:
        """Inverse document frequencies, as Lucene and tantivy compute them; never negative."""
        within = np.array([self.frequency(word) for word in words], float)
        within = np.minimum(within, self.documents)
        rarities: Floats = np.log(1 + (self.documents - within + 0.5) / (within + 0.5))
        return rarities


def recency(age_days: Floats, half_life_days: Floats) -> Floats:
    """In (0, 1]: 1 for now or later, halved with every half-life."""
    fresh: Floats = 0.5 ** (np.maximum(age_days, 0.0) / half_life_days)
    return fresh


def reinforcement(relevance: Floats, accesses: Floats) -> Floats:
    """In [0, `relevance`]: what a memory gains by having been used, more slowly with every time.

    As a share of its own relevance: what has little to do with the question gains little.
    """
    gained: Floats = relevance * np.log1p(np.minimum(accesses, USED_MUCH)) / math.log1p(USED_MUCH)
    return gained


def by_place(numbers: Sequence[int]) -> dict[int, float]:
    """For an order that is given: 1 for the first, then less and less, above 0."""
    return {number: 1 / place for place, number in enumerate(numbers, 1)}


def bm25(asked: Mapping[str, float], texts: Texts, corpus: Corpus, knobs: Bm25) -> Floats:
    """The score of each text for the words `asked`, each with a weight of its own.

    The average length is taken from the texts at hand. Among messages of a few words, `b` counts
    less than among pages.
    """
    if not len(texts) or not asked:
        return np.zeros(len(texts))
    lengths = texts.lengths + PRIOR_WORDS
    norms = knobs.k1 * (1 - knobs.b + knobs.b * lengths / lengths.mean())
    found = texts.counts(list(asked))
    shares = found * (knobs.k1 + 1) / np.maximum(found + norms[:, np.newaxis], 1e-9)
    weights = np.array(list(asked.values())) * corpus.rarities(list(asked))
    scores: Floats = shares @ weights
    return scores


def most(asked: Mapping[str, float], corpus: Corpus, knobs: Bm25) -> float:
    """What no text's score for these words can reach; above 0."""
    weights = np.array(list(asked.values())) * corpus.rarities(list(asked))
    return float(weights.sum()) * (knobs.k1 + 1) or 1.0


def fits(covered: Floats, cosines: Floats) -> Floats:
    """In [0, 1]: how likely each has to do with the question; comparable between questions."""
    constant, words, cosine = FIT
    likely: Floats = 1 / (1 + np.exp(-(constant + words * covered + cosine * cosines)))
    return likely


def repetition(likeness: NDArray[np.float32]) -> Floats:
    """In [0, 1]: how much each, best first, repeats one that comes before it.

    After maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), for near-duplicates
    only: what merely is about the same is welcome.
    """
    before = np.tril(np.asarray(likeness, float), -1).max(axis=1, initial=0.0)
    much: Floats = np.clip((before - ALIKE) / (1 - ALIKE), 0.0, 1.0)
    return much


def share(scores: Floats) -> Floats:
    """As parts of the largest; all 0 where there is none above 0."""
    most = scores.max(initial=0.0)
    return np.maximum(scores, 0.0) / most if most > 0 else np.zeros(len(scores))


def feedback(texts: Texts, best: Mapping[int, float], corpus: Corpus) -> dict[str, float]:
    """The words that the `best` candidates, by their index, are about, and their weights.

    Each candidate comes with its score. Relevance-model feedback (Lavrenko and Croft, SIGIR
    2001), with each word's rarity.
    """
    told = {word: weight for word, weight in texts.told(best).items() if corpus.frequency(word) > 1}
    weights = np.array(list(told.values())) * corpus.rarities(list(told))
    weighed = zip(told, weights.tolist(), strict=True)
    return dict(sorted(weighed, key=lambda item: (-item[1], item[0]))[:FEEDBACK_WORDS])


def borrowed(scores: Floats, beside: Mapping[tuple[int, int], int]) -> Floats:
    """What each candidate gets of those around it.

    `beside` says of a candidate and a place beside it (-2, -1, 1, 2) which candidate stands
    there, all by their index.
    """
    got = np.zeros(len(scores))
    for (index, place), other in beside.items():
        got[index] += BESIDE[place] * scores[other]
    return got


def lent(scores: Floats, vectors: NDArray[np.float32]) -> Floats:
    """What each gets of the others among the best, by how like them it is; a row of `vectors` each.

    Score regularisation (Diaz, CIKM 2005): what is alike is relevant alike.
    """
    best = np.argsort(-scores, kind="stable")[:LENDERS]
    like = np.maximum(vectors @ vectors[best].T, 0.0)
    like[best, np.arange(len(best))] = 0.0
    for _ in range(3):  # the eighth power: only what is very like counts
        like *= like
    got: Floats = LENT * (like @ scores[best]) / np.maximum(like.sum(axis=1), 1e-9)
    return got
