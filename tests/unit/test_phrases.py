"""Words are found as whole words, and no row that holds them is passed over."""

from __future__ import annotations

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia import phrases
from sonia.phrases import Phrases, words


def looking_for(*phrases: str) -> Phrases:
    found = Phrases()
    for phrase in phrases:
        found.add(phrase)
    return found


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("Biscuit", "BISCUIT\u2019s collar", True),
        ("Biscuit", "biscuits", False),
        ("Biscuit", "biscuit_photo.jpg", True),
        ("the door code", "The  door, code: 1815", True),
        ("the door code", "the code", False),
        ("straße", "Die STRASSE", True),
        ("\uff22\uff4f", "Bo", True),
        ("猫", "田中さんは猫が好き", True),
        ("田中さん", "田中さんは猫が好き", True),
        ("c++", "c", True),
    ],
)
def test_what_is_the_same_word(phrase: str, text: str, found: bool) -> None:
    assert looking_for(phrase).within(text) == found


def test_the_longer_of_two_phrases_that_begin_alike_is_found_too() -> None:
    asked = looking_for("the door", "the door code is 1815", "a cat")

    assert asked.within("The door code is 1815")
    assert asked.within("a dog and a cat")
    assert not asked.within("the code is 1815")


def test_nothing_is_in_everything() -> None:
    asked = looking_for("", "?!")

    assert not asked
    assert not asked.within("anything")
    assert asked.hint("data") == ("0", {})


def test_a_quote_is_eight_words_in_a_row() -> None:
    asked = Phrases()
    asked.add_quotes("One two three four five six seven eight nine, and so on to the end.")
    asked.add_quotes("Short as this")

    assert asked.within("They said: TWO three four - five six seven eight nine!")
    assert not asked.within("two three four five six seven eight")
    assert asked.within("it is short as this is")
    assert asked.hint("data") == ("1", {})


def test_of_a_very_long_text_a_longer_quote_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "MAX_QUOTES", 1000)
    said = [f"word{number}" for number in range(5000)]
    asked = Phrases()

    asked.add_quotes(" ".join(said))

    assert asked.within(" ".join(said[1000:1500]))
    assert not asked.within(" ".join(reversed(said)))


@given(before=st.text(), phrase=st.text(min_size=1), after=st.text())
def test_what_holds_the_words_is_found_and_hinted_at(before: str, phrase: str, after: str) -> None:
    asked = looking_for(phrase)
    text = f"{before} {phrase} {after}"
    data = msgspec.json.encode({"said": [text]}).decode()
    connection = apsw.Connection(":memory:")
    hint, needles = asked.hint(":data")

    hinted = connection.execute(f"SELECT {hint}", {**needles, "data": data}).fetchall()

    assert asked.within_json(data) == bool(words(phrase))
    assert bool(hinted[0][0]) >= bool(words(phrase))
