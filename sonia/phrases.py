"""Finding words in text, as whole words: case, width and punctuation do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_NEEDLES = 16
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
    """Any number of phrases, looked for at once."""

    def __init__(self) -> None:
        self._trie: dict[str, Any] = {}
        self._needles: set[str] | None = set()

    def __bool__(self) -> bool:
        return bool(self._trie)

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

    def within(self, text: str) -> bool:
        """Whether `text` has one of the phrases in it."""
        said = words(text)
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
        if not self._trie:
            return "0", {}
        if self._needles is None:
            return "1", {}
        bound = {f"needle{n}": needle for n, needle in enumerate(sorted(self._needles))}
        return " OR ".join(f"instr(lower({column}), :{name})" for name in bound), bound
