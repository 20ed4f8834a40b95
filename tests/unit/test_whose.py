"""A key speaks for its user: nothing of anybody else's is read, changed or erased with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Router

from sonia.config import Pipecat
from sonia.control.http import routes as control_routes
from sonia.envelope import Exchange, enter, exception_handlers
from sonia.gateway.http import _actions as action_routes
from sonia.gateway.http import _approvals, _sessions
from sonia.memory.http import routes as memory_routes
from sonia.router.http import routes as router_routes
from sonia.tools.http import routes as tools_routes
from sonia.voice.http import routes as voice_routes
from sonia.voice.service import TalkingSessions
from sonia.voice.talking import Talkers
from tests.memory_given import opened
from tests.voice_given import scripted_speech

As = Callable[[str | None], httpx.AsyncClient]


@pytest.fixture
async def client_of(tmp_path: Path) -> AsyncIterator[As]:
    """A client with the key of a user; None has none, as where no key is needed."""
    nothing: Any = None
    talkers = Talkers(Pipecat(), nothing, scripted_speech(), nothing, nothing)
    async with opened(tmp_path) as memory, AsyncExitStack() as stack:
        app = Litestar(
            [
                memory_routes(memory, memory),
                voice_routes(TalkingSessions(Pipecat(), talkers, nothing), nothing),
                tools_routes(nothing, nothing),
                control_routes(nothing, nothing),
                Router(path="/router", route_handlers=router_routes(nothing)),
                Router(
                    path="/v1",
                    route_handlers=[
                        *_sessions(memory),
                        *action_routes(nothing),
                        *_approvals(nothing, nothing),
                    ],
                ),
            ],
            exception_handlers=exception_handlers(),
        )

        def made(user: str | None) -> httpx.AsyncClient:
            async def admitted(scope: Any, receive: Any, send: Any) -> None:
                enter(Exchange(user_id=user))
                await app(scope, receive, send)

            transport = httpx.ASGITransport(app=admitted)
            client = httpx.AsyncClient(transport=transport, base_url="http://sonia")
            stack.push_async_callback(client.aclose)
            return client

        yield made


async def data_of(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def things_of(ann: httpx.AsyncClient) -> dict[str, str]:
    """What ann has: the ids of one of everything."""
    fact = {"type": "fact", "content": "The safe's number is quokka"}
    memory = await data_of(await ann.post("/memory/store", json=fact))
    session = await data_of(await ann.post("/v1/sessions", json={"session_id": "anns"}))
    document = await data_of(
        await ann.post("/memory/v1/workspace/ingest", json={"content": "quokka"})
    )
    snapshot = await data_of(
        await ann.post("/memory/v1/snapshots/create", json={"session_id": "anns"})
    )
    voice = await data_of(await ann.post("/voice/session/start", json={}))
    return {
        "memory": memory["id"],
        "session": session["id"],
        "document": document["document"]["id"],
        "snapshot": snapshot["id"],
        "voice": voice["session_id"],
    }


FACT = {"type": "fact", "content": "It is 4712"}
BY_ID: list[tuple[str, str, Any]] = [
    ("GET", "/memory/recall/{memory}", None),
    ("PUT", "/memory/recall/{memory}", {"content": "It is 4712"}),
    ("GET", "/memory/recall/{memory}/versions", None),
    ("POST", "/memory/recall/{memory}/pin", {}),
    ("POST", "/memory/recall/{memory}/archive", {}),
    ("POST", "/memory/recall/{memory}/supersede", FACT),
    ("DELETE", "/memory/recall/{memory}", None),
    ("GET", "/memory/v1/workspace/documents/{document}", None),
    ("GET", "/memory/v1/workspace/documents/{document}/chunks", None),
    ("DELETE", "/memory/v1/workspace/documents/{document}", None),
    ("POST", "/memory/v1/workspace/ingest", {"content": "4712", "session_id": "{session}"}),
    ("POST", "/memory/store", {**FACT, "session_id": "{session}"}),
    ("POST", "/memory/store/many", {"memories": [{**FACT, "session_id": "{session}"}]}),
    ("POST", "/memory/v1/memory/append", {"kind": "note", "data": {}, "session_id": "{session}"}),
    ("POST", "/memory/v1/snapshots/create", {"session_id": "{session}"}),
    ("POST", "/memory/v1/snapshots/restore/{snapshot}", {}),
    ("POST", "/v1/sessions", {"session_id": "{session}"}),
    ("GET", "/v1/sessions/{session}", None),
    ("GET", "/v1/sessions/{session}/history", None),
    ("DELETE", "/v1/sessions/{session}", None),
    ("GET", "/voice/session/{voice}", None),
    ("POST", "/voice/session/{voice}/interrupt", None),
    ("POST", "/voice/session/stop", {"session_id": "{voice}"}),
]


async def test_t50_who_knows_anothers_id_is_told_that_there_is_none(client_of: As) -> None:
    ann, bob, anybody = client_of("ann"), client_of("bob"), client_of(None)
    theirs = await things_of(ann)

    for method, path, body in BY_ID:
        refused = await bob.request(method, path.format(**theirs), json=_filled(body, theirs))
        assert refused.status_code == 404, (method, path, refused.text)
        assert "quokka" not in refused.text
    for method, path, body in BY_ID:
        if method != "DELETE":
            done = await ann.request(method, path.format(**theirs), json=_filled(body, theirs))
            assert done.status_code == 200, (method, path, done.text)
        if method == "GET":
            assert (await anybody.get(path.format(**theirs))).status_code == 200


def _filled(body: Any, ids: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {key: _filled(value, ids) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, ids) for value in body]
    return body.format(**ids) if isinstance(body, str) else body


async def test_t50_lists_and_searches_have_nothing_of_anothers_whoever_is_named(
    client_of: As,
) -> None:
    ann, bob = client_of("ann"), client_of("bob")
    await things_of(ann)
    hers = [
        "/memory/query/by-type/fact",
        "/memory/v1/workspace/documents",
        "/memory/v1/snapshots",
        "/memory/v1/memory/query",
        "/v1/sessions",
    ]

    for path in hers:
        assert await data_of(await ann.get(path))
        assert await data_of(await bob.get(path, params={"user_id": "ann"})) == []
    query = {"query": "quokka", "mode": "text"}
    assert (await data_of(await ann.post("/memory/search", json=query)))["hits"]
    found = await data_of(await bob.post("/memory/search", json={**query, "user_id": "ann"}))
    about = await data_of(await bob.get("/memory/v1/search/entity/quokka?user_id=ann"))
    assert found["hits"] == []
    assert "number is" not in str(about)
    assert (await data_of(await bob.get("/memory/query/stats?user_id=ann")))["memories"] == 0


async def test_t50_forgetting_reaches_only_the_keys_own_user(client_of: As) -> None:
    ann, bob = client_of("ann"), client_of("bob")
    theirs = await things_of(ann)

    for wanted in (
        {"user_id": "ann"},
        {"memory_ids": [theirs["memory"]]},
        {"session_id": "anns"},
        {"document_id": theirs["document"]},
        {"entity": "quokka"},
    ):
        await bob.post("/memory/v1/forget", json=wanted)

    path = f"/memory/v1/workspace/documents/{theirs['document']}"
    assert await data_of(await ann.get(path))
    assert await data_of(await ann.get(f"/memory/recall/{theirs['memory']}"))
    assert await data_of(await ann.get("/v1/sessions/anns"))


async def test_what_is_stored_with_a_key_is_its_users_whatever_is_named(client_of: As) -> None:
    body = {"type": "fact", "content": "x is y", "user_id": "bob"}

    stored = await data_of(await client_of("ann").post("/memory/store", json=body))

    assert stored["user_id"] == "ann"


EVERYBODYS = [
    ("GET", "/v1/actions"),
    ("GET", "/v1/approvals"),
    ("GET", "/tools/logs/execution"),
    ("GET", "/control/approvals"),
    ("GET", "/control/audit"),
    ("POST", "/memory/check"),
    ("POST", "/memory/v1/reindex"),
    ("POST", "/memory/jobs/x/run"),
    ("POST", "/router/breakers/x/reset"),
]


async def test_what_is_everybodys_needs_a_key_of_the_owners(client_of: As) -> None:
    ann = client_of("ann")

    for method, path in EVERYBODYS:
        refused = await ann.request(method, path, json={} if method == "POST" else None)
        assert refused.status_code == 403, (path, refused.text)
        assert "owner" in refused.json()["error"]["message"]
