"""Finding words in text, as whole words: case, width and punctuation do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_NEEDLES = 16
QUOTE_WORDS = 8  # so many words of a longer text in a row are a quote of it
MAX_QUOTES = 1_000_000
# Scripts that are written without spaces: each character stands for itself.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_PLAIN = re.compile("[a-z0-9]+")


def words(text: str) -> list[str]:
    """The words of `text` in order, folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def texts(value: Any) -> Iterable[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


class Phrases:
    """Any number of phrases, looked for at once, and longer texts of which parts are quoted."""

    def __init__(self) -> None:
        self._trie: dict[str, Any] = {}
        self._needles: set[str] | None = set()
        self._quotes: set[int] = set()
        self._every = 1  # of the hashes, those are kept that this divides

    def __bool__(self) -> bool:
        return bool(self._trie) or bool(self._quotes)

    def add(self, text: str, *, literally: bool = True) -> None:
        """Look for these words too. `literally`: only where they are spelled as here."""
        said = words(text)
        if not said:
            return
        node = self._trie
        for word in said:
            node = node.setdefault(word, {})
        node[""] = {}
        if self._needles is not None:
            plain = _PLAIN.findall(text.lower())  # what SQL's lower() leaves as it is
            if literally and plain and len(self._needles) < MAX_NEEDLES:
                self._needles.add(max(plain, key=len))
            else:
                self._needles = None

    def add_quotes(self, text: str) -> None:
        """Look for any `QUOTE_WORDS` of these words in a row; for all of them, if they are fewer.

        Of more than a million such places an even part is looked for, so that a quote must be
        longer to be found for certain.
        """
        said = words(text)
        if len(said) < QUOTE_WORDS:
            self.add(text)
            return
        self._quotes.update(hash_ for hash_ in _windows(said) if hash_ % self._every == 0)
        while len(self._quotes) > MAX_QUOTES:
            self._every *= 2
            self._quotes = {hash_ for hash_ in self._quotes if hash_ % self._every == 0}

    def within(self, text: str) -> bool:
        """Whether `text` has one of the phrases in it, or a quote."""
        said = words(text)
        if self._quotes and not self._quotes.isdisjoint(_windows(said)):
            return True
        for start in range(len(said)):
            node = self._trie
            for word in said[start:]:
                if word not in node:
                    break
                node = node[word]
                if "" in node:
                    return True
        return False

    def within_json(self, text: str) -> bool:
        """Whether a text of this JSON has one of the phrases in it."""
        try:
            return any(self.within(part) for part in texts(msgspec.json.decode(text)))
        except msgspec.DecodeError:
            return self.within(text)

    def hint(self, column: str) -> tuple[str, dict[str, str]]:
        """SQL that is true of every row worth looking at, and its parameters."""
        if not self:
            return "0", {}
        if self._needles is None or self._quotes:
            return "1", {}
        bound = {f"needle{n}": needle for n, needle in enumerate(sorted(self._needles))}
        return " OR ".join(f"instr(lower({column}), :{name})" for name in bound), bound


def _windows(said: list[str]) -> Iterable[int]:
    """A hash of each `QUOTE_WORDS` words in a row; the same within this process."""
    return (hash(tuple(said[n : n + QUOTE_WORDS])) for n in range(len(said) - QUOTE_WORDS + 1))
