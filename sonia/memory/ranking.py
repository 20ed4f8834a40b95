"""From lists to one order. Plain functions of numbers, so that they can be reasoned about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

RRF_K = 60
K1 = 1.2
B = 0.75


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate and why it stands where it does."""

    number: int
    score: float
    parts: dict[str, float]


def fused(lists: Mapping[str, Sequence[int]]) -> dict[int, dict[str, float]]:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009).

    `lists` are numbers, best first, by the name of who ranked them. Returns per number its
    rank in each list it is in, and `fused` in (0, 1]: 1 is first in every list.
    """
    best = len(lists) / (RRF_K + 1)
    parts: dict[int, dict[str, float]] = {}
    for name, numbers in lists.items():
        for rank, number in enumerate(numbers, 1):
            mine = parts.setdefault(number, {"fused": 0.0})
            mine[f"{name}_rank"] = float(rank)
            mine["fused"] += 1 / (RRF_K + rank) / best
    return parts


def recency(age_days: float, half_life_days: float) -> float:
    """In (0, 1]: 1 for now or later, halved with every half-life."""
    return float(0.5 ** (max(age_days, 0.0) / half_life_days))


def ordered(
    parts: dict[int, dict[str, float]], recent: dict[int, float], weight: float
) -> list[Ranked]:
    """Best first: the fused share, with recency for `weight` of the score; then the newest.

    `recent` gives every candidate that still exists its recency; others are dropped.
    """
    ranked = [
        Ranked(
            number=number,
            score=(1 - weight) * of["fused"] + weight * recent[number],
            parts={**of, "recency": recent[number]},
        )
        for number, of in parts.items()
        if number in recent
    ]
    return sorted(ranked, key=lambda item: (-item.score, -item.number))


def bm25(
    asked: Sequence[str],
    documents: Sequence[tuple[int, Sequence[str]]],
    frequency: Callable[[str], int],
    others: int,
) -> list[tuple[int, float]]:
    """Score documents that are not in the index yet as the index would, best first.

    `frequency` is in how many of the `others` documents, the indexed ones, a word is; the
    average length is taken from the documents at hand. (Robertson et al., TREC-3, as Lucene
    and tantivy compute it.)
    """
    counted = [(number, Counter(words), len(words)) for number, words in documents]
    total = others + len(counted)
    average = sum(length for *_, length in counted) / len(counted) if counted else 1.0
    weights: dict[str, float] = {}
    for word in asked:
        within = frequency(word) + sum(1 for _, words, _ in counted if word in words)
        weights[word] = math.log(1 + (total - within + 0.5) / (within + 0.5)) * (K1 + 1)
    scored = []
    for number, words, length in counted:
        norm = K1 * (1 - B + B * length / (average or 1.0))
        score = sum(weights[word] * words[word] / (words[word] + norm) for word in asked)
        if score > 0:
            scored.append((number, score))
    return sorted(scored, key=lambda item: (-item[1], -item[0]))
