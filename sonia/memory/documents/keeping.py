"""Taking documents in."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from sonia.config import Documents as Settings
from sonia.errors import InvalidRequest, SoniaError
from sonia.memory import ledger, store
from sonia.memory.bounds import check_limit, checked, checked_text
from sonia.memory.columns import micros
from sonia.memory.documents import shelf
from sonia.memory.documents.incoming import IncomingFile, incoming
from sonia.memory.documents.interface import (
    Document,
    Incoming,
    Ingested,
    NewDocument,
)
from sonia.memory.documents.sweeping import BATCH
from sonia.memory.interface import Entry
from sonia.memory.parts import Parts
from sonia.parsing import Chunk, Limits, Parsed, Wish
from sonia.parsing.process import chunks_in, parse
from sonia.types import new_id

READERS = 2  # files that are read at once; each has a process of its own
MEBIBYTE = 1_048_576
TEXT_PER_BYTE = 8  # how much larger than the largest file what is read of one may be


class KeepsDocuments:
    """The documents' part of `SqliteMemory`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reading = asyncio.Semaphore(READERS)
        self._alike: weakref.WeakValueDictionary[tuple[str, bytes], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    def incoming(self) -> AbstractAsyncContextManager[IncomingFile]:
        """Enter to write a file that is to be ingested."""
        return incoming(self._parts.incoming, self._parts.config.documents.max_bytes)

    async def ingest(self, incoming: Incoming, new: NewDocument) -> Ingested:
        """Read the file, whole or not at all. See `Documents.ingest`."""
        if not isinstance(incoming, IncomingFile):
            raise TypeError("ingest takes what incoming() gave")
        new = checked(new)
        sha256 = await incoming.whole()
        async with self._one_of(new.user_id, sha256):
            known = await self._parts.db.read(
                partial(shelf.with_content, user_id=new.user_id, sha256=sha256)
            )
            if known is not None:
                return Ingested(document=known, created=False)
            document_id = new_id("doc")
            self._parts.documents.active.add(document_id)
            try:
                supersedes = await self._take_in(document_id, incoming, new, sha256)
            except SoniaError:
                with suppress(SoniaError):
                    condemned = partial(shelf.condemn, document_id=document_id)
                    await self._parts.db.write(condemned, frees=True)
                raise
            finally:
                self._parts.documents.active.discard(document_id)
                self._parts.documents.wake()
        return Ingested(document=await self.document(document_id), supersedes=supersedes)

    @asynccontextmanager
    async def _one_of(self, user_id: str, sha256: bytes) -> AsyncIterator[None]:
        """Two who bring the same at once: the second finds what the first made."""
        lock = self._alike.setdefault((user_id, sha256), asyncio.Lock())
        async with lock:
            yield

    async def _take_in(
        self, document_id: str, file: IncomingFile, new: NewDocument, sha256: bytes
    ) -> str | None:
        at = self._parts.clock()
        await self._parts.db.write(
            partial(
                shelf.begin, document_id=document_id, new=new, sha256=sha256, size=file.size, at=at
            )
        )
        chunks = file.folder / "chunks"
        async with self._reading:
            found = await parse(file.path, chunks, _wish(new, self._parts.config.documents))
        title = _title(new, found)
        await self._parts.db.write(
            partial(shelf.parsed, document_id=document_id, title=title, found=found)
        )
        await self._write(document_id, new, title, chunks)
        return await self._finish(document_id, new)

    async def _write(self, document_id: str, new: NewDocument, title: str, chunks: Path) -> None:
        waiting, first = chunks_in(chunks), 0
        at = micros(self._parts.clock())
        make = partial(shelf.entry_rows, document_id, new, title, at=at)
        while batch := await asyncio.to_thread(_next, waiting):
            made = await asyncio.to_thread(make, batch, first)
            await self._parts.db.write(partial(shelf.add, document_id=document_id, made=made))
            self._parts.wake()
            first += len(batch)

    async def _finish(self, document_id: str, new: NewDocument) -> str | None:
        note = self._parts.note(
            "memory.document.stored", user_id=new.user_id, session_id=new.session_id
        )

        def work(c: Any) -> str | None:
            older = shelf.finish(c, document_id, note.at)
            data = {"id": document_id, "supersedes": older}
            ledger.append(c, msgspec.structs.replace(note, data=data))
            return older

        return await self._parts.db.write(work)

    # --- what there is -------------------------------------------------------------------

    async def document(self, document_id: str) -> Document:
        """Raises `DocumentNotFound`."""
        known = checked_text(document_id, "id")
        return await self._parts.db.read(partial(shelf.document, document_id=known))

    async def documents(
        self,
        *,
        user_id: str | None = None,
        source: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> tuple[Document, ...]:
        """Newest first, from the one before `before` (an id). Raises `DocumentNotFound`."""
        check_limit(limit)
        return await self._parts.db.read(
            partial(
                shelf.listed,
                user_id=None if user_id is None else checked_text(user_id, "user_id"),
                source=None if source is None else checked_text(source, "source"),
                before=None if before is None else checked_text(before, "before"),
                limit=limit,
            )
        )

    async def chunks(
        self, document_id: str, *, offset: int = 0, limit: int = 100
    ) -> tuple[Entry, ...]:
        """In their order, from the one with the number `offset`. Raises `DocumentNotFound`."""
        check_limit(limit)
        if not 0 <= offset <= 2**53:
            raise InvalidRequest("offset must be 0 or more.", pointer="/offset")
        known = checked_text(document_id, "id")

        def work(c: Any) -> tuple[Entry, ...]:
            numbers = shelf.chunk_numbers(c, known, offset, limit)
            found = store.entries(c, numbers)
            return tuple(found[number] for number in numbers if number in found)

        return await self._parts.db.read(work)


def _next(waiting: Iterator[Chunk]) -> list[Chunk]:
    return list(islice(waiting, BATCH))


def _wish(new: NewDocument, settings: Settings) -> Wish:
    return Wish(
        name=new.name or (new.source or ""),
        media_type=new.media_type,
        chunk_chars=settings.chunk_chars,
        overlap_chars=settings.overlap_chars,
        limits=Limits(
            memory_bytes=settings.max_memory_mb * MEBIBYTE,
            seconds=settings.max_read_s,
            output_bytes=settings.max_bytes * TEXT_PER_BYTE,
        ),
    )


def _title(new: NewDocument, found: Parsed) -> str:
    stem = PurePosixPath((new.name or new.source or "").rstrip("/")).name
    return new.title or found.title or stem or "Untitled"
