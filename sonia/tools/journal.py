"""The journal of what can be undone, and the only SQL that touches it.

A row is written before the effect, so that nothing happens that is not in it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.tools.interface import NotUndoable
from sonia.tools.tool import Kept
from sonia.types import now, rfc3339

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

KEPT_FOR = dt.timedelta(days=30)

_ADD = "INSERT INTO tools_undo VALUES (?, ?, ?, 'possible', ?, ?)"
_TAKE = """
UPDATE tools_undo SET state = 'undoing' WHERE action_id = ? AND state = 'possible'
RETURNING tool, kept, before
"""
_WHY = {
    None: "It can't be undone, or not any more: that is possible for {days} days.",
    "undoing": "It is being undone already.",
    "undone": "It was undone already.",
}


class Journal:
    """Rows by action."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, action_id: str, tool: str, kept: Kept) -> None:
        """Note what undoing will need."""
        facts = msgspec.json.encode(kept.facts).decode()
        row = (action_id, tool, rfc3339(now()), facts, kept.before)
        await self._db.write(lambda c: c.execute(_ADD, row).fetchall())

    async def take(self, action_id: str) -> tuple[str, Kept]:
        """The tool and what it kept, for one who undoes it now. Raises `NotUndoable`."""

        def work(c: apsw.Connection) -> tuple[str, Kept]:
            found: list[Any] = c.execute(_TAKE, (action_id,)).fetchall()
            if not found:
                state = c.execute("SELECT state FROM tools_undo WHERE action_id = ?", (action_id,))
                known: Any = state.fetchone()
                why = _WHY[known[0] if known else None].format(days=KEPT_FOR.days)
                raise NotUndoable(why, action_id=action_id)
            tool, facts, before = found[0]
            return tool, Kept(facts=msgspec.json.decode(facts), before=before)

        return await self._db.write(work)

    async def leave(self, action_id: str, state: str) -> None:
        """Say how an undoing ended: `undone`, or `possible` again."""
        await self._db.write(
            lambda c: c.execute(
                "UPDATE tools_undo SET state = ?1, before = iif(?1 = 'undone', NULL, before) "
                "WHERE action_id = ?2",
                (state, action_id),
            ).fetchall()
        )

    async def tidy(self) -> None:
        """Let go of what is too old, and make possible again what a stop interrupted."""

        def work(c: apsw.Connection) -> None:
            c.execute("DELETE FROM tools_undo WHERE created_at < ?", (rfc3339(now() - KEPT_FOR),))
            c.execute("UPDATE tools_undo SET state = 'possible' WHERE state = 'undoing'")

        await self._db.write(work)

    async def known(self) -> frozenset[str]:
        """The actions that can be undone."""
        rows = await self._db.read(
            lambda c: c.execute(
                "SELECT action_id FROM tools_undo WHERE state <> 'undone'"
            ).fetchall()
        )
        return frozenset(row[0] for row in cast("Iterable[tuple[str]]", rows))
