"""`WS /v1/stream/{session_id}`: turns, and what else happens in the session, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sonia.config import ApiGateway, EvaOs, MemoryEngine, OpenClaw
from sonia.control import Control, open_control
from sonia.db import open_database
from sonia.errors import Unauthorized
from sonia.events import Bus, ReminderDue
from sonia.gateway import open_turns
from sonia.gateway.session_stream import MOST_WAITING, stream_routes
from sonia.memory import open_memory
from sonia.tools import open_tools
from sonia.types import ToolCall, now
from tests.memory_given import MIGRATIONS
from tests.scripted import ScriptedRouter, Step
from tests.serving import serving

WRITE = ToolCall(id="c", name="file.write", arguments={"path": "a.txt", "content": "x"})
OPERATOR = {"Authorization": "Bearer operator"}


class Operator:
    """One token."""

    def check(self, authorization: str | None) -> None:
        if authorization != "Bearer operator":
            raise Unauthorized("The operator's token is missing.")


class Desk(msgspec.Struct):
    """A server with the sessions `s1` and `s2`, and what is behind it."""

    url: str
    control: Control
    bus: Bus
    workspace: Path
    router: ScriptedRouter

    @asynccontextmanager
    async def at(self, session: str, **headers: str) -> AsyncIterator[Client]:
        """A client that was greeted."""
        url = f"{self.url.replace('http', 'ws')}/v1/stream/{session}"
        async with connect(url, additional_headers=headers) as socket:
            client = Client(socket)
            await client.until("session.start")
            yield client


class Client:
    """A socket, and what came."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.came: list[dict[str, Any]] = []

    async def send(self, kind: str, **data: Any) -> None:
        await self.socket.send(msgspec.json.encode({"type": kind, "data": data}), text=True)

    async def until(self, kind: str, **having: Any) -> dict[str, Any]:
        """The data of the next frame of this type in which all of `having` stands."""
        async with asyncio.timeout(30):
            while True:
                frame = msgspec.json.decode(await self.socket.recv())
                self.came.append(frame)
                if frame["type"] == kind and having.items() <= frame["data"].items():
                    return dict(frame["data"])


@asynccontextmanager
async def desk(folder: Path, *scripts: list[Step]) -> AsyncIterator[Desk]:
    router, bus, operator = ScriptedRouter(*scripts), Bus(), Operator()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        db = await enter(open_database(folder / "data" / "sonia.db", MIGRATIONS))
        control = await enter(open_control(EvaOs(), db, bus=bus))
        memory = await enter(
            open_memory(MemoryEngine(), db, router.embeddings, bus, folder / "data" / "text")
        )
        tools = await enter(open_tools(OpenClaw(), control, db, folder / "workspace"))
        stack.callback(control.plan_with(tools))
        config = ApiGateway(recall_budget_ms=5000)
        turns = await enter(open_turns(config, router=router, memory=memory, tools=tools, bus=bus))
        for session in ("s1", "s2"):
            await memory.open_session(session)
        routes = stream_routes(turns, memory, control, operator, bus)  # type: ignore[arg-type]
        url = await enter(serving(routes))
        yield Desk(url, control, bus, folder / "workspace", router)


def reminder(text: str, session: str) -> ReminderDue:
    return ReminderDue(task_id="t", user_id="owner", text=text, at=now(), session_id=session)


async def test_a_turn_is_told_as_it_goes(tmp_path: Path) -> None:
    async with desk(tmp_path, ["Good ", "evening."]) as given, given.at("s1") as client:
        await client.send("message", text="Hello")
        done = await client.until("response.done")

    pieces = [frame["data"]["text"] for frame in client.came if frame["type"] == "response.delta"]
    assert "".join(pieces) == "Good evening."
    assert done["data"]["session_id"] == "s1"
    assert {frame["session_id"] for frame in client.came} == {"s1"}
    assert all(frame["timestamp"].endswith("Z") for frame in client.came)


async def test_every_socket_of_the_session_is_told_of_its_approvals_and_no_other(
    tmp_path: Path,
) -> None:
    async with (
        desk(tmp_path, [WRITE], ["Written."], ["Hello."]) as given,
        given.at("s1") as asking,
        given.at("s1", **OPERATOR) as watching,
        given.at("s2") as other,
    ):
        await asking.send("MESSAGE", text="Write a file.")
        asked = await watching.until("approval.changed", state="pending")
        await watching.send("APPROVE", approval_id=asked["approval_id"])
        answered = await watching.until("approval.changed", state="approved")
        await watching.until("approval.changed", state="consumed")
        await asking.until("response.done")
        await other.send("MESSAGE", text="Hello")
        await other.until("response.done")

        assert (given.workspace / "a.txt").read_text() == "x"
    assert (asked["tool"], answered["by"]) == ("file.write", "stream")
    assert "a.txt" in asked["preview"]
    assert "approval.required" in [frame["type"] for frame in asking.came]
    assert not [frame for frame in other.came if frame["type"].startswith("approval")]


