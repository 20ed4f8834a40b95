"""From what was found to one order. Plain functions of numbers, so that they can be reasoned about.

A candidate's relevance is what its words say (BM25), what its vector says (cosine), what the
words of the best candidates say of it (pseudo-relevance feedback), and a share of what the
memories around it in the same session have: in a conversation the answer often stands beside the
words that were asked for. The weights are fixed here; `benchmarks/retrieval.py` measures them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

VECTOR = 2.0  # what a cosine of 1 weighs beside the best words
FEEDBACK = 0.8  # when the best are as good as can be; less when they are not
FEEDBACK_FROM = 5  # candidates
FEEDBACK_WORDS = 20
BESIDE = {-1: 0.3, 1: 0.2, -2: 0.1, 2: 0.1}  # of the score of the memory before, after, …

USED_MUCH = 16.0  # accesses: from so many on, more don't count

ALIKE = 0.9  # from this cosine on, a memory repeats another

# How likely a found memory has to do with the question: a logistic regression on its cosine and
# on how much of the question's words it has, of questions asked of conversations that answer
# them and of conversations that don't.
FIT = (-5.86, 5.39, 4.78)  # constant, words, cosine

Floats = NDArray[np.float64]


class Bm25(msgspec.Struct, frozen=True):
    """Robertson and Zaragoza, 2009. `k1`: how soon a repeated word stops counting; `b`: how
    much a long text is held against it."""

    k1: float = 1.2
    b: float = 0.75


class Words(msgspec.Struct, frozen=True):
    """How often each word is in a text, and how many there are."""

    counts: Mapping[str, int]
    length: int


class Corpus(msgspec.Struct, frozen=True):
    """What the words' rarity is taken from: `frequency` is in how many of `documents` a word is."""

    frequency: Callable[[str], int]
    documents: int

    def rarity(self, word: str) -> float:
        """Inverse document frequency, as Lucene and tantivy compute it; never negative."""
        within = min(self.frequency(word), self.documents)
        return math.log(1 + (self.documents - within + 0.5) / (within + 0.5))


def recency(age_days: float, half_life_days: float) -> float:
    """In (0, 1]: 1 for now or later, halved with every half-life."""
    return float(0.5 ** (max(age_days, 0.0) / half_life_days))


def reinforcement(relevance: float, accesses: float) -> float:
    """In [0, `relevance`]: what a memory gains by having been used, more slowly with every time.

    As a share of its own relevance: what has little to do with the question gains little.
    """
    return relevance * math.log1p(min(accesses, USED_MUCH)) / math.log1p(USED_MUCH)


def by_place(numbers: Sequence[int]) -> dict[int, float]:
    """For an order that is given: 1 for the first, then less and less, above 0."""
    return {number: 1 / place for place, number in enumerate(numbers, 1)}


def bm25(asked: Mapping[str, float], texts: Sequence[Words], corpus: Corpus, knobs: Bm25) -> Floats:
    """The score of each text for the words `asked`, each with a weight of its own.

    The average length is taken from the texts at hand.
    """
    if not texts:
        return np.zeros(0)
    lengths = np.array([text.length for text in texts], float)
    norms = knobs.k1 * (1 - knobs.b + knobs.b * lengths / (lengths.mean() or 1.0))
    scores = np.zeros(len(texts))
    for word, weight in asked.items():
        found = np.array([text.counts.get(word, 0) for text in texts], float)
        share = found * (knobs.k1 + 1) / np.maximum(found + norms, 1e-9)
        scores += weight * corpus.rarity(word) * share
    return scores


def most(asked: Mapping[str, float], corpus: Corpus, knobs: Bm25) -> float:
    """What no text's score for these words can reach; above 0."""
    return sum(w * corpus.rarity(word) for word, w in asked.items()) * (knobs.k1 + 1) or 1.0


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


def feedback(best: Sequence[tuple[Words, float]], corpus: Corpus) -> dict[str, float]:
    """The words that the `best` candidates, each with its score, are about, and their weights.

    Relevance-model feedback (Lavrenko and Croft, SIGIR 2001), with each word's rarity.
    """
    weights: Counter[str] = Counter()
    for text, score in best:
        for word, count in text.counts.items():
            weights[word] += score * count / max(text.length, 1)  # type: ignore[assignment]
    told = {
        word: weight * corpus.rarity(word)
        for word, weight in weights.items()
        if corpus.frequency(word) > 1
    }
    return dict(sorted(told.items(), key=lambda item: (-item[1], item[0]))[:FEEDBACK_WORDS])


def borrowed(scores: Floats, around: Sequence[Mapping[int, int]]) -> Floats:
    """What each candidate gets of those around it.

    `around` says per candidate where (-2, -1, 1, 2) which candidate stands, by its index.
    """
    got = np.zeros(len(scores))
    for index, beside in enumerate(around):
        got[index] = sum(BESIDE[place] * scores[other] for place, other in beside.items())
    return got
