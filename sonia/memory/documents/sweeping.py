"""The task behind documents: erases what is to go, and ends what was superseded.

Some chunks at a time, so that other writes get their turn. What a crash or a cancelled request
left half-written goes the same way: it was never found.
"""

from __future__ import annotations

from collections.abc import Container
from functools import partial

from sonia.db import Database
from sonia.memory.documents import shelf
from sonia.memory.following import Follower

BATCH = 500


class DocumentSweeper(Follower):
    """`active` are the documents that are being read right now."""

    name = "documents"

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.active: set[str] = set()

    async def _step(self) -> bool:
        """Take a batch of one document; False when nothing is left to do."""
        found = await self._db.read(shelf.unfinished)
        chosen = next(
            ((name, state) for name, state in found if _due(name, state, self.active)), None
        )
        if chosen is None:
            return False
        document_id, state = chosen
        step = shelf.end_some if state == "superseded" else shelf.erase_some
        await self._db.write(partial(step, document_id=document_id, limit=BATCH), frees=True)
        return True


def _due(document_id: str, state: str, active: Container[str]) -> bool:
    return state in ("erasing", "superseded") or document_id not in active
