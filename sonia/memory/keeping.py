"""Keeping single memories."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.errors import InvalidRequest
from sonia.memory import chunks, ledger, merging, naming, store
from sonia.memory.bounds import (
    check_limit,
    check_metadata,
    check_moment,
    check_period,
    checked,
    checked_many,
    checked_text,
)
from sonia.memory.columns import micros
from sonia.memory.interface import About, Change, Entry, NewMemory, Query
from sonia.memory.mirror import Held
from sonia.memory.parts import Parts
from sonia.memory.vectors import checked_vectors, place_for
from sonia.phrases import words
from sonia.types import MemoryId


class KeepsMemories:
    """One half of `SqliteMemory`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def store(self, new: NewMemory) -> Entry:
        """Durable and findable by text when it returns; its vector follows within moments."""
        new = checked(new)
        check_metadata(new.metadata)
        check_period(new.valid_from, new.valid_to)
        note = self._parts.note("memory.stored", user_id=new.user_id, session_id=new.session_id)
        at = note.at

        def work(c: Any) -> Entry:
            entry = store.insert(c, new, at)
            merging.note(c, store.number_of(c, entry.id), entry)
            ledger.append(c, _about(note, entry))
            return entry

        entry = await self._parts.db.write(work)
        self._parts.wake()
        return entry

    async def store_many(
        self, new: Sequence[NewMemory], vectors: NDArray[np.float32] | None = None
    ) -> tuple[Entry, ...]:
        """See `Memory.store_many`."""
        many, made = await asyncio.to_thread(_checked_many, new, vectors)
        note = self._parts.note("memory.stored")
        space = self._parts.embedder.space

        def work(c: Any) -> tuple[list[Held], list[Entry]]:
            place = None if made is None else place_for(c, space, made)
            first, entries = store.insert_many(c, many, note.at, place)
            held = [held_of(number, entry) for number, entry in enumerate(entries, first)]
            if made is not None and place is not None:
                chunks.append(c, place.table, [row.number for row in held], made)
            for row in _about_many(note, entries):
                ledger.append(c, row)
            return held, entries

        held, entries = await self._parts.db.write(work)
        if made is not None:
            await asyncio.to_thread(self._parts.mirror.take, space, list(enumerate(held)), made)
        self._parts.wake()
        return tuple(entries)

    async def recall(self, memory_id: MemoryId) -> Entry:
        """Raises `EntryNotFound`."""
        return await self._parts.db.read(
            partial(store.entry, memory_id=checked_text(memory_id, "id"))
        )

    async def change(self, memory_id: MemoryId, change: Change) -> Entry:
        """Write a new version. Raises `EntryNotFound`."""
        change = checked(change)
        if change == Change():
            raise InvalidRequest(
                "Give at least one of content, metadata, importance, valid_from and valid_to."
            )
        check_metadata(change.metadata or {})
        check_period(change.valid_from, change.valid_to)
        note = self._parts.note("memory.changed")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> Entry:
            entry = store.change(c, known_id, change, note.at)
            merging.note(c, store.number_of(c, known_id), entry)
            ledger.append(c, _about(note, entry))
            return entry

        entry = await self._parts.db.write(work)
        self._parts.wake()
        return entry

    async def supersede(
        self, memory_id: MemoryId, new: NewMemory, *, ends_at: dt.datetime | None = None
    ) -> Entry:
        """Store `new` in the place of a memory that it contradicts. See `Memory.supersede`."""
        new = checked(new)
        check_metadata(new.metadata)
        check_period(new.valid_from, new.valid_to)
        check_moment(ends_at, "ends_at")
        note = self._parts.note("memory.superseded")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> Entry:
            entry = store.supersede(c, known_id, new, note.at, ends_at)
            merging.note(c, store.number_of(c, entry.id), entry)
            ledger.append(c, _about(note, store.entry(c, known_id)))
            return entry

        entry = await self._parts.db.write(work)
        self._parts.wake()
        return entry

    async def pin(self, memory_id: MemoryId, *, pinned: bool = True) -> Entry:
        """Have it rank as if of today, or no longer. Raises `EntryNotFound`."""
        note = self._parts.note("memory.pinned" if pinned else "memory.unpinned")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> Entry:
            entry = store.set_aside(c, known_id, pinned=pinned)
            ledger.append(c, _about(note, entry))
            return entry

        return await self._parts.db.write(work)

    async def archive(self, memory_id: MemoryId, *, archived: bool = True) -> Entry:
        """Leave it out of searches, or no longer. Raises `EntryNotFound`."""
        note = self._parts.note("memory.archived" if archived else "memory.unarchived")
        known_id = checked_text(memory_id, "id")

        def work(c: Any) -> Entry:
            entry = store.set_aside(c, known_id, archived_at=note.at if archived else None)
            ledger.append(c, _about(note, entry))
            return entry

        return await self._parts.db.write(work)

    async def versions(self, memory_id: MemoryId) -> tuple[Entry, ...]:
        """Every version, oldest first. Raises `EntryNotFound`."""
        return await self._parts.db.read(
            partial(store.versions, memory_id=checked_text(memory_id, "id"))
        )

    async def by_type(
        self,
        kind: str,
        *,
        limit: int = 100,
        user_id: str | None = None,
        before: MemoryId | None = None,
    ) -> tuple[Entry, ...]:
        """Newest first, older than `before`. Raises `EntryNotFound`."""
        check_limit(limit)
        query = checked(Query(query="", types=(kind,), limit=limit, user_id=user_id))
        at = self._parts.clock()
        known_id = None if before is None else checked_text(before, "before")

        def work(c: Any) -> tuple[Entry, ...]:
            below = None if known_id is None else store.number_of(c, known_id)
            numbers = store.newest(c, query, at, below)
            found = store.entries(c, numbers)
            return tuple(found[number] for number in numbers if number in found)

        return await self._parts.db.read(work)

    async def about(
        self,
        name: str,
        *,
        user_id: str | None = None,
        limit: int = 50,
        before: MemoryId | None = None,
    ) -> About:
        """See `Memory.about`."""
        check_limit(limit)
        if not words(checked_text(name, "name")):
            raise InvalidRequest("A name has at least one word.", pointer="/name")
        whose = None if user_id is None else checked_text(user_id, "user_id")
        known_id = None if before is None else checked_text(before, "before")

        def work(c: Any) -> About:
            below = None if known_id is None else store.number_of(c, known_id)
            return naming.about(c, name, whose, limit, below)

        return await self._parts.db.read(work)


