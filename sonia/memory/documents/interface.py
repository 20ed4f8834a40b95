"""What is asked of a document, and what is told of one.

A document is there whole or not at all. Its chunks are memories of the type `document`; their
`metadata` holds `title`, `heading` (a path, outermost first), `start` and `end` (characters of
the extracted text), `chunk` (from 0) and, where there are pages, `page` (from 1).
"""

from __future__ import annotations

import datetime as dt
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec

from sonia.errors import NotFound
from sonia.memory.interface import Entry, Name
from sonia.types import Origin, Value

DocumentState = Literal["reading", "writing", "embedding", "ready", "superseded"]
DocumentName = Annotated[str, msgspec.Meta(max_length=1024)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
MediaType = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
DocumentSource = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class DocumentNotFound(NotFound):
    """No document has this id."""


class NewDocument(Value):
    """What its sender says of a file.

    `name` (a file name) and `media_type` help to tell its format. `source` is where it is from, a
    path or a URL: a newer version of the same source takes the older one's place. What is not
    `mine` is read as someone else's words.
    """

    name: DocumentName = ""
    media_type: MediaType | None = None
    title: Title | None = None
    source: DocumentSource | None = None
    user_id: Name = "owner"
    session_id: Name | None = None
    mine: bool = False


class Document(Value):
    """A document and how far it is.

    `chunks` counts those written so far; `indexed` and `embedded` of them are held by the text
    index and have their vector. `state` goes `reading`, `writing`, `embedding` (found by its
    words), `ready`; `superseded` when a newer version of its `source` took its place.
    """

    id: str
    title: str
    name: str
    source: str | None
    media_type: str
    user_id: str
    session_id: str | None
    origin: Origin
    state: DocumentState
    bytes: int
    sha256: str
    chars: int
    chunks: int
    indexed: int
    embedded: int
    pages: int | None
    encoding: str | None
    recorded_at: dt.datetime
    superseded_by: str | None = None
    superseded_at: dt.datetime | None = None


class Ingested(Value):
    """What became of a file. Not `created`: the same content was there already.

    `supersedes` is the id of the older version whose place it took.
    """

    document: Document
    created: bool = True
    supersedes: str | None = None


class Incoming(Protocol):
    """A file on its way in, on the disk. It is gone when its context is left."""

    async def write(self, data: bytes) -> None:
        """Add to it. Raises `PayloadTooLarge`, `StorageFull`."""
        ...


@runtime_checkable
class Documents(Protocol):
    """Reads files, and keeps what they say."""

    def incoming(self) -> AbstractAsyncContextManager[Incoming]:
        """Enter to write a file that is to be ingested."""
        ...

    async def ingest(self, incoming: Incoming, new: NewDocument) -> Ingested:
        """Read the file. It is durable and found by its words when this returns.

        Raises `NotReadable`, `ReadingFailed`, `StorageFull`. Failed or cancelled, nothing of it is
        kept. Its vectors follow in the background.
        """
        ...

    async def document(self, document_id: str) -> Document:
        """Raises `DocumentNotFound`."""
        ...

    async def documents(
        self,
        *,
        user_id: str | None = None,
        source: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> tuple[Document, ...]:
        """Newest first, from the one before `before` (an id). Raises `DocumentNotFound`."""
        ...

    async def chunks(
        self, document_id: str, *, offset: int = 0, limit: int = 100
    ) -> tuple[Entry, ...]:
        """In their order, from the one with the number `offset`. Raises `DocumentNotFound`."""
        ...
