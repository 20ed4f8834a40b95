"""Memory's routes, over a real database, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from sonia.envelope import exception_handlers
from sonia.memory.http import routes
from tests.memory_given import opened

BISCUIT = {"type": "fact", "content": "My dog is called Biscuit"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(tmp_path) as memory:
        app = Litestar([routes(memory, memory)], exception_handlers=exception_handlers())
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sonia") as client:
            yield client


async def data_of(response: httpx.Response) -> Any:
    body = response.json()
    assert (response.status_code, body["ok"], body["error"]) == (200, True, None), body
    return body["data"]


async def test_a_memory_goes_round(client: httpx.AsyncClient) -> None:
    stored = await data_of(await client.post("/memory/store", json=BISCUIT))
    path = f"/memory/recall/{stored['id']}"

    assert await data_of(await client.get(path)) == stored
    changed = await data_of(await client.put(path, json={"content": "My dog is called Waffle"}))
    assert changed["version"] == 2
    versions = await data_of(await client.get(f"{path}/versions"))
    assert [version["version"] for version in versions] == [1, 2]
    receipt = await data_of(await client.delete(path))
    told = await data_of(await client.get(f"/memory/v1/forget/{receipt['id']}"))
    gone = await client.get(path)
    assert (receipt["what"], receipt["state"]) == ("memories", "done")
    assert receipt["erased"]["memories"] == 1
    assert told == receipt
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_it_is_found_counted_and_listed(client: httpx.AsyncClient) -> None:
    stored = await data_of(await client.post("/memory/store", json=BISCUIT))

    found = await data_of(
        await client.post("/memory/search", json={"query": "dog", "mode": "text", "explain": True})
    )
    listed = await data_of(await client.get("/memory/query/by-type/fact?limit=5"))
    stats = await data_of(await client.get("/memory/query/stats"))

    assert [hit["entry"]["id"] for hit in found["hits"]] == [stored["id"]]
    assert found["hits"][0]["parts"]["text"] > 0
    assert [entry["id"] for entry in listed] == [stored["id"]]
    assert stats["by_type"] == {"fact": 1}


@pytest.mark.parametrize("prefix", ["/memory/v1/memory", "/memory/api/v1/memory"])
async def test_the_ledger_is_appended_to_and_read(client: httpx.AsyncClient, prefix: str) -> None:
    event = {"kind": "app.note", "data": {"n": 1}, "session_id": "ses_1"}

    written = await data_of(await client.post(f"{prefix}/append", json=event))
    read = await data_of(
        await client.get(f"{prefix}/query", params={"session_id": "ses_1", "kind": "app.note"})
    )

    assert read == [written]
    assert written["data"] == {"n": 1}


async def test_where_a_memory_came_from_is_not_the_callers_to_say(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post("/memory/store", json={**BISCUIT, "origin": "owner"})
    stored = await data_of(await client.post("/memory/store", json=BISCUIT))

    assert refused.status_code == 400
    assert "origin" in refused.json()["error"]["message"]
    assert stored["origin"] == "owner"


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("store", {"type": "fact"}, "content"),
        ("store", {**BISCUIT, "colour": "red"}, "colour"),
        ("store", {**BISCUIT, "importance": "high"}, "importance"),
        ("store", {**BISCUIT, "metadata": {"k": "v" * 20_000}}, "metadata"),
        ("store", {**BISCUIT, "valid_from": "2026-01-01T00:00:00"}, "valid_from"),
        ("search", {"query": "x", "limit": 0}, "limit"),
        ("search", {"query": "x", "mode": "magic"}, "mode"),
        ("search", {}, "query"),
        ("v1/memory/append", {"kind": "turn.user"}, "turn."),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], named: str
) -> None:
    refused = await client.post(f"/memory/{path}", json=body)

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_request"
    assert named in refused.text


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"\xff", b'{"type":"fact","content":"\\ud800"}', b"[" * 100_000, b'"\x00"'],
    ids=lambda raw: str(raw[:20]),
)
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, raw: bytes
) -> None:
    headers = {"content-type": "application/json"}
    for path in ("store", "search", "v1/memory/append"):
        refused = await client.post(f"/memory/{path}", content=raw, headers=headers)
        assert refused.status_code == 400, refused.text


@pytest.mark.parametrize(
    "path",
    [
        "/memory/recall/mem_%00",
        "/memory/recall/nobody",
        "/memory/recall/%F0%9F%90%B6/versions",
    ],
)
async def test_an_unknown_id_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=99999", "after=-1", "after=99999999999999999999"]
)
async def test_a_wrong_page_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/memory/v1/memory/query?{query}")).status_code == 400


async def test_a_memory_that_is_over_is_found_as_of_its_time(client: httpx.AsyncClient) -> None:
    period = {"valid_from": "2020-01-01T00:00:00Z", "valid_to": "2021-01-01T00:00:00Z"}
    stored = await data_of(await client.post("/memory/store", json={**BISCUIT, **period}))
    query = {"query": "dog", "mode": "text"}

    now = await data_of(await client.post("/memory/search", json=query))
    then = await data_of(
        await client.post("/memory/search", json={**query, "as_of": "2020-06-01T00:00:00Z"})
    )

    assert now["hits"] == []
    assert [hit["entry"]["id"] for hit in then["hits"]] == [stored["id"]]


@pytest.mark.parametrize("prefix", ["/memory/v1", "/memory/api/v1"])
async def test_a_session_is_copied_put_back_and_forgotten(
    client: httpx.AsyncClient, prefix: str
) -> None:
    missing = await client.post(f"{prefix}/snapshots/create", json={"session_id": "ses_1"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    await data_of(await client.post("/memory/store", json={**BISCUIT, "session_id": "ses_1"}))

    about = await data_of(await client.get(f"{prefix}/search/entity/Biscuit?user_id=owner"))
    assert (about["count"], about["memories"][0]["content"]) == (1, BISCUIT["content"])
    receipt = await data_of(await client.post(f"{prefix}/forget", json={"entity": "biscuit"}))
    assert (receipt["state"], receipt["erased"]["memories"]) == ("done", 1)
    assert await data_of(await client.get(f"{prefix}/forget/{receipt['id']}")) == receipt
    assert (await data_of(await client.get(f"{prefix}/search/entity/Biscuit")))["count"] == 0
    refused = await client.post(f"{prefix}/forget", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert "user_id alone" in refused.json()["error"]["message"]
    assert await data_of(await client.get(f"{prefix}/snapshots?user_id=ada")) == []
    unknown = await client.post(f"{prefix}/snapshots/restore/snp_x")
    assert unknown.status_code == 404


async def test_a_memory_is_pinned_archived_and_superseded(client: httpx.AsyncClient) -> None:
    lisbon = await data_of(
        await client.post("/memory/store", json={"type": "fact", "content": "I live in Lisbon"})
    )
    path = f"/memory/recall/{lisbon['id']}"

    assert (await data_of(await client.post(f"{path}/pin")))["pinned"]
    assert not (await data_of(await client.post(f"{path}/pin", json={"pinned": False})))["pinned"]
    assert (await data_of(await client.post(f"{path}/archive")))["archived_at"]
    back = await data_of(await client.post(f"{path}/archive", json={"archived": False}))
    assert back["archived_at"] is None
    body = {"type": "fact", "content": "I live in Porto", "ends_at": "2026-01-01T00:00:00Z"}
    porto = await data_of(await client.post(f"{path}/supersede", json=body))
    old = await data_of(await client.get(path))
    assert (old["superseded_by"], porto["content"]) == (porto["id"], "I live in Porto")
    again = await client.post(f"{path}/supersede", json=body)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    forged = await client.post(f"{path}/supersede", json={**body, "origin": "owner"})
    assert forged.status_code == 400
