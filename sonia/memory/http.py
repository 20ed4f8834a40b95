"""Memory's routes."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from litestar import Router, delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from sonia.envelope import Envelope, answer
from sonia.memory.interface import (
    Change,
    Content,
    Entry,
    Event,
    Forget,
    Found,
    Memory,
    MemoryType,
    Name,
    NewEvent,
    NewMemory,
    Query,
    Receipt,
    Stats,
    Unit,
)
from sonia.types import Integrity, MemoryId, Value

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


class Forgotten(Value):
    """`DELETE /recall/{id}`."""

    id: str
    forgotten: bool = True


def routes(memory: Memory) -> Router:
    """Everything below `/memory`."""
    return Router(
        path="/memory",
        tags=["memory"],
        route_handlers=[
            *_memories(memory),
            *_queries(memory),
            *_ledger(memory),
            *_forgetting(memory),
        ],
    )


def _memories(memory: Memory) -> list[Any]:
    @post("/store", status_code=200)
    async def store(data: JSONBody[StoreBody]) -> Envelope[Entry]:
        return answer(
            await memory.store(
                NewMemory(
                    type=data.type,
                    content=data.content,
                    metadata=data.metadata,
                    user_id=data.user_id,
                    session_id=data.session_id,
                    valid_from=data.valid_from,
                    valid_to=data.valid_to,
                    importance=data.importance,
                )
            )
        )

    @get("/recall/{memory_id:str}")
    async def recall(memory_id: FromPath[str]) -> Envelope[Entry]:
        return answer(await memory.recall(MemoryId(memory_id)))

    @put("/recall/{memory_id:str}")
    async def change(memory_id: FromPath[str], data: JSONBody[Change]) -> Envelope[Entry]:
        return answer(await memory.change(MemoryId(memory_id), data))

    @delete("/recall/{memory_id:str}", status_code=200)
    async def forget(memory_id: FromPath[str]) -> Envelope[Forgotten]:
        await memory.forget(MemoryId(memory_id))
        return answer(Forgotten(id=memory_id))

    @get("/recall/{memory_id:str}/versions")
    async def versions(memory_id: FromPath[str]) -> Envelope[tuple[Entry, ...]]:
        return answer(await memory.versions(MemoryId(memory_id)))

    return [store, recall, change, forget, versions]


def _queries(memory: Memory) -> list[Any]:
    @post("/search", status_code=200)
    async def search(data: JSONBody[Query]) -> Envelope[Found]:
        return answer(await memory.search(data))

    @get("/query/by-type/{kind:str}")
    async def by_type(kind: FromPath[str], limit: Limit = 100) -> Envelope[tuple[Entry, ...]]:
        return answer(await memory.by_type(kind, limit=limit))

    @get("/query/stats")
    async def stats() -> Envelope[Stats]:
        return answer(await memory.stats())

    @post("/check", status_code=200)
    async def check() -> Envelope[Integrity]:
        return answer(await memory.check())

    return [search, by_type, stats, check]


def _ledger(memory: Memory) -> list[Any]:
    @post(["/v1/memory/append", "/api/v1/memory/append"], status_code=200)
    async def append(data: JSONBody[NewEvent]) -> Envelope[Event]:
        return answer(
            await memory.append(
                data.kind, data.data, user_id=data.user_id, session_id=data.session_id
            )
        )

    @get(["/v1/memory/query", "/api/v1/memory/query"])
    async def events(
        session_id: FromQuery[str | None] = None,
        kind: FromQuery[str | None] = None,
        after: After = 0,
        limit: Limit = 100,
    ) -> Envelope[tuple[Event, ...]]:
        return answer(
            await memory.events(session_id=session_id, kind=kind, after=after, limit=limit)
        )

    return [append, events]


def _forgetting(memory: Memory) -> list[Any]:
    @post(["/v1/forget", "/api/v1/forget"], status_code=200)
    async def forget(data: JSONBody[Forget]) -> Envelope[Receipt]:
        return answer(await memory.erase(data, wait_s=FORGET_WAIT_S))

    @get(["/v1/forget/{receipt_id:str}", "/api/v1/forget/{receipt_id:str}"])
    async def receipt(receipt_id: FromPath[str]) -> Envelope[Receipt]:
        return answer(await memory.receipt(receipt_id))

    return [forget, receipt]
