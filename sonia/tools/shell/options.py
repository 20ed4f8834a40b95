"""What a program may be given so that it still only reads: an allow-list of its options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from sonia.control import guarded
from sonia.tools.bubblewrap import INSIDE
from sonia.types import Value

Operands = Literal["paths", "text", "pattern", "none"]

_DIGITS = re.compile(r"-\d+")


class Options(Value):
    """The options of one program that read and do nothing else.

    `short` take no value and `short_valued` take one; `long` likewise, and `long_optional` may
    have one behind `=`. `operands` says what the other words are: `pattern` is one text, then
    paths. With `numbers`, `-5` is an option. Abbreviated options are not known.
    """

    short: str = ""
    short_valued: str = ""
    long: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    long_optional: frozenset[str] = frozenset()
    operands: Operands = "paths"
    most: int | None = None
    numbers: bool = False

    def allows(self, words: Sequence[str]) -> bool:
        """Whether every word behind the program's name is one of these."""
        reading = _Reading(self)
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                reading.operands += rest
                break
            if word.startswith("--"):
                fits = reading.long(word[2:], rest)
            elif word.startswith("-") and len(word) > 1:
                fits = bool(self.numbers and _DIGITS.fullmatch(word)) or reading.short(word, rest)
            else:
                fits = True
                reading.operands.append(word)
            if not fits:
                return False
        return reading.fits()


class _Reading:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.operands: list[str] = []
        self.patterned = False

    def long(self, word: str, rest: list[str]) -> bool:
        name, equals, value = word.partition("=")
        if name in self.options.long:
            return not equals
        if name in self.options.long_optional:
            return inside(value)
        if name not in self.options.long_valued or not (equals or rest):
            return False
        return self._value(name == "regexp", value if equals else _next(rest))

    def short(self, word: str, rest: list[str]) -> bool:
        for place, letter in enumerate(word[1:], 2):
            if letter in self.options.short:
                continue
            if letter not in self.options.short_valued or not (word[place:] or rest):
                return False
            is_pattern = letter == "e" and self.options.operands == "pattern"
            return self._value(is_pattern, word[place:] or _next(rest))
        return True

    def _value(self, is_pattern: bool, value: str | None) -> bool:
        self.patterned |= is_pattern
        return value is not None and (is_pattern or inside(value))

    def fits(self) -> bool:
        options, operands = self.options, self.operands
        if options.most is not None and len(operands) > options.most:
            return False
        if options.operands == "none":
            return not operands
        if options.operands == "text":
            return True
        if options.operands == "pattern" and not self.patterned:
            operands = operands[1:]
        return all(map(inside, operands))


def _next(rest: list[str]) -> str | None:
    """The next word as a value; None when it could be an option after all."""
    word = rest.pop(0)
    return None if word.startswith("-") and not _DIGITS.fullmatch(word) else word


def inside(word: str) -> bool:
    """Whether a word, taken as a path, stays in the workspace and names no credentials."""
    if word == INSIDE or word.startswith(f"{INSIDE}/"):
        word = word[len(INSIDE) :].lstrip("/")
    if word.startswith(("/", "~", "@")) or ".." in word.split("/"):
        return False
    return guarded(word) is None
