"""How often which word is in which of some texts: many texts at once, as numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sonia.memory.text import END, function_stems, runs_of, words

Floats = NDArray[np.float64]
NOTHING = -1  # a run that is too long to be a word
END_OF_TEXT = -2
MOST_RUNS = 131_072  # that are known at once; about 20 MB

SPACE = 0x20
EIGHT = 8  # bytes, looked at as one number
MOST_EIGHTS = 8  # a longer run is as good as never a word
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio (Knuth, 6.4)
SLOT_BITS = 17
NUMBER = np.uint64(0xFFFFF)  # the part of a slot that is a word's number
FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(EIGHT + 1)], np.uint64)


class _Vocabulary(dict[str, int]):
    """The number of the word that each run of letters and digits is.

    Function words have the first numbers. Any thread may ask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}
        self.words: list[str] = []
        self._adding = threading.Lock()
        for stem in sorted(function_stems()):
            self._number(stem)
        self.function_words = len(self.words)
        self[END] = END_OF_TEXT
        # Of the run that was asked for last of those with the same first bits of their hash: 44
        # bits of it and the number, as one value, so that no thread reads it half-written.
        self._slots = np.zeros(1 << SLOT_BITS, np.uint64)

    def __missing__(self, run: str) -> int:
        stem = next(iter(words(run)), None)
        with self._adding:
            self[run] = number = NOTHING if stem is None else self._number(stem)
        return number

    def of(self, runs: bytes) -> NDArray[np.int64]:
        """The numbers of all the runs in `runs_of`'s answer, in their order.

        Looking each up by itself takes several times as long as all the rest of a search.
        """
        gap = np.frombuffer(runs, np.uint8) == SPACE
        edges = np.flatnonzero(gap[1:] != gap[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
        hashes = _hashes(runs, starts, ends - starts)
        slots = hashes >> np.uint64(64 - SLOT_BITS)
        held = self._slots[slots]
        numbers: NDArray[np.int64] = (held & NUMBER).astype(np.int64) + END_OF_TEXT
        long = ends - starts > EIGHT * MOST_EIGHTS
        for place in np.flatnonzero(((held ^ hashes) > NUMBER) | (held == 0) | long).tolist():
            numbers[place] = number = self[runs[starts[place] : ends[place]].decode()]
            if not long[place]:
                tag = int(hashes[place]) & ~int(NUMBER)
                self._slots[slots[place]] = tag | (number - END_OF_TEXT)
        return numbers

    def _number(self, stem: str) -> int:
        if stem not in self.numbers:
            self.words.append(stem)
            self.numbers[stem] = len(self.numbers)
        return self.numbers[stem]


def _hashes(
    runs: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Of the first 64 bytes of each run, eight at a time."""
    padded = runs + bytes(EIGHT)
    eights = np.ndarray(len(runs) + 1, "<u8", padded, strides=(1,))  # from each byte on
    hashes = _mixed(eights[starts] & FIRST_BYTES[np.minimum(lengths, EIGHT)])
    for at in range(EIGHT, EIGHT * MOST_EIGHTS, EIGHT):
        some = np.flatnonzero(lengths > at)
        if not len(some):
            break
        more = eights[starts[some] + at] & FIRST_BYTES[np.minimum(lengths[some] - at, EIGHT)]
        hashes[some] = _mixed(hashes[some] ^ more)
    return hashes


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = numbers * ODD
    mixed ^= mixed >> np.uint64(32)
    mixed *= ODD
    return mixed


@cache
def _known() -> _Vocabulary:
    return _Vocabulary()


def _vocabulary() -> _Vocabulary:
    """The one that searches share; a new one when it has grown too large."""
    if len(_known()) > MOST_RUNS:
        _known.cache_clear()
    return _known()


class Texts:
    """Texts cut into words as the index cuts them, in the order in which they were added.

    Function words are in their lengths only, unless `every` word is to be counted.
    """

    def __init__(self, texts: Iterable[str] = (), *, every: bool = False) -> None:
        self._vocabulary = _vocabulary()
        self._first = 0 if every else self._vocabulary.function_words
        self._found = np.empty(0, np.int64)  # the word at every place of all texts
        self._text = np.empty(0, np.int64)  # the text in which that is
        self.lengths: Floats = np.empty(0)
        self._within: NDArray[np.int64] | None = None
        self.add(texts)

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, texts: Iterable[str]) -> None:
        """Have these, too."""
        self._within = None
        cut = list(texts)
        if not cut:
            return
        numbers = self._vocabulary.of(runs_of(cut))
        ends = np.flatnonzero(numbers == END_OF_TEXT)
        lengths = np.diff(ends, prepend=-1)
        text = np.repeat(np.arange(len(self), len(self) + len(cut)), lengths)
        counted = numbers >= self._first
        self._found = np.concatenate([self._found, numbers[counted]])
        self._text = np.concatenate([self._text, text[counted]])
        self.lengths = np.concatenate([self.lengths, lengths - 1])

    def counts(self, words: Sequence[str]) -> Floats:
        """`[texts, words]`: how often each of these words is in each text.

        They are distinct, and at most 255.
        """
        column = np.zeros(len(self._vocabulary.words), np.uint8)
        for place, word in enumerate(words, 1):
            if (number := self._vocabulary.numbers.get(word)) is not None:
                column[number] = place
        columns = column[self._found]
        asked = np.flatnonzero(columns)
        places = self._text[asked] * len(words) + columns[asked] - 1
        counts = np.bincount(places, minlength=len(self) * len(words))
        return counts.reshape(len(self), len(words)).astype(float)

    def within(self, word: str) -> int:
        """How many of the texts hold this word."""
        number = self._vocabulary.numbers.get(word)
        if number is None:
            return 0
        if self._within is None:
            width = len(self._vocabulary.words)
            pairs = np.unique(self._text * width + self._found)
            self._within = np.bincount(pairs % width, minlength=width)
        return int(self._within[number]) if number < len(self._within) else 0

    def told(self, weights: Mapping[int, float]) -> dict[str, float]:
        """Each word's share of these texts, each of which has a weight of its own."""
        weight = np.zeros(len(self))
        weight[list(weights)] = list(weights.values())
        weight /= np.maximum(self.lengths, 1)
        some = np.isin(self._text, list(weights))
        told = np.bincount(self._found[some], weight[self._text[some]])
        return {self._vocabulary.words[number]: float(told[number]) for number in told.nonzero()[0]}
