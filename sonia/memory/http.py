"""Memory's routes."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from litestar import Router, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from sonia.config import MemoryEngine
from sonia.envelope import Envelope, answer
from sonia.intake import Intake
from sonia.memory.documents.arriving import FORM, JSON, Files
from sonia.memory.documents.http import INGEST
from sonia.memory.documents.http import routes as document_routes
from sonia.memory.documents.interface import Documents
from sonia.memory.interface import (
    About,
    Change,
    Content,
    Entry,
    Event,
    Forget,
    Found,
    JobStatus,
    Memory,
    MemoryType,
    Name,
    NewEvent,
    NewMemory,
    Query,
    Receipt,
    Restored,
    Snapshot,
    Stats,
    Unit,
)
from sonia.memory.owning import nobody_elses, their_entry, their_memory, their_session
from sonia.types import Integrity, MemoryId, Value
from sonia.whose import check_owners, whose

FORM_BYTES = 262_144  # what a form has around its file
FORGET_WAIT_S = 10.0  # for the files; a receipt that says `settling` can be asked for again
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
After = Annotated[int, QueryParameter(ge=0, le=2**53)]


class StoreBody(Value):
    """`POST /store`. Where a memory came from is not the caller's to say."""

    type: MemoryType
    content: Content
    metadata: dict[str, Any] = {}
    user_id: Name = "owner"
    session_id: Name | None = None
    valid_from: dt.datetime | None = None
    valid_to: dt.datetime | None = None
    importance: Unit = 0.5


class PinBody(Value):
    """`POST /recall/{id}/pin`; may be left out."""

    pinned: bool = True


class ArchiveBody(Value):
    """`POST /recall/{id}/archive`; may be left out."""

    archived: bool = True


class SupersedeBody(StoreBody):
    """`POST /recall/{id}/supersede`: what takes its place, and when the old one ended."""

    ends_at: dt.datetime | None = None


class SnapshotBody(Value):
    """`POST /v1/snapshots/create`."""

    session_id: Name
    name: Annotated[str, msgspec.Meta(max_length=256)] = ""


class RestoreBody(Value):
    """`POST /v1/snapshots/restore/{id}`; may be left out."""

    session_id: Name | None = None


class StoreManyBody(Value):
    """`POST /store/many`. All of them are stored, or none."""

    memories: Annotated[tuple[StoreBody, ...], msgspec.Meta(min_length=1, max_length=5000)]


class StoredMany(Value):
    """Their ids, in the order in which they came."""

    ids: tuple[str, ...]


class ReindexBody(Value):
    """`POST /v1/reindex`: what is to be made anew."""

    text: bool = True
    vectors: bool = True


def routes(memory: Memory, documents: Documents, files: Files | None = None) -> Router:
    """Everything below `/memory`. `files` is the workspace, for documents that are there."""
    return Router(
        path="/memory",
        tags=["memory"],
        route_handlers=[
            *_memories(memory),
            *_standing(memory),
            *_queries(memory),
            *_ledger(memory),
            *_forgetting(memory),
            *_snapshots(memory),
            *_jobs(memory),
            *document_routes(memory, documents, files, forget_wait_s=FORGET_WAIT_S),
        ],
    )


def intakes(config: MemoryEngine) -> dict[str, Intake]:
    """The paths that take uploads."""
    document = Intake(
        media_types=(FORM, JSON), max_body_bytes=config.documents.max_bytes + FORM_BYTES
    )
    return {f"/memory{path}": document for path in INGEST}


def _memories(memory: Memory) -> list[Any]:
    @post("/store", status_code=200)
    async def store(data: JSONBody[StoreBody]) -> Envelope[Entry]:
        await nobody_elses(memory, data.session_id)
        return answer(await memory.store(_new(data)))

    @post("/store/many", status_code=200)
    async def store_many(data: JSONBody[StoreManyBody]) -> Envelope[StoredMany]:
        for session_id in {body.session_id for body in data.memories}:
            await nobody_elses(memory, session_id)
        stored = await memory.store_many([_new(body) for body in data.memories])
        return answer(StoredMany(ids=tuple(entry.id for entry in stored)))

    @get("/recall/{memory_id:str}")
    async def recall(memory_id: FromPath[str]) -> Envelope[Entry]:
        return answer(await their_entry(memory, memory_id))

    @put("/recall/{memory_id:str}")
    async def change(memory_id: FromPath[str], data: JSONBody[Change]) -> Envelope[Entry]:
        return answer(await memory.change(await their_memory(memory, memory_id), data))

    @delete("/recall/{memory_id:str}", status_code=200)
    async def forget(memory_id: FromPath[str]) -> Envelope[Receipt]:
        known_id = await their_memory(memory, memory_id)
        return answer(await memory.forget(known_id, wait_s=FORGET_WAIT_S))

    @get("/recall/{memory_id:str}/versions")
    async def versions(memory_id: FromPath[str]) -> Envelope[tuple[Entry, ...]]:
        return answer(await memory.versions(await their_memory(memory, memory_id)))

    return [store, store_many, recall, change, forget, versions]


def _new(body: StoreBody) -> NewMemory:
    return NewMemory(
        type=body.type,
        content=body.content,
        metadata=body.metadata,
        user_id=whose(body.user_id),
        session_id=body.session_id,
        valid_from=body.valid_from,
        valid_to=body.valid_to,
        importance=body.importance,
    )


