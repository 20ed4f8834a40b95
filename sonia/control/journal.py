"""Writing so that it is on the record: stamped, and failing as one kind of error."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sonia.control import ledger
from sonia.control.interface import LedgerDown, LedgerEntry
from sonia.control.ledger import Stamp
from sonia.errors import Internal, Unavailable

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

T = TypeVar("T")


class Journal:
    """The database as control uses it. `failing` is true after a write that was not made."""

    def __init__(self, db: Database, clock: Callable[[], dt.datetime]) -> None:
        self._db = db
        self._clock = clock
        self.failing = False

    def now(self) -> dt.datetime:
        """The wall clock."""
        return self._clock()

    def stamp(self) -> Stamp:
        """Now, for the request that is current. Take it on the event loop, before `write`."""
        from sonia.envelope import correlation_id  # brings in the web framework

        return Stamp(at=self._clock(), correlation_id=correlation_id())

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Like `Database.write`; raises `LedgerDown` when nothing can be written."""
        try:
            answer = await self._db.write(work)
        except (Unavailable, Internal) as error:
            self.failing = True
            raise LedgerDown(
                f"The ledger can't be written, so nothing risky may run. {error.message}"
            ) from error
        self.failing = False
        return answer

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Like `Database.read`."""
        return await self._db.read(work)

    async def record(self, kind: str, data: dict[str, Any]) -> LedgerEntry:
        """Append one row by itself. Raises `LedgerDown`, `InvalidRequest`."""
        stamp = self.stamp()
        return await self.write(lambda connection: ledger.append(connection, kind, data, stamp))
