"""Keeping single memories."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from sonia.errors import InvalidRequest
from sonia.memory import ledger, store
from sonia.memory.bounds import check_limit, check_metadata, check_moment, checked, checked_text
from sonia.memory.interface import Change, Entry, NewMemory, Query
from sonia.memory.parts import Parts
from sonia.types import MemoryId


class KeepsMemories:
    """One half of `SqliteMemory`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def store(self, new: NewMemory) -> Entry:
        """Durable and findable by text when it returns; its vector follows within moments."""
        new = checked(new)
        check_metadata(new.metadata)
        check_moment(new.valid_from, "valid_from")
        note = self._parts.note("memory.stored", user_id=new.user_id, session_id=new.session_id)
        at = note.at

        def work(c: Any) -> Entry:
            entry = store.insert(c, new, at)
            ledger.append(c, _about(note, entry))
            return entry

        entry = await self._parts.db.write(work)
        self._parts.wake()
        return entry

    async def recall(self, memory_id: MemoryId) -> Entry:
        """Raises `EntryNotFound`."""
        return await self._parts.db.read(
            partial(store.entry, memory_id=checked_text(memory_id, "id"))
        )

    async def change(self, memory_id: MemoryId, change: Change) -> Entry:
        """Write a new version. Raises `EntryNotFound`."""
        change = checked(change)
        if change == Change():
            raise InvalidRequest("Give at least one of content, metadata and importance.")
        check_metadata(change.metadata or {})
        note = self._parts.note("memory.changed")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> Entry:
            entry = store.change(c, known_id, change, note.at)
            ledger.append(c, _about(note, entry))
            return entry

        entry = await self._parts.db.write(work)
        self._parts.wake()
        return entry

    async def versions(self, memory_id: MemoryId) -> tuple[Entry, ...]:
        """Every version, oldest first. Raises `EntryNotFound`."""
        return await self._parts.db.read(
            partial(store.versions, memory_id=checked_text(memory_id, "id"))
        )

    async def forget(self, memory_id: MemoryId) -> None:
        """Erase it, and the turn it was taken from in the ledger. Raises `EntryNotFound`.

        It can't be found once this returns; its words leave the text index's files within
        moments, when those have been rewritten without it.
        """
        note = self._parts.note("memory.forgotten")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> None:
            entry, turn_id = store.erase(c, known_id)
            if turn_id is not None:
                ledger.erase_turn(c, turn_id)
            ledger.append(c, _about(note, entry))

        await self._parts.db.write(work)
        self._parts.wake()

    async def by_type(self, kind: str, *, limit: int = 100) -> tuple[Entry, ...]:
        """Newest first."""
        check_limit(limit)
        query = checked(Query(query="", types=(kind,), limit=limit))

        def work(c: Any) -> tuple[Entry, ...]:
            numbers = store.newest(c, query)
            found = store.entries(c, numbers)
            return tuple(found[number] for number in numbers)

        return await self._parts.db.read(work)


def _about(note: ledger.Row, entry: Entry) -> ledger.Row:
    """What the ledger says of a memory: never its content."""
    return msgspec.structs.replace(
        note,
        data={"id": entry.id, "type": entry.type, "version": entry.version},
        user_id=entry.user_id,
        session_id=entry.session_id,
    )
