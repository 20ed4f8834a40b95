"""How lists become one order."""

from __future__ import annotations

import pytest

from sonia.memory.ranking import bm25, fused, ordered, recency


def test_first_in_every_list_has_the_whole_share() -> None:
    parts = fused({"text": [7, 8], "vector": [7, 9]})

    assert parts[7] == {"fused": pytest.approx(1.0), "text_rank": 1, "vector_rank": 1}


def test_being_in_both_lists_beats_being_first_in_one() -> None:
    parts = fused({"text": [1, 2], "vector": [3, 2]})

    assert max(parts, key=lambda number: parts[number]["fused"]) == 2


def test_recency_halves_with_every_half_life() -> None:
    assert recency(0, 30) == 1
    assert recency(30, 30) == pytest.approx(0.5)
    assert recency(60, 30) == pytest.approx(0.25)


def test_a_clock_that_went_back_makes_nothing_more_than_new() -> None:
    assert recency(-10, 30) == 1


def test_of_two_equally_good_the_recent_one_comes_first() -> None:
    parts = {1: {"fused": 0.9}, 2: {"fused": 0.9}}

    best = ordered(parts, {1: 1.0, 2: 0.1}, 0.1)

    assert [ranked.number for ranked in best] == [1, 2]
    assert best[0].parts["recency"] == 1.0


def test_a_candidate_that_was_forgotten_is_dropped() -> None:
    best = ordered({1: {"fused": 1.0}, 2: {"fused": 0.5}}, {2: 1.0}, 0.1)

    assert [ranked.number for ranked in best] == [2]


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    documents = [(1, ["common"]), (2, ["rare"])]

    scored = bm25(["common", "rare"], documents, {"common": 900, "rare": 1}.__getitem__, 1000)

    assert [number for number, _ in scored] == [2, 1]


def test_a_document_without_any_of_the_words_has_no_score() -> None:
    assert bm25(["x"], [(1, ["y"]), (2, [])], lambda _: 0, 0) == []
