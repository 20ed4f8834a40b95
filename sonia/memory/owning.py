"""What a request may have of memory by its id: another person's is as if it were not there."""

from __future__ import annotations

from sonia.memory.documents.interface import Document, DocumentNotFound, Documents
from sonia.memory.interface import Entry, EntryNotFound, Memory, Session, SessionNotFound
from sonia.types import MemoryId
from sonia.whose import bound, check_theirs


async def their_entry(memory: Memory, memory_id: str) -> Entry:
    """Raises `EntryNotFound`."""
    entry = await memory.recall(MemoryId(memory_id))
    check_theirs(entry.user_id, EntryNotFound("No memory has this id.", id=memory_id))
    return entry


async def their_memory(memory: Memory, memory_id: str) -> MemoryId:
    """The id, once it is known to be theirs; asks only where a key binds the request."""
    if bound():
        await their_entry(memory, memory_id)
    return MemoryId(memory_id)


async def their_session(memory: Memory, session_id: str) -> Session:
    """Raises `SessionNotFound`."""
    session = await memory.session(session_id)
    check_theirs(session.user_id, SessionNotFound("No session has this id.", id=session_id))
    return session


async def nobody_elses(memory: Memory, session_id: str | None) -> None:
    """Raise `SessionNotFound` for another person's; one that is not there yet may be named."""
    if session_id is None or not bound():
        return
    try:
        session = await memory.session(session_id)
    except SessionNotFound:
        return
    check_theirs(session.user_id, SessionNotFound("No session has this id.", id=session_id))


async def their_document(documents: Documents, document_id: str) -> Document:
    """Raises `DocumentNotFound`."""
    document = await documents.document(document_id)
    check_theirs(document.user_id, DocumentNotFound("No document has this id.", id=document_id))
    return document
