"""Keeping what was said: the ledger, sessions, turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from sonia.envelope import correlation_id
from sonia.events import TurnFinished, Written
from sonia.memory import ledger, merging, reading, snapshots, store
from sonia.memory.bounds import (
    check_after,
    check_event,
    check_limit,
    check_metadata,
    check_moment,
    checked,
    checked_text,
)
from sonia.memory.forgetting import Forgets
from sonia.memory.interface import (
    Event,
    Forget,
    Name,
    NewEvent,
    NewMemory,
    Restored,
    Session,
    SessionNotFound,
    Snapshot,
    Utterance,
)
from sonia.memory.parts import Parts
from sonia.memory.sentences import to_forget
from sonia.memory.writing import may_hold_more, worth_keeping
from sonia.types import MemoryId, Value

MOST_FORGOTTEN = 8


class _NewSession(Value):
    session_id: Name | None
    user_id: Name
    metadata: dict[str, Any]


class KeepsConversations(Forgets):
    """The other half of `SqliteMemory`."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._reader: reading.Reader | None = None

    # --- the ledger ----------------------------------------------------------------------

    async def append(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        user_id: str = "owner",
        session_id: str | None = None,
    ) -> Event:
        """Add to the ledger, under the current correlation id."""
        new = checked(NewEvent(kind=kind, data=data, user_id=user_id, session_id=session_id))
        check_event(new.kind, new.data)
        note = self._parts.note(new.kind, user_id=new.user_id, session_id=new.session_id)
        return await self._parts.db.write(
            partial(ledger.append, row=msgspec.structs.replace(note, data=new.data))
        )

    async def events(
        self,
        *,
        session_id: str | None = None,
        kind: str | None = None,
        user_id: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> tuple[Event, ...]:
        """Rows with a number above `after`, oldest first."""
        check_limit(limit)
        check_after(after)
        return await self._parts.db.read(
            partial(
                ledger.events,
                session_id=None if session_id is None else checked_text(session_id, "session_id"),
                kind=None if kind is None else checked_text(kind, "kind"),
                user_id=None if user_id is None else checked_text(user_id, "user_id"),
                after=after,
                limit=limit,
            )
        )

    # --- sessions and turns --------------------------------------------------------------

    async def open_session(
        self,
        session_id: str | None = None,
        *,
        user_id: str = "owner",
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Return the session with this id, made if it is not there; without an id, a new one."""
        self._spoken()
        new = checked(_NewSession(session_id=session_id, user_id=user_id, metadata=metadata or {}))
        check_metadata(new.metadata)
        session = await self._parts.db.write(
            partial(
                ledger.open_session,
                session_id=new.session_id,
                user_id=new.user_id,
                metadata=new.metadata,
                at=self._parts.clock(),
            )
        )
        if session.user_id != new.user_id:
            raise SessionNotFound("No session of this person has this id.", id=session.id)
        return session

    async def session(self, session_id: str) -> Session:
        """Raises `SessionNotFound`."""
        known_id = checked_text(session_id, "session_id")
        return await self._parts.db.read(partial(ledger.session, session_id=known_id))

    async def sessions(self, limit: int = 50, *, user_id: str | None = None) -> tuple[Session, ...]:
        """Most recently active first."""
        check_limit(limit)
        whose = None if user_id is None else checked_text(user_id, "user_id")
        return await self._parts.db.read(partial(ledger.sessions, limit=limit, user_id=whose))

    async def history(
        self,
        session_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[Utterance, ...]:
        """See `Memory.history`."""
        check_limit(limit)
        check_after(after or 0)
        check_after(before or 0)
        work = partial(
            ledger.history,
            session_id=checked_text(session_id, "session_id"),
            limit=limit,
            before=before,
            after=after,
        )
        return await self._parts.db.read(work)

    # --- snapshots -----------------------------------------------------------------------

    async def snapshot(self, session_id: str, *, name: str = "") -> Snapshot:
        """Copy a session as it is. Raises `SessionNotFound`."""
        work = partial(
            snapshots.create,
            session_id=checked_text(session_id, "session_id"),
            name=checked_text(name, "name"),
            at=self._parts.clock(),
        )
        return await self._parts.db.write(work)

    async def snapshots(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> tuple[Snapshot, ...]:
        """Newest first, those numbered below `before`."""
        check_limit(limit)
        work = partial(
            snapshots.newest,
            session_id=None if session_id is None else checked_text(session_id, "session_id"),
            user_id=None if user_id is None else checked_text(user_id, "user_id"),
            before=before,
            limit=limit,
        )
        return await self._parts.db.read(work)

    async def restore(
        self, snapshot_id: str, *, session_id: str | None = None, user_id: str | None = None
    ) -> Restored:
        """See `Memory.restore`."""
        work = partial(
            snapshots.restore,
            snapshot_id=checked_text(snapshot_id, "id"),
            session_id=None if session_id is None else checked_text(session_id, "session_id"),
            user_id=user_id,
            note=self._parts.note("session.restored"),
        )
        restored = await self._parts.db.write(work)
        self._parts.wake()
        return restored

    async def remember_turn(self, turn: TurnFinished) -> Written:
        """Write a finished turn: the ledger, the session, what is worth a memory, at once.

        What says nothing new is not kept twice, and what is contradicted ends.

        Memories are made of the person's own words only, so they are the person's, whatever else
        went into the turn; what came from outside is in the answer, and no answer is remembered.
        """
        turn = checked(turn)
        check_moment(turn.at, "at")
        kept = await asyncio.to_thread(worth_keeping, turn.text, turn.at)
        news = [
            NewMemory(
                type=item.type,
                content=item.content,
                metadata={"turn_id": turn.turn_id},
                user_id=turn.user_id,
                session_id=turn.session_id,
                valid_from=item.valid_from,
                importance=item.importance,
            )
            for item in kept
        ]
        work = partial(
            _write_turn,
            turn=turn,
            news=news,
            cause=correlation_id(),
            queued=self._reader is not None and may_hold_more(turn.text),
        )
        written = await self._parts.db.write(work)
        self._parts.wake()
        self._spoken()
        await self._forget_as_asked(turn)
        return written

    async def _forget_as_asked(self, turn: TurnFinished) -> None:
        """Erase what the person asks, in words, to have forgotten: what says just that.

        The turn that asks says so too: it goes with a memory of it, as any turn does.
        """
        for statement in to_forget(turn.text)[:MOST_FORGOTTEN]:
            find = partial(merging.saying, statement=statement, user_id=turn.user_id)
            if found := await self._parts.db.read(find):
                asked = await self._parts.db.write(partial(_asked, turn=turn, statement=statement))
                await self.erase(Forget(memory_ids=(*found, asked), user_id=turn.user_id))

    def _spoken(self) -> None:
        """Somebody speaks: what is done behind waits."""
        if self._reader is not None:
            self._reader.spoken()


def _asked(c: Any, turn: TurnFinished, statement: str) -> MemoryId:
    new = NewMemory(
        type="task", content=statement, user_id=turn.user_id, session_id=turn.session_id
    )
    return store.insert(c, new, turn.at, turn.turn_id).id


def _write_turn(
    c: Any, turn: TurnFinished, news: Sequence[NewMemory], cause: str, queued: bool
) -> Written:
    if queued:
        reading.queue(c, turn.turn_id, turn.at)
    kept = [merging.take_up(c, new, turn.at, turn.turn_id) for new in news]
    taken = [item for item in kept if item is not None]
    rows = ledger.record_turn(c, turn, [item.entry.id for item in taken], cause)
    replaced = [entry for item in taken for entry in item.replaced]
    merging.note_superseded(c, replaced, turn.at, cause)
    return Written(events=rows + len(replaced), memories=len(taken))
