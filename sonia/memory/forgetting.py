"""Forgetting: noted first, then out of every table at once, then out of the files.

A crash leaves it in one of three states, and each is gone on from at the next start: noted,
with nothing erased; erased, with words left in the files; done.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from sonia.errors import InvalidRequest, SoniaError, StorageFull, Unavailable
from sonia.events import Forgotten
from sonia.forgetting import (
    TOMBSTONES,
    Erasure,
    Scope,
    bury,
    erase,
    tombstone,
    tombstones,
    write_tombstones,
)
from sonia.log import get_logger
from sonia.memory import ledger, receipts, store
from sonia.memory.bounds import checked, checked_text
from sonia.memory.columns import micros
from sonia.memory.documents import shelf
from sonia.memory.following import Follower
from sonia.memory.interface import Forget, Receipt
from sonia.memory.parts import Clock, Parts
from sonia.memory.places import Events
from sonia.phrases import Phrases, words
from sonia.types import DEFAULT_USER, MemoryId

LOG_RETRY_S = 0.1
LOG_TRIES = 100
COPIES = ".before-*"  # of the database, made before a migration or a restore


class Sweeper(Follower):
    """Gets out of the files what is out of the tables already."""

    name = "forgetting"

    def __init__(self, parts: Parts, erase_rows: Callable[[str], Awaitable[None]]) -> None:
        super().__init__(parts.db)
        self._parts = parts
        self._erase_rows = erase_rows
        self._clock: Clock = parts.clock

    async def _step(self) -> bool:
        for receipt_id in await self._db.read(partial(receipts.open_ones, state="erasing")):
            await self._erase_rows(receipt_id)  # what a full disk kept from being erased
        waiting = await self._db.read(partial(receipts.open_ones, state="settling"))
        if not waiting:
            return False
        if await self._db.read(shelf.any_erasing):
            await self._parts.documents.settled()
        await self._parts.text.cleared()
        known = await self._db.read(tombstones)
        copies = await asyncio.to_thread(_leave_tombstones, self._db.path, write_tombstones(known))
        await self._db.compact()
        await self._empty_log()
        done = partial(receipts.settled, receipt_ids=waiting, copies=copies, at=self._clock())
        await self._db.write(done, frees=True)
        return True

    async def _empty_log(self) -> None:
        for _ in range(LOG_TRIES):
            if await self._db.empty_log():
                return
            await asyncio.sleep(LOG_RETRY_S)
        raise Unavailable("A long read holds on to the write-ahead log.")


def _leave_tombstones(database: Path, lines: bytes) -> int:
    """Write the tombstones beside the database; remove its old copies; return how many.

    Raises `StorageFull`.
    """
    fresh = database.with_name(f"{TOMBSTONES}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(database.with_name(TOMBSTONES))
    except OSError as error:
        raise StorageFull(f"{fresh} can't be written: {error.strerror}.") from error
    copies = [path for path in database.parent.glob(f"{database.name}{COPIES}") if path.is_file()]
    for path in copies:
        path.unlink(missing_ok=True)
    return len(copies)


class Forgets:
    """Another part of `SqliteMemory`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sweeper = Sweeper(parts, self._erase_rows)

    async def forget(self, memory_id: MemoryId, *, wait_s: float = 0.0) -> Receipt:
        """See `Memory.forget`."""
        known_id = MemoryId(checked_text(memory_id, "id"))
        await self._parts.db.read(partial(store.number_of, memory_id=known_id))
        return await self.erase(Forget(memory_ids=(known_id,)), wait_s=wait_s)

    async def erase(self, what: Forget, *, wait_s: float = 0.0) -> Receipt:
        """See `Memory.erase`."""
        what = checked(what)
        kind = kind_of(what)
        at = self._parts.clock()
        receipt_id = await self._parts.db.write(
            partial(receipts.begin, what=kind, asked=what, at=at), frees=True
        )
        await asyncio.shield(self._erase_rows(receipt_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._sweeper.settled()
        return await self.receipt(receipt_id)

    async def close_session(self, session_id: str) -> None:
        """Forget the session and what was said in it; memories stay. Raises `SessionNotFound`."""
        asked = Forget(session_id=checked_text(session_id, "session_id"))
        at = self._parts.clock()

        def work(c: Any) -> None:
            said = ledger.close_session(c, session_id)
            receipt_id = receipts.begin(c, "session", asked, at)
            rows = Events().named(c, said)
            counts = Events().erase(c, said, Scope(receipt=receipt_id, users=set()))
            hashes = frozenset(tombstone(Events.name, name) for name in rows.values())
            bury(c, dict.fromkeys(hashes, micros(at)))
            receipts.erased(c, receipt_id, Erasure(counts, hashes), at)

        await self._parts.db.write(work, frees=True)
        self._sweeper.wake()

    async def receipt(self, receipt_id: str) -> Receipt:
        """Raises `ReceiptNotFound`."""
        known_id = checked_text(receipt_id, "id")
        found = await self._parts.db.read(partial(receipts.find, receipt_id=known_id))
        if found.state != "erasing" and not found.erased:
            return found
        return msgspec.structs.replace(found, backups=await self._parts.held(found.done_at))

    async def resume(self) -> None:
        """Erase what an earlier process had noted and not erased; what fails is tried again."""
        try:
            for receipt_id in await self._parts.db.read(
                partial(receipts.open_ones, state="erasing")
            ):
                await self._erase_rows(receipt_id)
        except SoniaError as error:  # a full disk must not keep her from starting
            get_logger("memory-engine").error("not forgotten yet", reason=error.message)

    async def _erase_rows(self, receipt_id: str) -> None:
        note = self._parts.note("memory.forgotten")
        quoted = await self._parts.db.read(partial(quotes_of, receipt_id=receipt_id))

        def work(c: Any) -> tuple[str, ...]:
            what = receipts.asked(c, receipt_id)
            if what is None:
                return ()
            scope = scope_of(c, what, receipt_id)
            scope.at = micros(note.at)
            scope.phrases = quoted
            erasure = erase(c, scope, self._parts.places)
            receipts.erased(c, receipt_id, erasure, note.at)
            account = {"receipt": receipt_id, "erased": erasure.counts}
            if what.document_id is not None:
                account["id"] = what.document_id
            elif len(what.memory_ids) == 1:
                account["id"] = what.memory_ids[0]
            ledger.append(c, msgspec.structs.replace(note, data=account))
            return tuple(sorted(scope.users))

        users = await self._parts.db.write(work, frees=True)
        self._parts.wake()
        self._parts.documents.wake()
        self._sweeper.wake()
        await self._parts.bus.publish(Forgotten(receipt=receipt_id, user_ids=users))


def kind_of(what: Forget) -> str:
    """Raises `InvalidRequest` unless exactly one thing is meant."""
    meant = {
        "memories": bool(what.memory_ids),
        "document": what.document_id is not None,
        "session": what.session_id is not None,
        "entity": what.entity is not None,
    }
    if what.entity is not None and not words(what.entity):
        raise InvalidRequest("entity has no word in it.", pointer="/entity")
    kinds = [kind for kind, given in meant.items() if given]
    if len(kinds) > 1:
        raise InvalidRequest(
            "Give one of memory_ids, document_id, session_id and entity; not several."
        )
    if kinds:
        return kinds[0]
    if what.user_id is None:
        raise InvalidRequest(
            "Say what to forget: memory_ids, document_id, session_id, entity, or user_id alone for "
            "all of a person's."
        )
    return "person"


def quotes_of(c: Any, receipt_id: str) -> Phrases:
    """By what quotes of the document that is asked for are known; a long one takes a while."""
    what = receipts.asked(c, receipt_id)
    if what is None or what.document_id is None:
        return Phrases()
    return shelf.said_in(c, what.document_id)


def scope_of(c: Any, what: Forget, receipt_id: str) -> Scope:
    """What was asked, as places are told it."""
    scope = Scope(receipt=receipt_id, users=set())
    if what.user_id is not None:
        scope.users.add(what.user_id)
    if what.memory_ids:
        scope.memories.update(what.memory_ids)
        scope.users |= set() if scope.users else store.owners(c, what.memory_ids)
    elif what.document_id is not None:
        scope.documents.add(what.document_id)
        whose = shelf.owner(c, what.document_id)
        scope.users |= {whose} if whose is not None and not scope.users else set()
    elif what.session_id is not None:
        scope.sessions.add(what.session_id)
    elif what.entity is not None:
        scope.users = scope.users or {DEFAULT_USER}
        scope.entity.add(what.entity, literally=False)
    elif what.user_id is not None:
        scope.persons.add(what.user_id)
    return scope
