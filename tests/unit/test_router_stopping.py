"""Stop texts: found however an answer is cut into pieces, and named."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sonia.router.backends.stopping import Stops

letters = st.text(alphabet="ab\n", max_size=12)
stop_texts = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


@given(text=letters, stops=stop_texts, cuts=st.randoms())
def test_an_answer_ends_before_the_stop_that_is_whole_first_wherever_it_is_cut(
    text: str, stops: list[str], cuts: Random
) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    end, at = min(ends, default=(0, len(text)))

    said, found = _followed(Stops(stops), text, cuts)

    assert said == text[:at]
    assert found == (text[at:end] if ends else None)


def _followed(following: Stops, text: str, cuts: Random) -> tuple[str, str | None]:
    said = ""
    while text and following.found is None:
        size = cuts.randint(1, len(text))
        said += following.take(text[:size])
        text = text[size:]
    return said + following.end(), following.found


def test_what_can_no_longer_become_a_stop_is_handed_on_at_once() -> None:
    following = Stops(["END"])

    assert [following.take(piece) for piece in ("a", "E", "N", "x", "E")] == [
        "a",
        "",
        "",
        "ENx",
        "",
    ]
    assert following.end() == "E"
