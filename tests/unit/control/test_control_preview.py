"""What is shown is what is there."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.control.preview import unfit, visible

ESCAPE = re.compile(r"\\(\\|t|r|u[0-9a-f]{4}|U[0-9a-f]{8})")
SHORT = {"\\": "\\", "t": "\t", "r": "\r"}


def unescape(shown: str) -> str:
    return ESCAPE.sub(lambda m: SHORT.get(m[1]) or chr(int(m[1][1:], 16)), shown)


@settings(max_examples=500)
@given(st.text())
def test_t14_everything_shown_can_be_read_back_exactly(text: str) -> None:
    assert unescape(visible(text)) == text


@settings(max_examples=300)
@given(st.text())
def test_t14_nothing_shown_is_invisible_or_moves_text(text: str) -> None:
    for character in visible(text):
        assert character == "\n" or unicodedata.category(character)[0] in "LMNPSZ"
        assert character not in "\u00a0\u2028\u2029\ufeff\u3164\ufe0f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rm -rf ~ # \u202egnihton\u202c", "rm -rf ~ # \\u202egnihton\\u202c"),
        ("is\u200bAdmin", "is\\u200bAdmin"),
        ("say\u041dello", "say\\u041dello"),
        ("p\u0430ypal.com", "p\\u0430ypal.com"),
        ("\x1b[2K\x1b[1Aharmless", "\\u001b[2K\\u001b[1Aharmless"),
        ("one\rtwo", "one\\rtwo"),
        ("ls\u00a0-l", "ls\\u00a0-l"),
        ("a\u3164b", "a\\u3164b"),
        ("x\U000e0041", "x\\U000e0041"),
        ("C:\\u202e", "C:\\\\u202e"),
        ("line\nline", "line\nline"),
        (
            "\u043f\u0440\u0438\u0432\u0435\u0442 \u4e16\u754c caf\u00e9",
            "\u043f\u0440\u0438\u0432\u0435\u0442 \u4e16\u754c caf\u00e9",
        ),
    ],
)
def test_t14_text_that_lies_is_spelled_out_and_other_languages_are_not(
    text: str, shown: str
) -> None:
    assert visible(text) == shown


def test_ordinary_text_can_be_judged() -> None:
    assert unfit("Write 5 bytes to notes.txt:\n\n        hello\n") is None
