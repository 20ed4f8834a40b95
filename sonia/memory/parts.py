"""What the halves of `SqliteMemory` share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from sonia.config import MemoryEngine
from sonia.db import Database
from sonia.envelope import correlation_id
from sonia.events import Bus
from sonia.forgetting import Place
from sonia.memory.access import AccessFollower
from sonia.memory.documents.sweeping import DocumentSweeper
from sonia.memory.embedding import VectorFollower
from sonia.memory.following import TextFollower
from sonia.memory.interface import Embedder
from sonia.memory.ledger import Row
from sonia.memory.mirroring import MirrorFollower
from sonia.types import HeldIn

Clock = Callable[[], dt.datetime]
# Which backups may hold what was out of every file at this moment, or isn't yet.
Held = Callable[[dt.datetime | None], Awaitable[tuple[HeldIn, ...]]]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The database, what follows it, who makes vectors, and the folder of files that arrive."""

    config: MemoryEngine
    db: Database
    embedder: Embedder
    text: TextFollower
    vectors: VectorFollower
    mirror: MirrorFollower
    documents: DocumentSweeper
    access: AccessFollower
    incoming: Path
    clock: Clock
    bus: Bus
    places: tuple[Place, ...]
    held: Held

    def wake(self) -> None:
        """Memories were written: have the indexes take them up."""
        self.text.wake()
        self.vectors.wake()

    def note(self, kind: str, *, user_id: str = "owner", session_id: str | None = None) -> Row:
        """A ledger row of now, under the current correlation id, without data yet."""
        return Row(
            kind=kind,
            at=self.clock(),
            data={},
            correlation_id=correlation_id(),
            user_id=user_id,
            session_id=session_id,
        )