async def test_an_approval_that_ends_without_an_answer_is_told_with_the_reason(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as given, given.at("s1") as client:
        arguments = {"path": "a.txt", "content": "x"}
        first = await given.control.gate("file.write", arguments, session_id="s1")
        await given.control.gate("file.write", arguments, session_id="s1")
        await given.control.set_mode("operator", by="test")
        ended = await client.until("approval.changed", state="cancelled")

    states = [frame["data"]["state"] for frame in client.came[1:]]
    assert states == ["pending", "cancelled"]  # the second question is the first
    assert ended["approval_id"] == first.approval_id
    assert ended["why"] == "The mode changed."


async def test_t12_approving_takes_the_operators_token(tmp_path: Path) -> None:
    async with desk(tmp_path) as given, given.at("s1") as client:
        asked = await given.control.gate(
            "file.write", {"path": "a.txt", "content": "x"}, session_id="s1"
        )
        for kind in ("APPROVE", "DENY"):
            await client.send(kind, approval_id=asked.approval_id)
            assert (await client.until("error"))["error"]["code"] == "unauthorized"

        assert [one.state for one in await given.control.approvals()] == ["pending"]


async def test_a_reminder_of_the_session_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as given, given.at("s1") as client:
        for session in ("s2", "s1"):
            await given.bus.publish(reminder(f"Tea, {session}", session))
        told = await client.until("reminder.due")

    assert told["text"] == "Tea, s1"


async def test_one_answer_at_a_time_and_a_cancelled_one_is_left(tmp_path: Path) -> None:
    async with (
        desk(tmp_path, ["Well, ", asyncio.Event()], ["Bye."]) as given,
        given.at("s1") as client,
    ):
        await client.send("MESSAGE", text="Tell me a story.")
        await client.until("response.delta")
        await client.send("MESSAGE", text="Another.")
        refused = await client.until("error")
        await client.send("CANCEL")
        await client.until("cancelled")
        await client.send("MESSAGE", text="Goodbye")
        done = await client.until("response.done")

        assert given.router.cancelled == 1
    assert refused["error"]["code"] == "conflict"
    assert done["data"]["response"] == "Bye."


async def test_a_client_that_goes_away_leaves_its_turn(tmp_path: Path) -> None:
    async with desk(tmp_path, ["Well, ", asyncio.Event()]) as given:
        async with given.at("s1") as client:
            await client.send("MESSAGE", text="Tell me a story.")
            await client.until("response.delta")
        async with asyncio.timeout(30):
            await given.router.left.wait()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("", "one JSON object"),
        ("[1]", "JSON object"),
        ('{"type": 1}', "JSON object"),
        ('{"type": "SING"}', "There are MESSAGE"),
        ('{"type": "MESSAGE", "data": 3}', "JSON object"),
        ('{"type": "MESSAGE", "data": {}}', "text"),
        ('{"type": "MESSAGE", "data": {"text": "a", "texts": 1}}', "texts"),
        ('{"type": "MESSAGE", "data": {"text": ""}}', "text"),
        ("[" * 90_000, "one JSON object"),
        (b"\xff\xfe", "one JSON object"),
    ],
)
async def test_a_message_that_is_none_is_told_and_the_socket_stays(
    tmp_path: Path, raw: str | bytes, says: str
) -> None:
    async with desk(tmp_path, ["Here."]) as given, given.at("s1") as client:
        await client.socket.send(raw)
        error = await client.until("error")
        await client.send("MESSAGE", text="Are you there?")
        await client.until("response.done")

    assert says in error["error"]["message"]


async def test_a_session_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as given:
        with pytest.raises(ConnectionClosed) as closed:
            async with given.at("nowhere"):
                pass

    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1008


async def test_who_reads_too_slowly_is_let_go(tmp_path: Path) -> None:
    async with desk(tmp_path) as given:
        url = f"{given.url.replace('http', 'ws')}/v1/stream/s1"
        async with connect(url, max_queue=1, compression=None) as socket:
            await socket.recv()
            for _ in range(MOST_WAITING * 2):
                await given.bus.publish(reminder("x" * 60_000, "s1"))
            with suppress(ConnectionClosed):
                async with asyncio.timeout(30):
                    while True:
                        await socket.recv()

    assert socket.close_code == 1013
