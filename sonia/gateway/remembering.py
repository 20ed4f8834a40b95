"""Memory as tools use it: of who asks, with where the words come from."""

from __future__ import annotations

from sonia.memory import EntryNotFound, Memory, NewMemory, Query, SessionNotFound, Source
from sonia.tools import Asked, Memo
from sonia.types import DEFAULT_USER, MemoryId, Origin
from sonia.whose import whose

# From the most trusted to the least, as memory has it.
TRUST: tuple[Origin, ...] = ("owner", "model", "speaker", "memory", "tool", "file", "web")


class MemoryOfWhoAsks:
    """Fits the tools' `Remembering`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def find(self, query: str, limit: int, asked: Asked) -> tuple[Memo, ...]:
        user = await self._user(asked)
        found = await self._memory.search(Query(query=query, limit=limit, user_id=user))
        return tuple(
            Memo(
                id=hit.entry.id,
                content=hit.entry.content,
                origin=hit.entry.origin,
                valid_from=hit.entry.valid_from,
            )
            for hit in found.hits
        )

    async def keep(self, content: str, asked: Asked) -> Memo:
        entry = await self._memory.store(
            NewMemory(
                type="fact",
                content=content,
                user_id=await self._user(asked),
                session_id=asked.session_id,
                origin=max(asked.origins, key=TRUST.index, default=TRUST[-1]),
                source=Source(said_by="assistant"),
            )
        )
        return Memo(
            id=entry.id, content=entry.content, origin=entry.origin, valid_from=entry.valid_from
        )

    async def look(self, memory_id: str, asked: Asked) -> Memo:
        entry = await self._memory.recall(MemoryId(memory_id))
        if entry.user_id != await self._user(asked):
            raise EntryNotFound("No memory has this id.", id=memory_id)
        return Memo(
            id=entry.id, content=entry.content, origin=entry.origin, valid_from=entry.valid_from
        )

    async def drop(self, memory_id: str, asked: Asked) -> None:
        await self.look(memory_id, asked)
        await self._memory.forget(MemoryId(memory_id))

    async def _user(self, asked: Asked) -> str:
        """A key's user, or the turn's; else the session's, and the owner where there is none."""
        if (user := whose(asked.user_id)) is not None:
            return user
        if asked.session_id is not None:
            try:
                return (await self._memory.session(asked.session_id)).user_id
            except SessionNotFound:
                pass
        return DEFAULT_USER
