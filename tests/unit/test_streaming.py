"""A turn handed to a client: as events in order, and gone when the client is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sonia.client import ClientGone, while_connected
from sonia.envelope import Exchange, enter
from sonia.errors import Internal, NotFound, RateLimited
from sonia.gateway import streaming
from sonia.gateway.streaming import server_sent, whole
from sonia.turn import (
    MemoryUse,
    Provenance,
    Reply,
    ResponseDelta,
    TurnDone,
    TurnEvent,
    TurnRequest,
    TurnStarted,
)
from sonia.types import Usage

STARTED = TurnStarted(turn_id="turn_1", session_id="ses_1")
HELLO = ResponseDelta(turn_id="turn_1", text="Hel\nlo")
DONE = TurnDone(
    turn_id="turn_1",
    data=Reply(
        response="Hello",
        session_id="ses_1",
        turn_id="turn_1",
        model="local/scripted",
        provider="local",
        usage=Usage(),
        cost_usd=0.0,
        memory=MemoryUse(),
        tool_calls=(),
        provenance=Provenance(),
    ),
)

Step = TurnEvent | BaseException | asyncio.Event


class Played:
    """A turn that plays its steps: events, an error, a wait. `left` is set when it is over."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()

    @asynccontextmanager
    async def turn(self, _: TurnRequest | None = None) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        async with aclosing(self._play()) as events:
            try:
                yield events
            finally:
                self.left.set()

    async def _play(self) -> AsyncIterator[TurnEvent]:
        for step in self._steps:
            if isinstance(step, asyncio.Event):
                self.waiting.set()
                await step.wait()
            elif isinstance(step, BaseException):
                raise step
            else:
                yield step


class Client:
    """The receiving side of a connection, until `leave`."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._messages.get()


async def sent(turn: Played) -> list[tuple[str, dict[str, Any]]]:
    async with asyncio.timeout(60):
        return [parsed(chunk) async for chunk in server_sent(turn.turn())]


def parsed(chunk: bytes) -> tuple[str, dict[str, Any]]:
    first, second, *rest = chunk.decode().split("\n")
    assert first.startswith("event: ")
    assert second.startswith("data: ")
    assert rest == ["", ""]
    return first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


# --- server-sent events ----------------------------------------------------------------------


async def test_each_event_of_a_turn_is_sent_under_its_name_in_order() -> None:
    enter(Exchange(correlation_id="req_1"))

    events = await sent(Played(STARTED, HELLO, DONE))

    assert [name for name, _ in events] == ["turn.started", "response.delta", "response.done"]
    assert events[1][1] == {"turn_id": "turn_1", "text": "Hel\nlo", "correlation_id": "req_1"}
    assert events[2][1]["data"]["response"] == "Hello"


async def test_a_turn_that_fails_ends_with_an_error_event() -> None:
    limited = RateLimited("Too many at once.", limit=4)

    events = await sent(Played(STARTED, HELLO, limited))

    assert [name for name, _ in events] == ["turn.started", "response.delta", "error"]
    data = events[-1][1]
    assert data["turn_id"] == "turn_1"
    assert data["error"] == {
        "code": "rate_limited",
        "message": "Too many at once.",
        "details": {"limit": 4},
        "retryable": True,
    }


async def test_a_foreign_error_is_an_internal_one_that_says_nothing_of_its_cause() -> None:
    events = await sent(Played(STARTED, ValueError("canary-of-the-cause")))

    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["code"] == "internal"
    assert "canary" not in json.dumps(events)


async def test_details_that_json_does_not_know_do_not_hold_up_the_error() -> None:
    events = await sent(Played(NotFound("No file.", path=Path("notes.txt"))))

    assert events[-1][1]["error"]["details"] == {"path": "notes.txt"}


async def test_a_client_that_stops_reading_cancels_the_turn() -> None:
    turn = Played(STARTED, asyncio.Event(), DONE)
    stream = server_sent(turn.turn())
    await anext(stream)
    await turn.waiting.wait()

    await stream.aclose()  # type: ignore[attr-defined]

    assert turn.left.is_set()


async def test_a_reader_that_is_cancelled_cancels_the_turn() -> None:
    turn = Played(STARTED, asyncio.Event(), DONE)
    reading = asyncio.create_task(sent(turn))
    await turn.waiting.wait()

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    assert reading.cancelled()
    assert turn.left.is_set()


async def test_a_client_that_reads_slowly_holds_the_turn_back() -> None:
    reached = asyncio.Event()
    reached.set()
    turn = Played(STARTED, *[HELLO] * 1000, reached, DONE)
    stream = server_sent(turn.turn())

    await anext(stream)
    for _ in range(2000):
        await asyncio.sleep(0)

    assert not turn.waiting.is_set()
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_quiet_turn_sends_a_comment_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.01)
    go = asyncio.Event()
    stream = server_sent(Played(STARTED, go, DONE).turn())

    first, comment = await anext(stream), await anext(stream)
    go.set()
    rest = [chunk async for chunk in stream]

    assert parsed(first)[0] == "turn.started"
    assert comment == b": still here\n\n"
    assert [parsed(chunk)[0] for chunk in rest if chunk != comment] == ["response.done"]


async def test_a_turn_cancelled_from_within_ends_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.01)

    events = await sent(Played(STARTED, asyncio.CancelledError()))

    assert [name for name, _ in events] == ["turn.started"]


# --- one answer ------------------------------------------------------------------------------


async def test_a_whole_turn_is_its_reply() -> None:
    turn = Played(STARTED, HELLO, DONE)

    assert await whole(turn, TurnRequest(text="hi")) == DONE.data
    assert turn.left.is_set()


async def test_a_turn_without_a_reply_is_our_fault() -> None:
    with pytest.raises(Internal, match="without a reply"):
        await whole(Played(STARTED, HELLO), TurnRequest(text="hi"))


async def test_work_that_ends_while_the_client_is_there_is_returned() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await while_connected(Client().receive, work()) == "done"


async def test_work_that_fails_fails_as_it_is() -> None:
    async def work() -> str:
        raise NotFound("No such session.")

    with pytest.raises(NotFound, match="No such session"):
        await while_connected(Client().receive, work())


async def test_a_client_that_leaves_cancels_the_work_before_it_is_told() -> None:
    client = Client()
    turn = Played(STARTED, asyncio.Event(), DONE)

    async def answered() -> tuple[int, bool]:
        try:
            await while_connected(client.receive, whole(turn, TurnRequest(text="hi")))
        except ClientGone as gone:
            return gone.status, turn.left.is_set()
        raise AssertionError("nobody was told")

    answering = asyncio.create_task(answered())
    await turn.waiting.wait()
    client.leave()

    assert await answering == (499, True)


async def test_a_handler_that_is_cancelled_cancels_its_work() -> None:
    turn = Played(STARTED, asyncio.Event(), DONE)
    answering = asyncio.create_task(
        while_connected(Client().receive, whole(turn, TurnRequest(text="hi")))
    )
    await turn.waiting.wait()

    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)

    assert answering.cancelled()
    assert turn.left.is_set()
