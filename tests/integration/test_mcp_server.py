"""`/mcp` on a real server, asked by the official client in both eras, and by hand where it errs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from tests.mcp_serving import ERAS, NEW, Given, serving_tools

META = "io.modelcontextprotocol/"


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[Given]:
    async with serving_tools(tmp_path) as given:
        yield given


@pytest.mark.parametrize("era", ERAS)
async def test_the_official_client_lists_and_calls_the_tools(given: Given, era: str) -> None:
    async with Client(given.url, mode=era) as client:
        listed = (await client.list_tools()).tools
        called = await client.call_tool("math.evaluate", {"expression": "17 * 23"})

    assert [tool.name for tool in listed] == [info.name for info in given.tools.catalogue()]
    assert called.is_error is False
    assert called.structured_content is not None
    assert called.structured_content["value"] == 391


@pytest.mark.parametrize("era", ERAS[:2])
async def test_an_approval_reaches_a_person_and_the_result_returns(given: Given, era: str) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def progress(step: float, total: float | None, message: str | None) -> None:
        told.put_nowait(message or "")

    args = {"path": "a.txt", "content": "hello"}
    async with Client(given.url, mode=era) as client:
        calling = asyncio.ensure_future(
            client.call_tool("file.write", args, progress_callback=progress)
        )
        said = await asyncio.wait_for(told.get(), 60)
        (asked,) = await given.control.approvals("pending")
        before = (given.workspace / "a.txt").exists()
        await given.control.settle(asked.id, approve=True, by="operator")
        result = await calling

    assert f"sonia approvals approve {asked.id}" in said
    assert before is False
    assert result.is_error is False
    assert (given.workspace / "a.txt").read_text() == "hello"


async def test_a_denied_call_is_a_result_that_says_so(given: Given) -> None:
    asked = asyncio.Event()

    async def progress(*_: Any) -> None:
        asked.set()

    async with Client(given.url) as client:
        args = {"path": "a.txt", "content": "hello"}
        calling = asyncio.ensure_future(
            client.call_tool("file.write", args, progress_callback=progress)
        )
        await asyncio.wait_for(asked.wait(), 60)
        (question,) = await given.control.approvals("pending")
        await given.control.settle(question.id, approve=False, by="operator", reason="not there")
        result = await calling

    assert result.is_error is True
    assert "not there" in str(result.content[0])
    assert not (given.workspace / "a.txt").exists()


@pytest.mark.parametrize("era", ERAS[:2])
async def test_a_client_that_leaves_takes_its_question_with_it(given: Given, era: str) -> None:
    asked = asyncio.Event()

    async def progress(*_: Any) -> None:
        asked.set()

    async with Client(given.url, mode=era) as client:
        args = {"path": "a.txt", "content": "hello"}
        calling = asyncio.ensure_future(
            client.call_tool("file.write", args, progress_callback=progress)
        )
        await asyncio.wait_for(asked.wait(), 60)
        (question,) = await given.control.approvals("pending")
        calling.cancel()
        settled = await asyncio.wait_for(given.control.decided(question.id), 60)

    assert settled.state == "cancelled"
    assert not (given.workspace / "a.txt").exists()


async def test_what_a_client_was_given_raises_what_it_asks_for_next(given: Given) -> None:
    (given.workspace / "page.txt").write_text("do this and that")
    async with Client(given.url) as client:
        await client.call_tool("file.read", {"path": "page.txt"})
        asked = asyncio.Event()

        async def progress(*_: Any) -> None:
            asked.set()

        args = {"path": "a.txt", "content": "hello"}
        calling = asyncio.ensure_future(
            client.call_tool("file.write", args, progress_callback=progress)
        )
        await asyncio.wait_for(asked.wait(), 60)
        rows = await given.control.ledger()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)

    decision = [row.data for row in rows if row.kind == "decision"][-1]
    assert decision["origins"] == ["file", "model"]


async def test_memory_is_there_for_other_programs_and_asks_before_it_keeps(given: Given) -> None:
    asked = asyncio.Event()

    async def progress(*_: Any) -> None:
        asked.set()

    async with Client(given.url) as client:
        fact = {"content": "Ana's birthday is on 3 May."}
        calling = asyncio.ensure_future(
            client.call_tool("memory.remember", fact, progress_callback=progress)
        )
        await asyncio.wait_for(asked.wait(), 30)
        (question,) = await given.control.approvals("pending")
        await given.control.settle(question.id, approve=True, by="operator")
        kept = await calling
        found = await client.call_tool("memory.search", {"query": "birthday"})

    told = {spec.name for spec in given.tools.specs()}
    assert kept.is_error is False
    assert "3 May" in str(found.structured_content)
    assert told.isdisjoint({"memory.search", "memory.remember"})


# --- by hand -----------------------------------------------------------------------------


def modern(method: str, **params: Any) -> dict[str, Any]:
    meta = {
        META + "protocolVersion": NEW,
        META + "clientInfo": {"name": "t", "version": "1"},
        META + "clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def headers(method: str, **more: str) -> dict[str, str]:
    return {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": NEW,
        "mcp-method": method,
        **more,
    }


@pytest.fixture
async def http(given: Given) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


async def test_headers_that_contradict_the_body_are_refused(
    given: Given, http: httpx.AsyncClient
) -> None:
    body = modern("tools/call", name="math.evaluate", arguments={"expression": "1"})
    for wrong in (
        {"mcp-name": "shell.run"},
        {},
        {"mcp-name": "math.evaluate", "mcp-method": "tools/list"},
        {"mcp-name": "math.evaluate", "mcp-protocol-version": "2025-11-25"},
    ):
        answer = await http.post(given.url, json=body, headers={**headers("tools/call"), **wrong})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)

    encoded = "=?base64?bWF0aC5ldmFsdWF0ZQ==?="
    right = await http.post(
        given.url, json=body, headers=headers("tools/call", **{"mcp-name": encoded})
    )
    assert right.json()["result"]["resultType"] == "complete"


async def test_a_version_that_is_not_spoken_is_told_those_that_are(
    given: Given, http: httpx.AsyncClient
) -> None:
    body = modern("tools/list")
    body["params"]["_meta"][META + "protocolVersion"] = "2031-01-01"

    answer = await http.post(given.url, json=body, headers=headers("tools/list"))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, -32022)
    assert NEW in error["data"]["supported"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, -32700),
        (b"[]", 400, -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"tools/list"}', 400, -32600),
    ],
)
async def test_what_is_no_request_is_answered_with_why(
    given: Given, http: httpx.AsyncClient, body: bytes, status: int, code: int
) -> None:
    kind = {"content-type": "application/json", **headers("x")}

    answer = await http.post(given.url, content=body, headers=kind)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_an_unknown_method_and_an_unknown_tool_are_told_apart(
    given: Given, http: httpx.AsyncClient
) -> None:
    listing = headers("resources/list")
    nothing = await http.post(given.url, json=modern("resources/list"), headers=listing)
    body = modern("tools/call", name="no.such", arguments={})
    unknown = await http.post(
        given.url, json=body, headers=headers("tools/call", **{"mcp-name": "no.such"})
    )
    wrong = modern("tools/call", name="math.evaluate", arguments={"x": 1})
    invalid = await http.post(
        given.url, json=wrong, headers=headers("tools/call", **{"mcp-name": "math.evaluate"})
    )

    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, -32601)
    assert unknown.json()["error"]["code"] == -32602
    assert invalid.json()["result"]["isError"] is True


async def test_a_session_that_was_ended_is_gone(given: Given, http: httpx.AsyncClient) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}}
    begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}

    opened = await http.post(given.url, json=begin, headers=accept)
    session = {**accept, "mcp-session-id": opened.headers["mcp-session-id"]}
    alive = await http.post(given.url, json=ping, headers=session)
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    noticed = await http.post(given.url, json=ready, headers=session)
    ended = await http.delete(given.url, headers=session)
    after = await http.post(given.url, json=ping, headers=session)

    assert opened.json()["result"]["protocolVersion"] == "2025-11-25"
    assert alive.json()["result"] == {}
    assert (noticed.status_code, ended.status_code, after.status_code) == (202, 200, 404)


async def test_pages_of_others_are_refused_in_the_protocols_own_form(
    given: Given, http: httpx.AsyncClient
) -> None:
    sent = {**headers("tools/list"), "origin": "https://evil.example"}

    answer = await http.post(given.url, json=modern("tools/list"), headers=sent)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == -32600
    assert (await http.get(given.url)).status_code == 405
