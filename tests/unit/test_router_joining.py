"""Nothing is said twice where one model goes on for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia.router import AnswerCut
from sonia.router.joining import Joint

SAID = "The capital of France is Par"


def joined(said: str, *pieces: str, again: bool = False) -> str:
    joint = Joint(said, again=again)
    return said + "".join(joint.take(piece) for piece in pieces) + joint.end()


@pytest.mark.parametrize(
    "pieces",
    [
        ("is.",),
        ("France is Par", "is."),
        ("The capital of ", "France is Paris."),
        ("The capital of France is Paris.",),
        tuple("France is Paris."),
    ],
)
def test_what_was_said_is_not_said_again(pieces: tuple[str, ...]) -> None:
    assert joined(SAID, *pieces) == "The capital of France is Paris."


def test_an_answer_made_anew_in_other_words_is_a_cut_one() -> None:
    with pytest.raises(AnswerCut):
        joined(SAID, "The capital of France, as ", "everybody knows, is Paris.")


def test_a_document_made_again_must_begin_the_same() -> None:
    assert joined('{"a": ', '{"a"', ": 1}", again=True) == '{"a": 1}'
    with pytest.raises(AnswerCut):
        joined('{"a": ', '{"b": 1}', again=True)


@given(st.text(min_size=30), st.data())
def test_a_restart_in_any_pieces_is_joined(whole: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]

    assert joined(whole[:cut], *pieces) == whole
