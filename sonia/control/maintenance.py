"""Maintenance: reading and talking go on, nothing has an effect, and no task begins.

Where it stands is in the ledger, as the newest row that begins or ends it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, cast

from sonia.control import ledger
from sonia.control.interface import Maintenance
from sonia.control.ledger import Stamp

if TYPE_CHECKING:
    import apsw

BEGAN, ENDED = "maintenance.began", "maintenance.ended"


def read(c: apsw.Connection) -> Maintenance:
    """How it stands. The reason is not kept beyond the ledger's own row."""
    found = c.execute(
        "SELECT kind, at FROM control_ledger WHERE kind IN (?, ?) ORDER BY number DESC LIMIT 1",
        (BEGAN, ENDED),
    ).fetchone()
    if found is None or found[0] == ENDED:
        return Maintenance(on=False)
    return Maintenance(on=True, since=dt.datetime.fromisoformat(cast(str, found[1])))


def write(c: apsw.Connection, on: bool, reason: str, by: str, stamp: Stamp) -> Maintenance:
    """Begin or end it."""
    account = {"by": by, "reason": reason}
    ledger.append(c, BEGAN if on else ENDED, account, stamp)
    return Maintenance(on=on, reason=reason, since=stamp.at if on else None)
