"""The documents' routes, below `/memory`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from sonia.client import while_connected
from sonia.envelope import Envelope, answer
from sonia.memory.documents.arriving import Files, arrived
from sonia.memory.documents.interface import Document, Documents, Ingested
from sonia.memory.interface import Entry, Forget, Memory, Receipt
from sonia.memory.owning import nobody_elses, their_document
from sonia.whose import whose

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Offset = Annotated[int, QueryParameter(ge=0, le=2**53)]
ROOTS = ("/v1/workspace", "/api/v1/workspace")
INGEST = tuple(f"{root}/ingest" for root in ROOTS)


def routes(
    memory: Memory, documents: Documents, files: Files | None, *, forget_wait_s: float
) -> list[Any]:
    """Handlers; `files` is the workspace that `{path}` names a file of."""

    @post(list(INGEST), status_code=200)
    async def ingest(request: Request[Any, Any, Any]) -> Envelope[Ingested]:
        async with documents.incoming() as incoming:
            kind = request.headers.get("content-type", "")
            new = await arrived(request.receive, kind, incoming, files)
            await nobody_elses(memory, new.session_id)
            new = msgspec.structs.replace(new, user_id=whose(new.user_id))
            work = documents.ingest(incoming, new)
            return answer(await while_connected(request.receive, work))

    @get([f"{root}/documents" for root in ROOTS])
    async def listed(
        user_id: FromQuery[str | None] = None,
        source: FromQuery[str | None] = None,
        before: FromQuery[str | None] = None,
        limit: Limit = 100,
    ) -> Envelope[tuple[Document, ...]]:
        return answer(
            await documents.documents(
                user_id=whose(user_id), source=source, before=before, limit=limit
            )
        )

    one = [f"{root}/documents/{{document_id:str}}" for root in ROOTS]

    @get(one)
    async def document(document_id: FromPath[str]) -> Envelope[Document]:
        return answer(await their_document(documents, document_id))

    @delete(one, status_code=200)
    async def forget_document(document_id: FromPath[str]) -> Envelope[Receipt]:
        await their_document(documents, document_id)
        meant = Forget(document_id=document_id)
        return answer(await memory.erase(meant, wait_s=forget_wait_s))

    @get([f"{path}/chunks" for path in one])
    async def chunks(
        document_id: FromPath[str], offset: Offset = 0, limit: Limit = 100
    ) -> Envelope[tuple[Entry, ...]]:
        await their_document(documents, document_id)
        return answer(await documents.chunks(document_id, offset=offset, limit=limit))

    return [ingest, listed, document, forget_document, chunks]
