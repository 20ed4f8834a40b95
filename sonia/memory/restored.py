"""What memory does with a database that was restored."""

from __future__ import annotations

import apsw

from sonia.memory import bookkeeping, digests, ledger
from sonia.types import new_id, now


def after_restore(c: apsw.Connection) -> None:
    """The text index is of another time and is made anew; the ledger says why."""
    bookkeeping.lose_text(c)
    c.execute("DELETE FROM memory_damaged")  # the backup was checked
    while digests.complete(c):
        pass
    ledger.append(
        c,
        ledger.Row(
            kind="memory.restored",
            at=now(),
            data={},
            correlation_id=new_id("restore"),
            user_id="owner",
        ),
    )
