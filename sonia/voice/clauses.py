"""An answer as it comes, cut into what can be spoken: a first clause soon, then sentences."""

from __future__ import annotations

import itertools
import re

FIRST_WORDS = 2  # a first clause of fewer sounds cut off
# Without a mark, so many words are spoken first: where a phrase ends, and at the latest.
PHRASE_WORDS, MOST_FIRST_WORDS = 3, 6
LONGEST_WORDS = 40
_SENTENCE = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+[\"'\u201d\u2019)\]]*(?=\s)|\n+")
_CLAUSE = re.compile(r"[,;:\u2014\u3001\uff0c\uff1b](?=\s)")
_WORD = re.compile(r"\S+")
_SHORTENED = re.compile(r"(?:^|\s)(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|e\.g|i\.e|\d+)\.$")
# What begins a phrase, and so ends the one before. Nothing ends with one of these.
_JOINING = re.compile(
    r"an?|the|of|to|in|on|at|by|for|from|with|as|is|are|was|were|been?|has|have|had|do|does|did|"
    r"can|could|will|would|may|might|must|should|but|because|that|which|who|when|while|if|so|than|"
    r"then|into|over|about|its?|it's|there|not?|your|my|his|her|their|our|this|these",
    re.IGNORECASE,
)
_PAIRING = re.compile(r"and|or", re.IGNORECASE)
_CODE = re.compile(r"```.*?(```|$)", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"[*_`~#|<>]+|^\s*[-+]\s+", re.MULTILINE)
_ADDRESS = re.compile(r"https?://\S+")


class Clauses:
    """Takes pieces of an answer, gives clauses; joined, they are the answer."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def feed(self, piece: str) -> list[str]:
        """What can be spoken now."""
        self._text += piece
        done: list[str] = []
        while (cut := self._cut()) is not None:
            done.append(self._text[:cut])
            self._text = self._text[cut:]
            self._first = False
        return done

    def end(self) -> list[str]:
        """What is left."""
        rest, self._text = self._text, ""
        return [rest] if rest.strip() else []

    def _cut(self) -> int | None:
        if self._text.count("```") % 2:
            return None
        for found in _SENTENCE.finditer(self._text):
            head = self._text[: found.end()]
            if head.strip() and not _SHORTENED.search(head):
                return found.end()
        if not self._first and len(self._text.split()) < LONGEST_WORDS:
            return None
        for found in _CLAUSE.finditer(self._text):
            if len(self._text[: found.start()].split()) >= FIRST_WORDS:
                return found.end()
        return self._phrase() if self._first else None

    def _phrase(self) -> int | None:
        """Where the first phrase ends, if it has."""
        words = list(_WORD.finditer(self._text))
        for before, after in itertools.pairwise(words[PHRASE_WORDS - 1 :]):
            goes_on = _JOINING.fullmatch(before[0]) or _PAIRING.fullmatch(before[0])
            if not goes_on and _JOINING.fullmatch(after[0]):
                return after.start()
        if len(words) > MOST_FIRST_WORDS:
            return words[MOST_FIRST_WORDS].start()
        return None


def spoken(text: str) -> str:
    """The words of `text`, without what is only there to be looked at."""
    text = _CODE.sub(" ", text)
    text = _LINK.sub(r"\1", text)
    text = _ADDRESS.sub("a link", text)
    return " ".join(_MARKS.sub(" ", text).split())
