"""What a person is shown before saying yes: nothing hidden, nothing cut off.

Text that lies by how it is drawn (direction overrides, zero-width and other invisible
characters, look-alike letters inside a word, terminal escapes) is spelled out as `\\u202e`.
Trojan Source: Boucher and Anderson, "Invisible Vulnerabilities" (2021).
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 10_000
MAX_BLANK_RUN = 100

_SHORT = {"\\": "\\\\", "\t": "\\t", "\r": "\\r"}
# Drawn as nothing although Unicode counts them as printable.
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)
_LOOK_ALIKES = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "FULLWIDTH")
_WORD = re.compile(r"\w+")
_BLANKS = re.compile(rf"[ \n]{{{MAX_BLANK_RUN + 1},}}")


def visible(text: str) -> str:
    """Return `text` with every character that could mislead spelled out; newlines stay.

    Reversible: a backslash is doubled, so no text can pretend to be an escape.
    """
    mixed = {place for word in _WORD.finditer(text) for place in _look_alikes(word)}
    return "".join(
        "\\" + _code(character) if place in mixed else _spelled(character)
        for place, character in enumerate(text)
    )


def unfit(text: str) -> str | None:
    """Why nobody could judge this text by reading it; None when it can be read."""
    if not text.strip():
        return "There is nothing to show to a person."
    if len(text) > MAX_CHARS or len(visible(text)) > MAX_CHARS:
        return f"It is longer than the {MAX_CHARS} characters that a person can be asked to read."
    if _BLANKS.search(text):
        return f"It has more than {MAX_BLANK_RUN} blanks in a row, which hide what follows them."
    return None


def _look_alikes(word: re.Match[str]) -> list[int]:
    """Where a word that has plain Latin letters has letters that imitate them."""
    text = word[0]
    if text.isascii() or not any(letter.isascii() and letter.isalpha() for letter in text):
        return []
    return [
        word.start() + place
        for place, letter in enumerate(text)
        if unicodedata.name(letter, "").startswith(_LOOK_ALIKES)
    ]


def _spelled(character: str) -> str:
    if short := _SHORT.get(character):
        return short
    if character == "\n" or (character.isprintable() and character not in _INVISIBLE):
        return character
    return "\\" + _code(character)


def _code(character: str) -> str:
    code = ord(character)
    return f"u{code:04x}" if code <= 0xFFFF else f"U{code:08x}"
