"""The documents' SQL: functions of a connection, for `Database.write` and `Database.read`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.errors import Conflict
from sonia.forgetting import bury, tombstone
from sonia.memory import rows, store
from sonia.memory.columns import digest, likeness, maybe_moment, micros, moment
from sonia.memory.documents.interface import (
    Document,
    DocumentNotFound,
    DocumentState,
    NewDocument,
)
from sonia.memory.interface import Entry, Source
from sonia.parsing import Chunk, Parsed
from sonia.phrases import Phrases
from sonia.types import MemoryId, Origin, new_id, now

TYPE = "document"
_COLUMNS = (
    "id, title, name, source, media_type, user_id, session_id, origin, state, bytes, sha256, "
    "chars, chunks, pages, encoding, recorded_at, superseded_by, superseded_at"
)
_ENTRY = (
    f"INSERT INTO memory_entries ({rows.ENTRY_COLUMNS}, likeness, digest) "  # noqa: S608
    f"VALUES ({rows.ENTRY_MARKS}, ?, ?)"
)


class Gone(Conflict):
    """It was forgotten while it was being read."""


def begin(
    c: apsw.Connection,
    document_id: str,
    new: NewDocument,
    sha256: bytes,
    size: int,
    at: dt.datetime,
) -> None:
    """Note that a file is being read. Nothing of it is found yet."""
    c.execute(
        "INSERT INTO memory_documents (id, state, hidden, sha256, bytes, title, name, source, "
        "media_type, user_id, session_id, origin, recorded_at) "
        "VALUES (?, 'reading', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            document_id,
            sha256,
            size,
            new.title or new.name,
            new.name,
            new.source,
            new.media_type or "",
            new.user_id,
            new.session_id,
            origin_of(new),
            micros(at),
        ),
    )


def origin_of(new: NewDocument) -> Origin:
    """Whose word it is: the owner's only when the owner says so."""
    if new.mine:
        return "owner"
    return "web" if is_url(new.source) else "file"


def is_url(source: str | None) -> bool:
    """Whether it is an address rather than a path."""
    return (source or "").startswith(("http://", "https://"))


def parsed(c: apsw.Connection, document_id: str, title: str, found: Parsed) -> None:
    """It was read; its chunks come. Raises `Gone`."""
    c.execute(
        "UPDATE memory_documents SET state = 'writing', title = ?, media_type = ?, chars = ?, "
        "pages = ?, encoding = ? WHERE id = ? AND state = 'reading'",
        (title, found.media_type, found.chars, found.pages, found.encoding, document_id),
    )
    _check_changed(c, document_id)


def entry_rows(
    document_id: str, new: NewDocument, title: str, chunks: Sequence[Chunk], first: int, at: int
) -> list[tuple[Any, ...]]:
    """Rows of memories for `add`, of chunks whose first has the number `first`."""
    url = is_url(new.source)
    source = Source(
        said_by="document",
        document_id=document_id,
        url=new.source if url else None,
        path=None if url else new.source or new.name or None,
    )
    made = []
    for number, chunk in enumerate(chunks, first):
        metadata: dict[str, Any] = {
            "title": title,
            "heading": list(chunk.heading),
            "start": chunk.start,
            "end": chunk.end,
            "chunk": number,
        }
        if chunk.page is not None:
            metadata["page"] = chunk.page
        entry = Entry(
            id=MemoryId(new_id("mem")),
            type=TYPE,
            content=chunk.content,
            metadata=metadata,
            user_id=new.user_id,
            session_id=new.session_id,
            importance=0.5,
            origin=origin_of(new),
            valid_from=moment(at),
            recorded_at=moment(at),
            source=source,
        )
        row = rows.of_entry(entry)
        made.append((*row, likeness(chunk.content), digest(row)))
    return made


def add(c: apsw.Connection, document_id: str, made: Sequence[tuple[Any, ...]]) -> None:
    """Add some chunks. Raises `Gone`."""
    c.execute(
        "UPDATE memory_documents SET chunks = chunks + ? WHERE id = ? AND state = 'writing'",
        (len(made), document_id),
    )
    _check_changed(c, document_id)
    c.executemany(_ENTRY, made)


