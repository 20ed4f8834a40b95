"""Vectors as a few bits, and which of many such differ least.

Two bits for every dimension say whether a component lies above the lower and the upper third of a
normal distribution with the components' variance, so the number of differing bits is the distance
in thirds; one bit, the sign, needs about twice as many candidates for the same recall.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOOK = 16_384  # codes are compared at once: what that needs stays in the processor's cache
THIRD = 0.43  # standard deviations: as much of a normal distribution is below it as above
TIES = 2  # so many times what was asked for is examined when distances are equal


def split(dimensions: int) -> tuple[list[int], list[int]]:
    """Which words of a code are compared first, and which then.

    The first are of some dimensions whether they lie above the upper third, and of as many
    others whether they lie above the lower: these two say more together than two of one kind.
    """
    words = -(-dimensions // 64)
    some = max(words // 3, 1)
    first = [*range(some), *range(words + some, words + min(2 * some, words))]
    return first, [word for word in range(2 * words) if word not in first]


def coded(vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two bits for every dimension, as 64-bit words: the first as columns, the rest as rows."""
    third = np.float32(THIRD / np.sqrt(vectors.shape[1]))
    above = [np.packbits(vectors > bound, axis=1) for bound in (third, -third)]
    whole = np.concatenate([_to_words(packed) for packed in above], axis=1)
    words = np.ascontiguousarray(whole).view(np.uint64)
    first, rest = split(vectors.shape[1])
    return np.ascontiguousarray(words[:, first].T), words[:, rest]


def _to_words(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Padded to whole 64-bit words."""
    missing = -packed.shape[1] % 8
    return np.pad(packed, ((0, 0), (0, missing))) if missing else packed


def least(distances: NDArray[np.uint16], examine: int, far: int) -> NDArray[np.int64]:
    """Where the `examine` smallest below `far` are, with what ties with the last, within reason."""
    last, high = 0, far - 1
    while last < high:  # a few comparisons are faster than any sorting
        middle = (last + high) // 2
        if np.count_nonzero(distances <= middle) < examine:
            last = middle + 1
        else:
            high = middle
    chosen = np.flatnonzero(distances <= last)
    if len(chosen) <= TIES * examine:
        return chosen
    closer = np.flatnonzero(distances < last)
    tied = np.flatnonzero(distances == last)
    return np.concatenate([closer, tied[len(closer) - examine :]])


class Work:
    """Room for counting differing bits, used again for each block."""

    def __init__(self, words: int) -> None:
        self._differing = np.empty((words, LOOK), np.uint64)
        self._counted = np.empty((words, LOOK), np.uint8)

    def differences(
        self,
        codes: NDArray[np.uint64],
        code: NDArray[np.uint64],
        mask: NDArray[np.bool_],
        far: int,
        into: NDArray[np.uint16],
    ) -> None:
        """In how many bits each of the codes in the mask differs; `far` for the others."""
        slots: NDArray[np.int64] | slice = slice(None)
        if not mask.all():
            into[:] = far
            slots = np.flatnonzero(mask)
            if 4 * len(slots) < len(mask):  # so few are gathered faster than all are counted
                codes = codes[:, slots]
        size = codes.shape[1]
        differing, counted = self._differing[:, :size], self._counted[:, :size]
        np.bitwise_xor(codes, code, out=differing)
        np.bitwise_count(differing, out=counted)
        found = np.add.reduce(counted, axis=0, dtype=np.uint16)
        into[slots] = found[slots] if size == len(into) else found
