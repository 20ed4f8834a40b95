"""What fades: a memory's strength halves with every half-life of its type in which it isn't used.

Nothing is ever deleted by it. What has become too weak is archived: left out of searches that
don't ask for it, and brought back by `archive(…, archived=False)`. What is pinned never fades,
and a document is whole or gone: none of its pieces is archived.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

import apsw
import msgspec

from sonia.config import Decay
from sonia.memory import access, ledger, store
from sonia.memory.columns import micros
from sonia.memory.interface import Entry
from sonia.memory.ledger import Row

BATCH = 500
DAY = dt.timedelta(days=1)


def strength(
    entry: Entry, at: dt.datetime, settings: Decay, used_at: dt.datetime | None = None
) -> float:
    """In [0, 1]: importance, halved with every half-life since it was last written or used."""
    if entry.pinned:
        return 1.0
    half_life = getattr(settings.half_life_days, entry.type, settings.half_life_days.other)
    since = max(entry.recorded_at, used_at or entry.recorded_at)
    age_days = max((at - since) / DAY, 0.0)
    return float(entry.importance * 0.5 ** (age_days / half_life))


def faded(c: apsw.Connection, settings: Decay, at: dt.datetime, limit: int = BATCH) -> list[int]:
    """Numbers of what is too weak and not archived yet, weakest first."""
    rows = c.execute(
        "SELECT number, importance * pow(0.5, "
        "(:at - max(recorded_at, coalesce(last_at, 0))) / 86400000000.0 / "
        "coalesce(half.value, :other)) AS strength "
        "FROM memory_entries LEFT JOIN memory_access USING (number) "
        "LEFT JOIN json_each(:half_lives) AS half ON half.key = memory_entries.type "
        "WHERE archived_at IS NULL AND pinned = 0 AND superseded_by IS NULL "
        "AND memory_entries.type <> 'document' "
        "AND max(recorded_at, coalesce(last_at, 0)) < :before AND strength < :below "
        "ORDER BY strength LIMIT :limit",
        {
            "at": micros(at),
            "half_lives": msgspec.json.encode(settings.half_life_days).decode(),
            "other": settings.half_life_days.other,
            "before": micros(at - settings.archive_after_days * DAY),
            "below": settings.archive_below,
            "limit": limit,
        },
    )
    return [cast(int, row[0]) for row in rows]


def archive_faded(c: apsw.Connection, numbers: Sequence[int], settings: Decay, note: Row) -> int:
    """Archive those of them that are still too weak; return how many that were."""
    used_at = access.last_used(c, numbers)
    weak = [
        entry
        for number, entry in store.entries(c, numbers).items()
        if entry.archived_at is None
        and strength(entry, note.at, settings, used_at.get(number)) < settings.archive_below
    ]
    for entry in weak:
        archive(c, entry, note, by="decay")
    return len(weak)


def archive(c: apsw.Connection, entry: Entry, note: Row, *, by: str) -> None:
    """Leave a memory out of searches from now on; the ledger says what did it."""
    store.set_aside(c, entry.id, archived_at=note.at)
    ledger.append(
        c,
        msgspec.structs.replace(
            note,
            kind="memory.archived",
            data={"id": entry.id, "type": entry.type, "version": entry.version, "by": by},
            user_id=entry.user_id,
            session_id=entry.session_id,
        ),
    )