def finish(c: apsw.Connection, document_id: str, at: dt.datetime) -> str | None:
    """Have it found from now on; return the older version whose place it takes.

    Raises `Gone`.
    """
    c.execute(
        "UPDATE memory_documents SET state = 'ready', hidden = 0 "
        "WHERE id = ? AND state = 'writing'",
        (document_id,),
    )
    _check_changed(c, document_id)
    user_id, source = c.execute(
        "SELECT user_id, source FROM memory_documents WHERE id = ?", (document_id,)
    ).fetchall()[0]
    older = c.execute(
        "UPDATE memory_documents SET state = 'superseded', hidden = 1, superseded_by = ?1, "
        "superseded_at = ?2 WHERE state = 'ready' AND id <> ?1 AND user_id = ?3 AND source = ?4 "
        "RETURNING id",
        (document_id, micros(at), user_id, source),
    ).fetchall()
    return cast(str, older[0][0]) if older else None


def _check_changed(c: apsw.Connection, document_id: str) -> None:
    if c.changes() != 1:
        raise Gone("The document was forgotten while it was being read.", id=document_id)


# --- going -------------------------------------------------------------------------------


def condemn(c: apsw.Connection, document_id: str) -> int:
    """Have none of it found any more; return how many chunks are to be erased."""
    c.execute(
        "UPDATE memory_documents SET state = 'erasing', hidden = 1 WHERE id = ?", (document_id,)
    )
    found = c.execute("SELECT count(*) FROM memory_entries WHERE document = ?", (document_id,))
    return cast(int, found.fetchall()[0][0])


def owner(c: apsw.Connection, document_id: str) -> str | None:
    """Whose it is, if there is such a document."""
    row = c.execute("SELECT user_id FROM memory_documents WHERE id = ?", (document_id,)).fetchone()
    return None if row is None else cast(str, row[0])


def said_in(c: apsw.Connection, document_id: str) -> Phrases:
    """Its words, to know quotes of it by."""
    found = Phrases()
    for (content,) in c.execute(
        "SELECT content FROM memory_entries WHERE document = ?", (document_id,)
    ):
        found.add_quotes(cast(str, content))
    return found


def unfinished(c: apsw.Connection) -> list[tuple[str, str]]:
    """Id and state of documents whose chunks come or go, oldest first."""
    found = c.execute("SELECT id, state FROM memory_documents WHERE hidden ORDER BY number")
    return cast("list[tuple[str, str]]", found.fetchall())


def any_erasing(c: apsw.Connection) -> bool:
    """Whether chunks of a forgotten document are still to be erased."""
    return any(state == "erasing" for _, state in unfinished(c))


def erase_some(c: apsw.Connection, document_id: str, limit: int) -> bool:
    """Erase up to `limit` of its chunks, and the document after the last; whether more is left."""
    found = c.execute(
        "SELECT number, id FROM memory_entries WHERE document = ? ORDER BY number LIMIT ?",
        (document_id, limit),
    ).fetchall()
    for number, _ in found:
        store.erase(c, cast(int, number))
    at = micros(now())
    bury(c, {tombstone("memories", cast(str, name)): at for _, name in found})
    if len(found) == limit:
        return True
    bury(c, {tombstone("documents", document_id): at})
    c.execute("DELETE FROM memory_documents WHERE id = ?", (document_id,))
    return False


def end_some(c: apsw.Connection, document_id: str, limit: int) -> bool:
    """Write into up to `limit` chunks of a superseded document when they were over."""
    (ended,) = c.execute(
        "SELECT superseded_at FROM memory_documents WHERE id = ?", (document_id,)
    ).fetchone() or (None,)
    if ended is None:
        return False
    numbers = _numbers(c, "document = ? AND valid_to IS NULL", (document_id, limit))
    for number in numbers:
        row = c.execute(
            f"SELECT digest, {rows.ENTRY_COLUMNS} FROM memory_entries WHERE number = ?",  # noqa: S608
            (number,),
        ).fetchall()[0]
        entry = rows.entry_of(row[1:], cast("bytes | None", row[0]))
        seal = cast("bytes | None", row[0])  # of a damaged row: it stays one
        if entry is not None:
            over = max(entry.valid_from, moment(cast(int, ended)))
            seal = digest(rows.of_entry(msgspec.structs.replace(entry, valid_to=over)))
        c.execute(
            "UPDATE memory_entries SET valid_to = max(valid_from, ?), digest = ? WHERE number = ?",
            (ended, seal, number),
        )
    if len(numbers) == limit:
        return True
    c.execute("UPDATE memory_documents SET hidden = 0 WHERE id = ?", (document_id,))
    return False