def _about(note: ledger.Row, entry: Entry) -> ledger.Row:
    """What the ledger says of a memory: never its content."""
    return msgspec.structs.replace(
        note,
        data={"id": entry.id, "type": entry.type, "version": entry.version},
        user_id=entry.user_id,
        session_id=entry.session_id,
    )


def _checked_many(
    new: Sequence[NewMemory], vectors: NDArray[np.float32] | None
) -> tuple[list[NewMemory], NDArray[np.float32] | None]:
    many = checked_many(new, NewMemory)
    for one in many:
        check_metadata(one.metadata)
        check_period(one.valid_from, one.valid_to)
    return many, None if vectors is None else checked_vectors(vectors, len(many))


def held_of(number: int, entry: Entry) -> Held:
    """What the mirror keeps of it."""
    return Held(
        number,
        entry.version,
        entry.type,
        entry.user_id,
        entry.session_id,
        micros(entry.valid_from),
    )


def _about_many(note: ledger.Row, entries: Sequence[Entry]) -> list[ledger.Row]:
    """One row of the ledger for each person's."""
    ids: dict[str, list[str]] = {}
    for entry in entries:
        ids.setdefault(entry.user_id, []).append(entry.id)
    return [
        msgspec.structs.replace(note, data={"ids": own}, user_id=user_id)
        for user_id, own in ids.items()
    ]
