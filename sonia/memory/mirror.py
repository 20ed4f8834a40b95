"""The vectors once more, in memory, where the nearest are found fast.

Each is kept coarsely (see `coarse`) and in half precision. A search counts in how many of a third
of the coarse vector's bits each differs from the question's (its Hamming distance), then of the
least different in how many of all of them, and orders those that differ least by their similarity
in half precision, which is exact to about 0.0001.

A memory's number is its place here, so nothing has to be looked up. Searches run beside changes
without a lock: what they read half-changed is caught where the table confirms what was found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.memory.coarse import LOOK, Work, coded, least, split
from sonia.memory.columns import micros
from sonia.memory.interface import Query

BLOCK = 65_536  # of what isn't used, the system gives no memory
SIFTED = 16  # so many times what is examined is compared in all bits
MANY = 100_000  # of more memories, more have to be examined for the same recall
NOBODY = -1


class Held(msgspec.Struct, frozen=True):
    """What is known of a memory whose vector is kept: all that a search narrows by."""

    number: int
    version: int
    type: str
    user_id: str
    session_id: str | None
    valid_from: int


class _Block:
    """`BLOCK` memories with numbers in a row, each with a slot whether it is there or not."""

    def __init__(self, dimensions: int) -> None:
        first, rest = split(dimensions)
        self.used = 0  # slots from here on were never filled
        self.first = np.zeros((len(first), BLOCK), np.uint64)  # by columns: all are read
        self.rest = np.zeros((BLOCK, len(rest)), np.uint64)  # by rows: some are
        self.halves = np.zeros((BLOCK, dimensions), np.float16)
        self.loaded = np.zeros(BLOCK, np.bool_)  # its vector is here
        self.live = np.zeros(BLOCK, np.bool_)  # and what is known of it, so that it is found
        self.version = np.zeros(BLOCK, np.int32)
        self.type = np.zeros(BLOCK, np.int32)
        self.user = np.zeros(BLOCK, np.int32)
        self.session = np.zeros(BLOCK, np.int32)
        self.valid_from = np.zeros(BLOCK, np.int64)


class _Looked(msgspec.Struct, frozen=True):
    """Numbers, and in how many of the first bits each differs."""

    numbers: NDArray[np.int64]
    distances: NDArray[np.uint16]


class _Narrow(msgspec.Struct, frozen=True):
    types: tuple[int, ...] | None
    user: int | None
    session: int | None
    since: int | None
    until: int | None


class Mirror:
    """The vectors of one space. One thread at a time changes it; any may search."""

    def __init__(self, space: str, dimensions: int) -> None:
        self.space = space
        self.dimensions = dimensions
        self.ready = False
        self._blocks: dict[int, _Block] = {}
        self._names: dict[str, int] = {}
        self._changing = threading.Lock()
        self._of_thread = threading.local()

    @property
    def count(self) -> int:
        """How many memories can be found."""
        return sum(int(np.count_nonzero(block.live)) for block in self._blocks.values())

    # --- changing ------------------------------------------------------------------------

    def load(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Have these vectors, except where `take` was sooner; `admit` makes them findable."""
        with self._changing:
            for index, at in _grouped(numbers):
                block = self._block(index)
                fresh = block.version[numbers[at] % BLOCK] == 0
                self._write(block, numbers[at][fresh] % BLOCK, vectors[at][fresh])

    def take(self, held: Sequence[Held], vectors: NDArray[np.float32]) -> None:
        """Have these memories with their vectors, unless a later version is here."""
        numbers = np.array([row.number for row in held], np.int64)
        versions = np.array([row.version for row in held], np.int32)
        with self._changing:
            for index, at in _grouped(numbers):
                block = self._block(index)
                newer = versions[at] >= block.version[numbers[at] % BLOCK]
                at = at[newer]
                self._write(block, numbers[at] % BLOCK, vectors[at])
                self._describe(block, [held[i] for i in at])

    def admit(self, rows: Sequence[Held]) -> list[int]:
        """Make what is loaded findable as these rows describe it; return what isn't loaded."""
        numbers = np.array([row.number for row in rows], np.int64)
        versions = np.array([row.version for row in rows], np.int32)
        since = np.array([row.valid_from for row in rows], np.int64)
        missing: list[int] = []
        with self._changing:
            for index, at in _grouped(numbers):
                block = self._block(index)
                slots = numbers[at] % BLOCK
                loaded, older = block.loaded[slots], versions[at] < block.version[slots]
                known = block.live[slots] & (versions[at] == block.version[slots])
                known &= since[at] == block.valid_from[slots]
                self._describe(block, [rows[i] for i in at[loaded & ~older & ~known]])
                missing += numbers[at][~loaded].tolist()
        return missing

    def drop(self, numbers: Iterable[int]) -> None:
        """Have nothing of these any more."""
        with self._changing:
            for number in numbers:
                if (block := self._blocks.get(number // BLOCK)) is not None:
                    slot = number % BLOCK
                    block.live[slot] = block.loaded[slot] = False
                    block.version[slot] = 0
                    block.halves[slot] = 0
                    block.first[:, slot] = 0
                    block.rest[slot] = 0
                    if self.ready and not block.loaded.any():
                        del self._blocks[number // BLOCK]

    def strays(self) -> list[int]:
        """Numbers with a vector of which nothing is known."""
        return [
            index * BLOCK + int(slot)
            for index, block in self._blocks.items()
            for slot in np.flatnonzero(block.loaded & ~block.live)
        ]

    def _block(self, index: int) -> _Block:
        if index not in self._blocks:
            self._blocks[index] = _Block(self.dimensions)
        return self._blocks[index]

    def _write(self, block: _Block, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if len(slots):
            block.first[:, slots], block.rest[slots] = coded(vectors)
            block.halves[slots] = vectors
            block.loaded[slots] = True
            block.used = max(block.used, int(slots.max()) + 1)

    def _describe(self, block: _Block, rows: Sequence[Held]) -> None:
        if not rows:
            return
        slots = [row.number % BLOCK for row in rows]
        block.version[slots] = [row.version for row in rows]
        block.type[slots] = [self._named(row.type) for row in rows]
        block.user[slots] = [self._named(row.user_id) for row in rows]
        block.session[slots] = [
            NOBODY if row.session_id is None else self._named(row.session_id) for row in rows
        ]
        block.valid_from[slots] = [row.valid_from for row in rows]
        block.live[slots] = True

    def _named(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    # --- searching -----------------------------------------------------------------------

    def nearest(
        self, vector: NDArray[np.float32], query: Query, examine: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and cosines, closest first, of the `examine` that look closest.

        Among more than `MANY`, of more: by the square root of how many times as many they are.
        """
        blocks = dict(self._blocks)
        many = sum(block.used for block in blocks.values()) / MANY
        examine = round(examine * max(many, 1.0) ** 0.5)
        first, rest = coded(vector[np.newaxis])
        looked = self._look(blocks, first, self._narrow(query), SIFTED * examine)
        candidates = _sifted(blocks, looked, rest, examine)
        cosines = np.empty(len(candidates), np.float32)
        for index, at in _grouped(candidates):
            halves = blocks[index].halves.take(candidates[at] % BLOCK, axis=0)
            cosines[at] = halves.astype(np.float32) @ vector
        order = np.lexsort((-candidates, -cosines))
        return candidates[order], cosines[order]

    def vectors(self, numbers: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of these that can be found, and their vectors in half precision."""
        asked = np.array(numbers, np.int64)
        live = np.zeros(len(asked), np.bool_)
        made = np.empty((len(asked), self.dimensions), np.float16)
        for index, at in _grouped(asked):
            if (block := self._blocks.get(index)) is not None:
                slots = asked[at] % BLOCK
                live[at] = block.live[slots]
                made[at] = block.halves.take(slots, axis=0)
        return asked[live], made[live].astype(np.float32)

    def _narrow(self, query: Query) -> _Narrow:
        unknown = NOBODY - 1
        return _Narrow(
            types=tuple(self._names.get(kind, unknown) for kind in query.types) or None,
            user=None if query.user_id is None else self._names.get(query.user_id, unknown),
            session=None
            if query.session_id is None
            else self._names.get(query.session_id, unknown),
            since=None if query.since is None else micros(query.since),
            until=None if query.until is None else micros(query.until),
        )

    def _room(self, words: int) -> Work:
        """This thread's; to ask the system for it anew takes longer than counting in it."""
        if not hasattr(self._of_thread, "room"):
            self._of_thread.room = Work(words)
        room: Work = self._of_thread.room
        return room

    def _look(
        self,
        blocks: dict[int, _Block],
        code: NDArray[np.uint64],
        narrow: _Narrow,
        many: int,
    ) -> _Looked:
        """About `many` that differ least in the first bits, of all that the query narrows to."""
        far = 64 * len(code) + 1
        bases = [index * BLOCK for index in blocks]
        sizes = [block.used for block in blocks.values()]
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        distances = np.empty(int(starts[-1]), np.uint16)
        work = self._room(len(code))
        for start, size, block in zip(starts.tolist(), sizes, blocks.values(), strict=False):
            mask = _matching(block, narrow, size)
            into = distances[start : start + size]
            for at in range(0, size, LOOK):
                some = slice(at, at + LOOK)
                codes = block.first[:, :size][:, some]
                work.differences(codes, code, mask[some], far, into[some])
        chosen = least(distances, many, far)
        which = np.searchsorted(starts, chosen, side="right") - 1
        numbers = chosen - starts[which] + np.array(bases, np.int64)[which]
        return _Looked(numbers, distances[chosen])


def _matching(block: _Block, narrow: _Narrow, used: int) -> NDArray[np.bool_]:
    mask = block.live[:used]
    if narrow.user is not None:
        mask = mask & (block.user[:used] == narrow.user)
    if narrow.session is not None:
        mask = mask & (block.session[:used] == narrow.session)
    if narrow.types is not None:
        mask = mask & np.isin(block.type[:used], narrow.types)
    if narrow.since is not None:
        mask = mask & (block.valid_from[:used] >= narrow.since)
    if narrow.until is not None:
        mask = mask & (block.valid_from[:used] <= narrow.until)
    return mask


def _sifted(
    blocks: dict[int, _Block], looked: _Looked, code: NDArray[np.uint64], examine: int
) -> NDArray[np.int64]:
    """The numbers of about `examine` of these that differ least in all bits."""
    if len(looked.numbers) <= examine:
        return looked.numbers
    distances, one_each = looked.distances.copy(), np.ones(code.shape[1], np.float32)
    for index, at in _grouped(looked.numbers):
        rest = blocks[index].rest.take(looked.numbers[at] % BLOCK, axis=0)
        rest ^= code
        differing = np.bitwise_count(rest).astype(np.float32)
        distances[at] += (differing @ one_each).astype(np.uint16)  # the fastest way to add rows
    return looked.numbers[least(distances, examine, int(distances.max()) + 1)]


def _grouped(numbers: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Each block's index, and where in `numbers` those in it are."""
    indexes = numbers // BLOCK
    if len(indexes) and indexes.min() == indexes.max():
        return [(int(indexes[0]), np.arange(len(indexes)))]
    order = np.argsort(indexes, kind="stable")
    starts = np.flatnonzero(np.diff(indexes[order], prepend=-1)).tolist()
    ends = [*starts[1:], len(numbers)]
    return [
        (int(indexes[order[start]]), order[start:end])
        for start, end in zip(starts, ends, strict=False)
    ]
