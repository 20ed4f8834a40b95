"""How what was found becomes one order."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sonia.memory import counting
from sonia.memory.counting import Texts
from sonia.memory.ranking import (
    FEEDBACK_WORDS,
    Bm25,
    Corpus,
    bm25,
    borrowed,
    by_place,
    feedback,
    fits,
    lent,
    most,
    recency,
    repetition,
    share,
)
from sonia.memory.text import END, runs_of, spaced, terms, words

NONE = Corpus(lambda _: 0, 0)
texts = st.lists(st.sampled_from(["ox", "ape", "cow", "yak"]), max_size=12)


def of(*documents: list[str]) -> Texts:
    return Texts(" ".join(document) for document in documents)


def days(*count: float) -> NDArray[np.float64]:
    return np.array(count, float)


def test_recency_halves_with_every_half_life() -> None:
    fresh = recency(days(0, 30, 60), days(30, 30, 30))

    assert fresh.tolist() == pytest.approx([1, 0.5, 0.25])


def test_a_clock_that_went_back_makes_nothing_more_than_new() -> None:
    assert recency(days(-10), days(30)) == 1


def test_of_an_order_that_is_given_every_place_scores_less_than_the_one_before() -> None:
    assert by_place([7, 3, 9]) == {7: 1, 3: 1 / 2, 9: 1 / 3}


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    corpus = Corpus({"common": 900, "rare": 1}.__getitem__, 1000)

    common, rare = bm25({"common": 1, "rare": 1}, of(["common"], ["rare"]), corpus, Bm25())

    assert rare > common > 0


def test_a_text_without_any_of_the_words_has_no_score() -> None:
    assert bm25({"ox": 1}, of(["cow"], []), NONE, Bm25()).tolist() == [0, 0]


def test_bm25_k1_is_how_soon_a_repeated_word_stops_counting() -> None:
    corpus = Corpus(lambda _: 2, 10)
    once_and_often = of(["ox", "cow", "cow", "cow"], ["ox", "ox", "ox", "cow"])

    at_once, late = (bm25({"ox": 1}, once_and_often, corpus, Bm25(k1, 0)) for k1 in (0, 10))

    assert at_once[1] == pytest.approx(at_once[0])
    assert late[1] > 2 * late[0]


def test_bm25_b_is_how_much_a_long_text_is_held_against_it() -> None:
    corpus = Corpus(lambda _: 2, 10)
    short_and_long = of(["ox"], ["ox", *["cow"] * 500])

    not_at_all, whole = (bm25({"ox": 1}, short_and_long, corpus, Bm25(1.2, b)) for b in (0, 1))

    assert not_at_all[1] == pytest.approx(not_at_all[0])
    assert whole[1] < whole[0] / 2


@given(st.lists(texts, min_size=1, max_size=6), st.integers(0, 10), st.floats(0, 1))
def test_one_more_of_the_word_never_lowers_a_score(
    documents: list[list[str]], k1: int, b: float
) -> None:
    corpus = Corpus(lambda _: 2, 10)
    first = documents[0]
    with_it = ["ox", *first[1:]] if first and first[0] != "ox" else first

    before = bm25({"ox": 1}, of(*documents), corpus, Bm25(k1, b))[0]
    after = bm25({"ox": 1}, of(with_it, *documents[1:]), corpus, Bm25(k1, b))[0]

    assert after >= before - 1e-9


@given(st.lists(st.floats(-10, 10), max_size=20))
def test_shares_lie_between_0_and_1_and_keep_their_order(scores: list[float]) -> None:
    shares = share(np.array(scores, float))

    assert all(0 <= one <= 1 for one in shares)
    if any(score > 0 for score in scores):
        assert shares.max() == 1
        assert shares.argmax() == int(np.argmax(scores))


def test_feedback_is_of_words_that_others_have_too() -> None:
    corpus = Corpus({"heron": 3, "once": 1, "mill": 5}.__getitem__, 100)

    told = feedback(of(["heron", "mill", "once"], ["heron"]), {0: 1.0, 1: 0.5}, corpus)

    assert list(told) == ["heron", "mill"]


def test_feedback_takes_few_words_of_a_long_text() -> None:
    long = of([f"w{i}" for i in range(500)])

    assert len(feedback(long, {0: 1.0}, Corpus(lambda _: 2, 1000))) == FEEDBACK_WORDS


def test_what_stands_beside_the_best_gets_some_of_its_score() -> None:
    got = borrowed(
        np.array([1.0, 0.0, 0.0]),
        {(0, 1): 1, (1, -1): 0, (1, 1): 2, (2, -1): 1, (2, -2): 0},
    )

    assert got[1] > got[2] > got[0] == 0


def test_a_question_is_the_words_that_say_what_it_asks_for() -> None:
    assert terms("Which city do I live in?") == ["citi", "live"]


def test_a_question_of_function_words_is_asked_whole() -> None:
    assert terms("who is that") == words("who is that")


def test_both_ways_of_writing_an_accent_are_one() -> None:
    assert words("re\u0301sume\u0301") == words("r\u00e9sum\u00e9") == words("resume")


def test_words_are_found_in_scripts_without_spaces() -> None:
    assert set(words("日本")) <= set(words("私は日本語を話します"))
    assert set(words("서울")) <= set(words("나는서울에산다"))


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=99), max_size=4))
def test_texts_are_counted_as_they_are_indexed(some: list[str]) -> None:
    asked = sorted({word for text in some for word in words(text)})

    counts = Texts(some, every=True).counts(asked)

    assert counts.tolist() == [[words(text).count(word) for word in asked] for text in some]


def test_words_that_begin_alike_are_counted_apart_however_long_they_are() -> None:
    asked = ["z" * length for length in (1, 7, 8, 9, 15, 16, 17, 62)]
    long = "z" * 99
    text = " ".join([*asked, *asked, long, f"{long}y"])

    counts = [Texts([text], every=True).counts(asked).tolist() for _ in range(2)]

    assert counts == [[[2] * len(asked)]] * 2


@given(st.lists(st.text(max_size=99), max_size=4))
def test_texts_that_are_cut_together_are_cut_as_each_by_itself(some: list[str]) -> None:
    alone = [re.findall(r"[^\W_]+", spaced(text).lower()) for text in some]

    cut = runs_of(some).decode().split()

    assert cut == [run for runs in alone for run in [*runs, END]]


def test_function_words_count_for_the_length_of_a_text_alone() -> None:
    texts = Texts(["What is it with the herons and the mill?", "herons"])

    assert texts.lengths.tolist() == [9, 1]
    assert texts.counts(["heron", "the"]).tolist() == [[1, 0], [1, 0]]
    assert (texts.within("heron"), texts.within("mill"), texts.within("the")) == (2, 1, 0)


def test_a_new_vocabulary_counts_as_the_one_that_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Texts(["heron mill"])
    monkeypatch.setattr(counting, "MOST_RUNS", 0)
    after = Texts(["mill"])

    before.add(["mill mill"])

    assert before.counts(["mill"]).tolist() == [[1], [2]]
    assert after.counts(["mill"]).tolist() == [[1]]


def test_what_is_like_the_best_gets_more_of_their_score_than_what_is_not() -> None:
    best, like, unlike = np.array([[1, 0], [0.9, 0.436], [0.3, 0.954]], np.float32)

    got = lent(np.array([1.0, 0.1, 0.1]), np.stack([best, like, unlike]))

    assert got[1] > 0.4
    assert got[1] > got[2] > 0
    assert got[0] < 0.1  # nothing of its own


def test_of_equal_short_texts_the_shorter_is_hardly_before() -> None:
    corpus = Corpus(lambda _: 2, 10)

    word, few = bm25({"ox": 1}, of(["ox"], ["ox", *["cow"] * 9]), corpus, Bm25())

    assert few < word < 1.2 * few


def test_what_repeats_a_better_one_is_known_by_its_vector() -> None:
    likeness = np.array([[1, 0.99, 0.5], [0.99, 1, 0.4], [0.5, 0.4, 1]], np.float32)

    assert repetition(likeness).tolist() == pytest.approx([0, 0.9, 0])


def test_what_has_the_words_and_the_meaning_fits_better_than_what_has_neither() -> None:
    fit = fits(np.array([0.8, 0.0, 0.0]), np.array([0.7, 0.7, 0.1]))

    assert fit[0] > fit[1] > fit[2]
    assert fit[0] > 0.5
    assert fit[2] < 0.02


@given(st.lists(texts, min_size=1, max_size=6), st.floats(0, 10), st.floats(0, 1))
def test_no_text_covers_more_than_the_whole_question(
    documents: list[list[str]], k1: float, b: float
) -> None:
    corpus, asked = Corpus(lambda _: 2, 10), {"ox": 1.0, "ape": 1.0}
    knobs = Bm25(k1, b)

    scores = bm25(asked, of(*documents), corpus, knobs)

    assert (scores <= most(asked, corpus, knobs) + 1e-9).all()
