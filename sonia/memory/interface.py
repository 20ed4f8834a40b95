"""What was said, and finding it again.

The ledger keeps everything that happened, in order, for ever. Memories are what is worth
finding. Both are durable once the call that wrote them returns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.errors import Conflict, Internal, NotFound, PolicyDenied
from sonia.types import HeldIn, Integrity, MemoryId, Origin, Role, Value

SearchMode = Literal["hybrid", "vector", "text"]
MemoryType = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
EventKind = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
MAX_CONTENT_CHARS = 100_000
Content = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CONTENT_CHARS)]


class EntryNotFound(NotFound):
    """No memory has this id."""


class SessionNotFound(NotFound):
    """No session has this id."""


class SnapshotNotFound(NotFound):
    """No snapshot has this id."""


class ReceiptNotFound(NotFound):
    """Nothing was forgotten under this id."""


class EntryDamaged(Internal):
    """The row is not what was written, so it is not served."""


class AlreadySuperseded(Conflict):
    """Something else has taken this memory's place; `superseded_by` names it."""


class NotTrusted(PolicyDenied):
    """What came from outside may not take the place of what is trusted more."""


class JobNotFound(NotFound):
    """No job has this name; `details["known"]` lists those there are."""


class Source(Value):
    """Who said it, and where. `made_from` are the memories that it was made from.

    `said_by` is whose words these are; trust is not here but in `origin`.
    """

    said_by: Literal["user", "assistant", "tool", "document"] = "user"
    turn_id: Name | None = None
    url: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    path: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    document_id: Name | None = None
    made_from: Annotated[tuple[MemoryId, ...], msgspec.Meta(max_length=256)] = ()


class NewMemory(Value):
    """What to remember. `importance` in [0, 1]; true from `valid_from` up to `valid_to`.

    Without `valid_from` it is true from now, without `valid_to` until something else is known.
    A memory made from others has the least trusted origin of theirs and its own.
    """

    type: MemoryType
    content: Content
    metadata: dict[str, Any] = {}
    user_id: Name = "owner"
    session_id: Name | None = None
    valid_from: dt.datetime | None = None
    importance: Unit = 0.5
    origin: Origin = "owner"
    valid_to: dt.datetime | None = None
    source: Source = Source()
    pinned: bool = False


class Entry(Value):
    """One memory. `version` counts from 1 and goes up with every change.

    It holds in `[valid_from, valid_to)`. `recorded_at` is when this version was written, and it
    was believed until the next one was; `superseded_by` names the memory that took its place.
    What is `pinned` does not fade; what is archived is found only when asked for.
    """

    id: MemoryId
    type: str
    content: str
    metadata: dict[str, Any]
    user_id: str
    session_id: str | None
    importance: float
    origin: Origin
    valid_from: dt.datetime
    recorded_at: dt.datetime
    version: int = 1
    valid_to: dt.datetime | None = None
    superseded_by: MemoryId | None = None
    archived_at: dt.datetime | None = None
    pinned: bool = False
    source: Source = Source()


class Change(Value):
    """What to change of a memory; absent fields stay."""

    content: Content | None = None
    metadata: dict[str, Any] | None = None
    importance: Unit | None = None
    valid_from: dt.datetime | None = None
    valid_to: dt.datetime | None = None