def _standing(memory: Memory) -> list[Any]:
    @post("/recall/{memory_id:str}/pin", status_code=200)
    async def pin(
        memory_id: FromPath[str], data: JSONBody[PinBody | None] = None
    ) -> Envelope[Entry]:
        pinned = data.pinned if data else True
        return answer(await memory.pin(await their_memory(memory, memory_id), pinned=pinned))

    @post("/recall/{memory_id:str}/archive", status_code=200)
    async def archive(
        memory_id: FromPath[str], data: JSONBody[ArchiveBody | None] = None
    ) -> Envelope[Entry]:
        archived = data.archived if data else True
        return answer(
            await memory.archive(await their_memory(memory, memory_id), archived=archived)
        )

    @post("/recall/{memory_id:str}/supersede", status_code=200)
    async def supersede(memory_id: FromPath[str], data: JSONBody[SupersedeBody]) -> Envelope[Entry]:
        told = msgspec.structs.asdict(data)
        ends_at = told.pop("ends_at")
        new = NewMemory(**{**told, "user_id": whose(data.user_id)})
        old = await their_memory(memory, memory_id)
        await nobody_elses(memory, data.session_id)
        return answer(await memory.supersede(old, new, ends_at=ends_at))

    return [pin, archive, supersede]


def _queries(memory: Memory) -> list[Any]:
    @post("/search", status_code=200)
    async def search(data: JSONBody[Query]) -> Envelope[Found]:
        return answer(
            await memory.search(msgspec.structs.replace(data, user_id=whose(data.user_id)))
        )

    @post(["/v1/reindex", "/api/v1/reindex"], status_code=202)
    async def reindex(data: JSONBody[ReindexBody]) -> Envelope[ReindexBody]:
        check_owners()
        await memory.reindex(text=data.text, vectors=data.vectors)
        return answer(data)

    @get("/query/by-type/{kind:str}")
    async def by_type(
        kind: FromPath[str],
        limit: Limit = 100,
        user_id: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> Envelope[tuple[Entry, ...]]:
        older = None if before is None else MemoryId(before)
        return answer(await memory.by_type(kind, limit=limit, user_id=whose(user_id), before=older))

    @get(["/v1/search/entity/{name:str}", "/api/v1/search/entity/{name:str}"])
    async def entity(
        name: FromPath[str],
        limit: Limit = 50,
        user_id: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
    ) -> Envelope[About]:
        older = None if before is None else MemoryId(before)
        return answer(await memory.about(name, user_id=whose(user_id), limit=limit, before=older))

    @get("/query/stats")
    async def stats(user_id: FromQuery[str | None] = None) -> Envelope[Stats]:
        return answer(await memory.stats(whose(user_id)))

    @post("/check", status_code=200)
    async def check() -> Envelope[Integrity]:
        check_owners()
        return answer(await memory.check())

    return [search, reindex, by_type, entity, stats, check]


def _ledger(memory: Memory) -> list[Any]:
    @post(["/v1/memory/append", "/api/v1/memory/append"], status_code=200)
    async def append(data: JSONBody[NewEvent]) -> Envelope[Event]:
        await nobody_elses(memory, data.session_id)
        user_id = whose(data.user_id)
        return answer(
            await memory.append(data.kind, data.data, user_id=user_id, session_id=data.session_id)
        )

    @get(["/v1/memory/query", "/api/v1/memory/query"])
    async def events(
        session_id: FromQuery[str | None] = None,
        kind: FromQuery[str | None] = None,
        user_id: FromQuery[str | None] = None,
        after: After = 0,
        limit: Limit = 100,
    ) -> Envelope[tuple[Event, ...]]:
        return answer(
            await memory.events(
                session_id=session_id, kind=kind, user_id=whose(user_id), after=after, limit=limit
            )
        )

    return [append, events]


def _forgetting(memory: Memory) -> list[Any]:
    @post(["/v1/forget", "/api/v1/forget"], status_code=200)
    async def forget(data: JSONBody[Forget]) -> Envelope[Receipt]:
        wanted = msgspec.structs.replace(data, user_id=whose(data.user_id))
        return answer(await memory.erase(wanted, wait_s=FORGET_WAIT_S))

    @get(["/v1/forget/{receipt_id:str}", "/api/v1/forget/{receipt_id:str}"])
    async def receipt(receipt_id: FromPath[str]) -> Envelope[Receipt]:
        return answer(await memory.receipt(receipt_id))

    return [forget, receipt]


def _snapshots(memory: Memory) -> list[Any]:
    @post(["/v1/snapshots/create", "/api/v1/snapshots/create"], status_code=200)
    async def create(data: JSONBody[SnapshotBody]) -> Envelope[Snapshot]:
        await their_session(memory, data.session_id)
        return answer(await memory.snapshot(data.session_id, name=data.name))

    @get(["/v1/snapshots", "/api/v1/snapshots"])
    async def newest(
        session_id: FromQuery[str | None] = None,
        user_id: FromQuery[str | None] = None,
        before: FromQuery[int | None] = None,
        limit: Limit = 50,
    ) -> Envelope[tuple[Snapshot, ...]]:
        return answer(
            await memory.snapshots(
                session_id=session_id, user_id=whose(user_id), before=before, limit=limit
            )
        )

    @post(
        ["/v1/snapshots/restore/{snapshot_id:str}", "/api/v1/snapshots/restore/{snapshot_id:str}"],
        status_code=200,
    )
    async def restore(
        snapshot_id: FromPath[str], data: JSONBody[RestoreBody | None] = None
    ) -> Envelope[Restored]:
        into = data.session_id if data else None
        return answer(await memory.restore(snapshot_id, session_id=into, user_id=whose(None)))

    return [create, newest, restore]


def _jobs(memory: Memory) -> list[Any]:
    @get("/jobs")
    async def jobs() -> Envelope[tuple[JobStatus, ...]]:
        return answer(await memory.jobs())

    @post("/jobs/{name:str}/run", status_code=200)
    async def run_job(name: FromPath[str]) -> Envelope[JobStatus]:
        check_owners()
        return answer(await memory.run_job(name))

    return [jobs, run_job]
