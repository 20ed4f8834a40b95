"""What `/mcp` says unasked, to the official client in both eras, and to one whose line broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from mcp import Client
from mcp.types import ElicitResult

from tests.mcp_serving import ERAS, Given, serving_tools

WRITE = {"path": "a.txt", "content": "hello"}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[Given]:
    async with serving_tools(tmp_path) as given:
        yield given


# --- questions ---------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS[:2])
async def test_a_person_who_sees_the_question_in_their_client_still_answers_with_their_token(
    given: Given, era: str
) -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()

    async def elicit(_: Any, params: Any) -> ElicitResult:
        shown.put_nowait(params.message)
        return ElicitResult(action="accept", content={})

    async with Client(given.url, mode=era, elicitation_callback=elicit) as client:
        calling = asyncio.ensure_future(client.call_tool("file.write", WRITE))
        question = await asyncio.wait_for(shown.get(), 60)
        (asked,) = await given.control.approvals("pending")
        await given.control.settle(asked.id, approve=True, by="operator")
        result = await calling

    assert "a.txt" in question
    assert f"sonia approvals approve {asked.id}" in question
    assert result.is_error is False
    assert (given.workspace / "a.txt").read_text() == "hello"


@pytest.mark.parametrize("era", ERAS[:2])
async def test_a_person_may_say_no_in_their_client(given: Given, era: str) -> None:
    async def elicit(_: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with Client(given.url, mode=era, elicitation_callback=elicit) as client:
        result = await client.call_tool("file.write", WRITE)

    (asked,) = await given.control.approvals()
    assert result.is_error is True
    assert "took it back" in str(result.content[0])
    assert asked.state == "cancelled"
    assert not (given.workspace / "a.txt").exists()


async def test_a_yes_of_the_client_alone_runs_nothing(given: Given) -> None:
    """The client comes back with its yes and waits like everybody else, until it gives up."""
    waits = asyncio.Event()

    async def elicit(_: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"approve": True})

    async def progress(*_: Any) -> None:
        waits.set()

    async with Client(given.url, mode="2026-07-28", elicitation_callback=elicit) as client:
        calling = asyncio.ensure_future(
            client.call_tool("file.write", WRITE, progress_callback=progress)
        )
        await asyncio.wait_for(waits.wait(), 60)
        (asked,) = await given.control.approvals()
        calling.cancel()
        settled = await asyncio.wait_for(given.control.decided(asked.id), 60)

    assert asked.state == "pending"
    assert settled.state == "cancelled"
    assert not (given.workspace / "a.txt").exists()


# --- other tools -------------------------------------------------------------------------


async def test_a_session_is_told_that_there_are_other_tools(given: Given) -> None:
    told = asyncio.Event()

    async def heard(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            told.set()

    async with Client(given.url, mode="legacy", message_handler=heard) as client:
        before = {tool.name for tool in (await client.list_tools()).tools}
        given.tools.offer("web.", ())
        await asyncio.wait_for(told.wait(), 60)
        after = {tool.name for tool in (await client.list_tools()).tools}

    assert before - after == {"web.fetch", "web.search"}


async def test_who_subscribed_is_told_that_there_are_other_tools(given: Given) -> None:
    async with (
        Client(given.url, mode="2026-07-28") as client,
        client.listen(tools_list_changed=True) as changes,
    ):
        before = {tool.name for tool in (await client.list_tools()).tools}
        given.tools.offer("web.", ())
        await asyncio.wait_for(anext(aiter(changes)), 60)
        after = {tool.name for tool in (await client.list_tools()).tools}

    assert before - after == {"web.fetch", "web.search"}


async def test_the_same_tools_offered_again_are_no_news(given: Given) -> None:
    told: list[str] = []
    given.tools.watch(lambda: told.append("changed"))

    given.tools.offer("mcp.none.", ())

    assert told == []


async def test_who_subscribed_is_told_that_she_stops(given: Given) -> None:
    async with (
        Client(given.url, mode="2026-07-28") as client,
        client.listen(tools_list_changed=True) as changes,
    ):
        given.stopping.set()
        left = [change async for change in changes]

    assert left == []


# --- a line that breaks ------------------------------------------------------------------


class Line:
    """A client of the older era, by hand."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url, self._http = url, http
        self._headers = dict(ACCEPT)

    async def begin(self) -> None:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        opened = await self._http.post(self._url, json=body, headers=ACCEPT)
        self._headers["mcp-session-id"] = opened.headers["mcp-session-id"]

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        meta = {"progressToken": "p"}
        params = {"name": "file.write", "arguments": WRITE, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with self._http.stream("POST", self._url, json=body, headers=self._headers) as answer:
            yield events(answer)

    @asynccontextmanager
    async def listen(self, after: str | None = None) -> AsyncIterator[AsyncIterator[Any]]:
        more = {"last-event-id": after} if after else {}
        headers = {**self._headers, **more}
        async with self._http.stream("GET", self._url, headers=headers) as answer:
            answer.raise_for_status()
            yield events(answer)


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    event_id = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "id":
            event_id = value
        elif field == "data":
            yield event_id, msgspec.json.decode(value) if value else None


@pytest.fixture
async def line(given: Given) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
        line = Line(given.url, http)
        await line.begin()
        yield line


async def test_a_client_whose_line_broke_comes_back_for_the_rest(given: Given, line: Line) -> None:
    async with line.write() as told:
        primed, nothing = await anext(told)
        seen, progress = await anext(told)
    (asked,) = await given.control.approvals("pending")
    await given.control.settle(asked.id, approve=True, by="operator")

    async with line.listen(after=seen) as rest:
        _, answer = await anext(rest)
    async with line.listen(after=primed) as whole:
        again = [message async for _, message in whole]

    assert nothing is None
    assert progress["method"] == "notifications/progress"
    assert (answer["id"], answer["result"]["isError"]) == (1, False)
    assert again == [progress, answer]


async def test_a_client_that_does_not_come_back_takes_its_question_with_it(
    given: Given, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonia.gateway.mcp_streams.RESUME_S", 0.0)

    async with line.write() as told:
        await anext(told)
        await anext(told)
        (asked,) = await given.control.approvals("pending")
    settled = await asyncio.wait_for(given.control.decided(asked.id), 60)

    assert settled.state == "cancelled"


async def test_what_was_told_to_the_end_is_not_told_again(given: Given, line: Line) -> None:
    async with line.write() as told:
        await anext(told)
        await anext(told)
        (asked,) = await given.control.approvals("pending")
        await given.control.settle(asked.id, approve=False, by="operator")
        last, _ = await anext(told)

    with pytest.raises(httpx.HTTPStatusError, match="404"):
        async with line.listen(after=last):
            pass


@pytest.mark.parametrize("after", ["call-9.1", "call-1", "all.x", "nonsense"])
async def test_an_event_that_never_was_is_refused(line: Line, after: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        async with line.listen(after=after):
            pass


async def test_the_newest_listener_of_a_session_is_the_one_that_is_told(
    given: Given, line: Line
) -> None:
    async with line.listen() as first:
        await anext(first)
        async with line.listen() as second:
            await anext(second)
            left = [message async for _, message in first]
            given.tools.offer("web.", ())
            _, told = await anext(second)

    assert left == []
    assert told["method"] == "notifications/tools/list_changed"