class Query(Value):
    """What to look for. Everything given narrows; `since` and `until` bound `valid_from`.

    Found is what is not over, what will be included. With `as_of`: what was true at that moment,
    as far as is known. With `known_at`: what was on record at that moment, in the words and with
    the times it had then. Archived memories are left out unless `archived`.
    """

    query: Annotated[str, msgspec.Meta(max_length=10_000)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    types: tuple[MemoryType, ...] = ()
    user_id: Name | None = None
    session_id: Name | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    mode: SearchMode = "hybrid"
    explain: bool = False
    as_of: dt.datetime | None = None
    known_at: dt.datetime | None = None
    archived: bool = False


class Hit(Value):
    """A found memory. `score` is comparable within one answer only; higher is closer.

    `fit` in [0, 1] is how likely it has to do with the question, comparable between questions;
    none where only words or only vectors were looked at. `parts` (with `explain`) add up to the
    score: what its words say (`text`), what its vector says (`vector`), what the words of the best
    say of it (`feedback`), what the memories beside it in its session lend it (`beside`),
    `recency`, `importance`, what it gains by turns that used it (`access`), and what it loses for
    repeating a better one (`repetition`).
    """

    entry: Entry
    score: float
    parts: dict[str, float] | None = None
    fit: float | None = None


class Found(Value):
    """Hits, best first. `mode` is what was done: `text` when no embedder was ready for `hybrid`."""

    hits: tuple[Hit, ...]
    mode: SearchMode
    took_ms: float


class NewEvent(Value):
    """What to add to the ledger. Kinds of Sonia's own (`turn.…`, `memory.…`) are refused."""

    kind: EventKind
    data: dict[str, Any] = {}
    user_id: Name = "owner"
    session_id: Name | None = None


class Event(Value):
    """One row of the ledger, in the order in which it was written."""

    number: int
    kind: str
    at: dt.datetime
    user_id: str
    session_id: str | None
    correlation_id: str
    data: dict[str, Any]


class Session(Value):
    """One conversation."""

    id: str
    user_id: str
    created_at: dt.datetime
    last_active_at: dt.datetime
    metadata: dict[str, Any]
    turns: int


class Utterance(Value):
    """One thing that was said in a session.

    `tainted` is true of an answer into which content from outside went (a file, a page).
    `number` is its row in the ledger, to page by.
    """

    role: Role
    content: str
    at: dt.datetime
    turn_id: str
    tainted: bool = False
    number: int = 0


class Snapshot(Value):
    """A session as it was: what was said in it, and the memories made in it."""

    number: int
    id: str
    session_id: str
    user_id: str
    name: str
    created_at: dt.datetime
    utterances: int
    memories: int


class Restored(Value):
    """What of a snapshot was put into a session. `damaged` items were not what was written."""

    snapshot_id: str
    session_id: str
    utterances: int
    memories: int
    damaged: int = 0


class About(Value):
    """What is known of a name. `count` memories name it, `memories` is a page of them.

    `related` are names that stand beside it there, and in how many memories.
    """

    name: str
    count: int
    memories: tuple[Entry, ...]
    utterances: tuple[Utterance, ...]
    related: dict[str, int]


class Stats(Value):
    """How much is kept, and how far the derived indexes are behind it.

    `damaged` rows are not what was written and are not served.
    `embedding_space` is whose vectors answer; while those of another are made, that is
    `coming_space`, and `coming_vectors` have been.
    """

    memories: int
    by_type: dict[str, int]
    events: int
    sessions: int
    vectors: int
    embedding_space: str
    unembedded: int
    text_documents: int
    database_bytes: int
    damaged: int
    coming_space: str | None = None
    coming_vectors: int = 0
    documents: int = 0


class Forget(Value):
    """What to forget: memories, a document, a session, an entity, or (by `user_id` alone) a person.

    One of the first four, or none. With one, `user_id` narrows to that person; an entity
    without is the owner's. An entity is a word or a few, found as whole words.
    """

    memory_ids: Annotated[tuple[MemoryId, ...], msgspec.Meta(max_length=1000)] = ()
    document_id: Name | None = None
    session_id: Name | None = None
    entity: Name | None = None
    user_id: Name | None = None


class Receipt(Value):
    """What was forgotten, without a word of it.

    `erasing`: asked for. `settling`: found nowhere; the rest of a document's rows go, and files
    are being rewritten. `done`: out of every file. `erased` counts by place; `digest` is the
    SHA-256 of the fields before it, as of `erased_at`, with the tombstones. `backups` are those
    that may hold it at the moment of asking.
    """

    id: str
    what: Literal["memories", "document", "session", "person", "entity"]
    state: Literal["erasing", "settling", "done"]
    requested_at: dt.datetime
    erased_at: dt.datetime | None = None
    done_at: dt.datetime | None = None
    erased: dict[str, int] = {}
    tombstones: int = 0
    digest: str = ""
    backups: tuple[HeldIn, ...] = ()


class JobStatus(Value):
    """Something memory does by itself. `outcome` counts what it did the last time it ended.

    `next_at` lies in the past when it is overdue. `failures` in a row; `failure` is the last one.
    """

    name: str
    about: str
    every_s: float
    next_at: dt.datetime
    running: bool
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    outcome: dict[str, int] = {}
    failure: str | None = None
    failures: int = 0


@runtime_checkable
class Model(Protocol):
    """Answers with JSON. The router fits it; `app.py` joins them if the configuration says so."""

    async def answer(self, instructions: str, text: str, schema: dict[str, Any]) -> str:
        """One JSON document that fits `schema`. Raises `SoniaError`."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns text into unit vectors. The router fits it; `app.py` joins them."""

    @property
    def space(self) -> str:
        """Vectors of different spaces must never be compared."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return `[len(texts), dimensions]`. Raises `Unavailable` while it can't."""
        ...


@runtime_checkable
class Memory(Protocol):
    """Keeps and finds."""

    async def store(self, new: NewMemory) -> Entry:
        """Durable and findable by text when it returns; its vector follows within moments."""
        ...

    async def store_many(
        self, new: Sequence[NewMemory], vectors: NDArray[np.float32] | None = None
    ) -> tuple[Entry, ...]:
        """`store` for 1 to 5000, all of them or none, in their order.

        `vectors`, if they are known already, are `[len(new), dimensions]`, each of length 1, and
        of the present embedder's space: then they are found by them when it returns.
        """
        ...

    async def recall(self, memory_id: MemoryId) -> Entry:
        """Raises `EntryNotFound`."""
        ...

    async def change(self, memory_id: MemoryId, change: Change) -> Entry:
        """Write a new version. Raises `EntryNotFound`."""
        ...

    async def versions(self, memory_id: MemoryId) -> tuple[Entry, ...]:
        """Every version, oldest first. Raises `EntryNotFound`."""
        ...

    async def supersede(
        self, memory_id: MemoryId, new: NewMemory, *, ends_at: dt.datetime | None = None
    ) -> Entry:
        """Store `new` in the place of a memory that it contradicts; return the new one.

        The old one stays, true until `ends_at`: by default when the new one began, or now if that
        is to come. Raises `EntryNotFound`, `AlreadySuperseded`, `NotTrusted` when `new` comes from
        less trusted a place than what it contradicts.
        """
        ...

    async def pin(self, memory_id: MemoryId, *, pinned: bool = True) -> Entry:
        """Have it rank as if of today, or no longer. No new version. Raises `EntryNotFound`."""
        ...

    async def archive(self, memory_id: MemoryId, *, archived: bool = True) -> Entry:
        """Leave it out of searches, or no longer. No new version. Raises `EntryNotFound`."""
        ...

    async def forget(self, memory_id: MemoryId, *, wait_s: float = 0.0) -> Receipt:
        """Erase it everywhere, as `erase` does. Raises `EntryNotFound`."""
        ...

    async def erase(self, what: Forget, *, wait_s: float = 0.0) -> Receipt:
        """Erase from every place, in one transaction, and then from the files.

        Gone with it: the turn a memory was taken from, what was made from it, and payloads of
        the ledger, tools, approvals and audit that hold its words. It survives a crash once this
        has begun to answer; asking twice is asking once. Waits up to `wait_s` for the files.
        """
        ...

    async def receipt(self, receipt_id: str) -> Receipt:
        """How far it is. Raises `ReceiptNotFound`."""
        ...

    async def search(self, query: Query) -> Found:
        """Find by words, by meaning, or both fused. An empty query finds the newest."""
        ...

    def touch(self, memory_ids: Sequence[MemoryId]) -> None:
        """A turn used these: they rank a little higher, and fade from now on.

        Returns at once and never fails; it is counted soon after. Unknown ids are left out.
        """
        ...

    async def by_type(
        self,
        kind: str,
        *,
        limit: int = 100,
        user_id: str | None = None,
        before: MemoryId | None = None,
    ) -> tuple[Entry, ...]:
        """Newest first, older than `before`. Raises `EntryNotFound`."""
        ...

    async def reindex(self, *, text: bool = True, vectors: bool = True) -> None:
        """Have the text index or every vector made anew, in the background, through restarts.

        What there is answers until it is replaced; `stats` tells how many are `unembedded`.
        """
        ...

    async def stats(self, user_id: str | None = None) -> Stats:
        """Count. With a person, memories, events and sessions are theirs; the rest is all's."""
        ...

    async def append(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        user_id: str = "owner",
        session_id: str | None = None,
    ) -> Event:
        """Add to the ledger, under the current correlation id."""
        ...

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
        ...

    async def open_session(
        self,
        session_id: str | None = None,
        *,
        user_id: str = "owner",
        metadata: dict[str, Any] | None = None,
    ) -> Session:
        """Return the session with this id, made if it is not there; without an id, a new one.

        Raises `SessionNotFound` when it is another person's.
        """
        ...

    async def session(self, session_id: str) -> Session:
        """Raises `SessionNotFound`."""
        ...

    async def sessions(self, limit: int = 50, *, user_id: str | None = None) -> tuple[Session, ...]:
        """Most recently active first."""
        ...

    async def close_session(self, session_id: str) -> None:
        """Forget the session and what was said in it; memories made from it stay.

        Raises `SessionNotFound`.
        """
        ...

    async def history(
        self,
        session_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[Utterance, ...]:
        """The newest `limit` utterances, oldest first; empty for an unknown session.

        With `before`, those numbered below it; with `after`, the oldest above it.
        """
        ...

    async def about(
        self,
        name: str,
        *,
        user_id: str | None = None,
        limit: int = 50,
        before: MemoryId | None = None,
    ) -> About:
        """All that names it, as whole words in any case; newest first, older than `before`."""
        ...

    async def snapshot(self, session_id: str, *, name: str = "") -> Snapshot:
        """Copy a session as it is. Raises `SessionNotFound`."""
        ...

    async def snapshots(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> tuple[Snapshot, ...]:
        """Newest first, those numbered below `before`."""
        ...

    async def restore(
        self, snapshot_id: str, *, session_id: str | None = None, user_id: str | None = None
    ) -> Restored:
        """Append copies of what was said to a session, a new one by default.

        Memories that the person no longer has come back as copies, as little trusted as they
        were. Nothing is replaced. Raises `SnapshotNotFound`, also when it is not of `user_id`,
        and `SessionNotFound` for another person's session.
        """
        ...

    async def jobs(self) -> tuple[JobStatus, ...]:
        """What memory does by itself, and when."""
        ...

    async def run_job(self, name: str) -> JobStatus:
        """Do it now and say how it went. Raises `JobNotFound`."""
        ...

    async def check(self) -> Integrity:
        """Read everything that is kept and compare each row with its SHA-256."""
        ...

    async def probe(self) -> dict[str, object]:
        """Detail for `/status`. Raises `Unavailable` with the reason when it can't do its job."""
        ...