def _numbers(c: apsw.Connection, which: str, bound: tuple[str, int]) -> list[int]:
    found = c.execute(
        f"SELECT number FROM memory_entries WHERE {which} ORDER BY number LIMIT ?",  # noqa: S608
        bound,
    )
    return [cast(int, row[0]) for row in found]


# --- finding -----------------------------------------------------------------------------


def with_content(c: apsw.Connection, user_id: str, sha256: bytes) -> Document | None:
    """The person's document of exactly these bytes, if there is one that counts."""
    found = c.execute(
        f"SELECT {_COLUMNS} FROM memory_documents "  # noqa: S608
        "WHERE user_id = ? AND sha256 = ? AND state = 'ready' LIMIT 1",
        (user_id, sha256),
    ).fetchall()
    return _documents(c, found)[0] if found else None


def document(c: apsw.Connection, document_id: str) -> Document:
    """Raises `DocumentNotFound`."""
    found = c.execute(
        f"SELECT {_COLUMNS} FROM memory_documents WHERE id = ? AND state <> 'erasing'",  # noqa: S608
        (document_id,),
    ).fetchall()
    if not found:
        raise _not_found(document_id)
    return _documents(c, found)[0]


def listed(
    c: apsw.Connection, user_id: str | None, source: str | None, before: str | None, limit: int
) -> tuple[Document, ...]:
    """Newest first. Raises `DocumentNotFound` for an unknown `before`."""
    number = None
    if before is not None:
        row = c.execute("SELECT number FROM memory_documents WHERE id = ?", (before,)).fetchone()
        if row is None:
            raise _not_found(before)
        number = row[0]
    found = c.execute(
        f"SELECT {_COLUMNS} FROM memory_documents WHERE state <> 'erasing' "  # noqa: S608
        "AND (?1 IS NULL OR user_id = ?1) AND (?2 IS NULL OR source = ?2) "
        "AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4",
        (user_id, source, number, limit),
    )
    return tuple(_documents(c, found.fetchall()))


def chunk_numbers(c: apsw.Connection, document_id: str, offset: int, limit: int) -> list[int]:
    """Numbers of its memories, in the order of the text. Raises `DocumentNotFound`."""
    document(c, document_id)
    found = c.execute(
        "SELECT number FROM memory_entries WHERE document = ? ORDER BY number LIMIT ? OFFSET ?",
        (document_id, limit, offset),
    )
    return [cast(int, row[0]) for row in found]


def count(c: apsw.Connection) -> int:
    """Documents that can be found."""
    found = c.execute("SELECT count(*) FROM memory_documents WHERE state = 'ready'").fetchall()
    return cast(int, found[0][0])


def _documents(c: apsw.Connection, found: Sequence[Any]) -> list[Document]:
    unindexed, unembedded = _waiting(c, "text_version"), _waiting(c, "vector_version")
    return [_document(row, unindexed, unembedded) for row in found]


def _waiting(c: apsw.Connection, held: str) -> dict[str, int]:
    found = c.execute(
        f"SELECT document, count(*) FROM memory_entries WHERE {held} < version "  # noqa: S608
        "AND document IS NOT NULL GROUP BY document"
    )
    return {cast(str, name): cast(int, number) for name, number in found}


def _document(
    row: Sequence[Any], unindexed: dict[str, int], unembedded: dict[str, int]
) -> Document:
    name, chunks = row[0], row[12]
    state = cast(DocumentState, row[8])
    if state == "ready" and unembedded.get(name):
        state = "embedding"
    return Document(
        id=name,
        title=row[1],
        name=row[2],
        source=row[3],
        media_type=row[4],
        user_id=row[5],
        session_id=row[6],
        origin=cast(Origin, row[7]),
        state=state,
        bytes=row[9],
        sha256=row[10].hex(),
        chars=row[11],
        chunks=chunks,
        indexed=max(chunks - unindexed.get(name, 0), 0),
        embedded=max(chunks - unembedded.get(name, 0), 0),
        pages=row[13],
        encoding=row[14],
        recorded_at=moment(row[15]),
        superseded_by=row[16],
        superseded_at=maybe_moment(row[17]),
    )


def _not_found(document_id: str) -> DocumentNotFound:
    return DocumentNotFound("No document has this id.", id=document_id)
