"""Which memories turns used: noted behind the answer, in one write for those that came together.

An access counts less with every half-life, so what is kept of many is one number and a moment.
What was not written when Sonia crashed is lost: it was a hint, not something that was said.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import apsw

from sonia.db import Database
from sonia.errors import SoniaError
from sonia.memory.columns import micros, moment, to_json
from sonia.memory.following import Follower
from sonia.types import MemoryId

MOST_WAITING = 10_000  # memories, while nothing can be written
DAY_US = 86_400_000_000


class AccessFollower(Follower):
    """Writes down what was touched."""

    name = "access"

    def __init__(
        self, db: Database, clock: Callable[[], dt.datetime], half_life_days: float
    ) -> None:
        super().__init__(db)
        self._clock = clock
        self._half_life_days = half_life_days
        self._touched: Counter[MemoryId] = Counter()

    def touch(self, memory_ids: Iterable[MemoryId]) -> None:
        """Each was used once more. Returns at once."""
        if len(self._touched) < MOST_WAITING:
            self._touched.update(set(memory_ids))
        if self._touched:
            self.wake()

    async def close(self) -> None:
        """After the task has ended: write what waits, if that is possible."""
        with suppress(SoniaError):
            await self._step()

    async def _step(self) -> bool:
        touched, self._touched = self._touched, Counter()
        if not touched:
            return False
        try:
            await self._db.write(
                partial(add, touched=touched, at=self._clock(), half_life_days=self._half_life_days)
            )
        except SoniaError:
            self._touched.update(touched)
            raise
        return True


def add(
    c: apsw.Connection, touched: Mapping[MemoryId, int], at: dt.datetime, half_life_days: float
) -> None:
    """Count these accesses of now; those of memories that are gone are left out."""
    c.execute(
        "INSERT INTO memory_access (number, accesses, last_at) "
        "SELECT number, touched.value, :at FROM json_each(:touched) AS touched "
        "JOIN memory_entries ON memory_entries.id = touched.key WHERE true "
        "ON CONFLICT (number) DO UPDATE SET "
        "accesses = accesses * pow(0.5, max(excluded.last_at - last_at, 0) / :half_life) "
        "+ excluded.accesses, last_at = max(last_at, excluded.last_at)",
        {
            "touched": to_json(touched),
            "at": micros(at),
            "half_life": half_life_days * DAY_US,
        },
    )


def accesses(
    c: apsw.Connection, numbers: Sequence[int], at: dt.datetime, half_life_days: float
) -> dict[int, float]:
    """How often each was used, a use halved with every half-life since; only those that were."""
    rows = c.execute(
        "SELECT number, accesses * pow(0.5, max(:at - last_at, 0) / :half_life) "
        "FROM memory_access WHERE number IN (SELECT value FROM json_each(:numbers))",
        {
            "numbers": to_json(numbers),
            "at": micros(at),
            "half_life": half_life_days * DAY_US,
        },
    )
    return {cast(int, number): cast(float, count) for number, count in rows}


def last_used(c: apsw.Connection, numbers: Sequence[int]) -> dict[int, dt.datetime]:
    """When each was last used; only those that were."""
    rows = c.execute(
        "SELECT number, last_at FROM memory_access "
        "WHERE number IN (SELECT value FROM json_each(?))",
        (to_json(numbers),),
    )
    return {cast(int, number): moment(cast(int, at)) for number, at in rows}
