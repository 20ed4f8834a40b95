"""One socket's conversation, with a responder that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sonia.app import MIGRATIONS
from sonia.config import Pipecat
from sonia.db import Database, open_database
from sonia.errors import Unavailable
from sonia.turn import (
    MemoryUse,
    Provenance,
    Reached,
    Reply,
    ResponseDelta,
    TurnDone,
    TurnEvent,
    TurnRequest,
    TurnStarted,
)
from sonia.types import Usage
from sonia.voice import StartSession, TalkingSessions, VoiceSessionNotFound, open_voice
from sonia.voice.interface import Frame, SessionTaken, TooManySessions
from tests.voice_given import Unasked, scripted_speech


class Echo:
    """Answers with the words that it was given, one by one; `held` stops it after the first."""

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.held.set()
        self.failing: Exception | None = None
        self.cancelled = 0
        self.requests: list[TurnRequest] = []
        self.expected: list[str] = []
        self.understood: asyncio.Queue[str] = asyncio.Queue()

    def soon(self) -> None:
        pass

    async def expect(self, session_id: str, *, user_id: str = "owner", so_far: str = "") -> None:
        if so_far:
            self.understood.put_nowait(so_far)
        else:
            self.expected.append(session_id)

    @asynccontextmanager
    async def turn(
        self, request: TurnRequest, *, reached: Reached | None = None
    ) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        self.requests.append(request)
        try:
            yield self._events(request, reached)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _events(
        self, request: TurnRequest, reached: Reached | None
    ) -> AsyncIterator[TurnEvent]:
        session_id = request.session_id or ""
        yield TurnStarted(turn_id="turn_1", session_id=session_id)
        if self.failing:
            raise self.failing
        for word in request.text.split():
            yield ResponseDelta(turn_id="turn_1", text=f"{word} ")
            await self.held.wait()
        if reached is not None:
            await reached()
        reply = Reply(
            response="".join(f"{word} " for word in request.text.split()),
            session_id=session_id,
            turn_id="turn_1",
            model="echo",
            provider="test",
            usage=Usage(),
            cost_usd=0.0,
            memory=MemoryUse(),
            tool_calls=(),
            provenance=Provenance(),
        )
        yield TurnDone(turn_id="turn_1", data=reply)


class Line:
    """The other end of the socket."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.sound = b""
        self._got = asyncio.Condition()

    async def __call__(self, frame: Frame | bytes) -> None:
        if isinstance(frame, bytes):
            async with self._got:
                self.sound += frame
                self._got.notify_all()
        else:
            await self.frames.put(frame)

    async def until_sound(self, size: int) -> None:
        """Wait for so many bytes of her voice."""
        async with self._got:
            await self._got.wait_for(lambda: len(self.sound) >= size)

    async def more_sound(self) -> None:
        """Wait for any more of her voice."""
        async with self._got:
            await asyncio.wait_for(self._got.wait(), 60)

    async def until(self, kind: str) -> list[Frame]:
        heard: list[Frame] = []
        while not heard or heard[-1].type != kind:
            heard.append(await self.frames.get())
        return heard


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as opened:
        yield opened


@pytest.fixture
async def voice(echo: Echo, db: Database) -> AsyncIterator[TalkingSessions]:
    async with open_voice(
        Pipecat(max_sessions=2), echo, scripted_speech(), db, Unasked()
    ) as opened:
        yield opened


@pytest.fixture
def line() -> Line:
    return Line()


def message(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


async def test_a_message_is_answered_in_deltas_and_then_whole(
    voice: TalkingSessions, line: Line
) -> None:
    session = await voice.start(StartSession(), ws_url="ws://x/{session_id}")
    conversation = voice.conversation(session, line)

    await conversation.hear(message("message", text="well met"))
    frames = await line.until("TURN_METRICS")

    texts = [frame.data["text"] for frame in frames if frame.type == "RESPONSE_DELTA"]
    assert texts == ["well ", "met "]
    assert [frame.type for frame in frames][-2:] == ["MESSAGE", "TURN_METRICS"]
    assert session.ws_url == f"ws://x/{session.session_id}"


async def test_an_interruption_cancels_the_turn_and_tells_what_was_sent(
    voice: TalkingSessions, line: Line, echo: Echo
) -> None:
    conversation = voice.conversation(await voice.start(StartSession(), ws_url=""), line)
    echo.held.clear()
    await conversation.hear(message("MESSAGE", text="one two three"))
    await line.until("RESPONSE_DELTA")

    await conversation.hear(message("INTERRUPT"))
    frames = await line.until("INTERRUPTED")

    assert frames[-1].data == {"spoken_text": "one "}
    assert echo.cancelled == 1


async def test_a_second_message_interrupts_the_first_answer(
    voice: TalkingSessions, line: Line, echo: Echo
) -> None:
    conversation = voice.conversation(await voice.start(StartSession(), ws_url=""), line)
    echo.held.clear()
    await conversation.hear(message("MESSAGE", text="one two"))
    await line.until("RESPONSE_DELTA")
    echo.held.set()

    await conversation.hear(message("MESSAGE", text="three"))
    frames = await line.until("MESSAGE")

    assert [frame.type for frame in frames] == ["INTERRUPTED", "RESPONSE_DELTA", "MESSAGE"]
    assert frames[-1].data["text"] == "three "


async def test_a_failed_answer_does_not_end_the_session(
    voice: TalkingSessions, line: Line, echo: Echo
) -> None:
    conversation = voice.conversation(await voice.start(StartSession(), ws_url=""), line)
    echo.failing = Unavailable("The model is resting.")
    await conversation.hear(message("MESSAGE", text="hello"))
    failed = await line.until("ERROR")
    echo.failing = None

    await conversation.hear(message("MESSAGE", text="hello"))

    assert failed[-1].data["message"] == "The model is resting."
    assert (await line.until("MESSAGE"))[-1].data["text"] == "hello "


MALFORMED: list[str | bytes] = [
    "",
    "{",
    "[]",
    "null",
    '{"type": 5}',
    '{"type": "DANCE"}',
    '{"type": "MESSAGE"}',
    '{"type": "MESSAGE", "data": {"text": ""}}',
    '{"type": "MESSAGE", "data": {"text": 7}}',
    '{"type": "MESSAGE", "data": "hello"}',
    json.dumps({"type": "MESSAGE", "data": {"text": "x" * 40_000}}),
    "[" * 100_000,
    '{"type": "\\ud800"}',
    b"\x00\x01\x02",
    '{"type": "AUDIO"}',
    '{"type": "AUDIO", "data": {"audio": "AAA"}}',
    '{"type": "AUDIO", "data": {"audio": "AA==\\n"}}',
]


@pytest.mark.parametrize("raw", MALFORMED, ids=[str(raw)[:30] for raw in MALFORMED])
async def test_a_malformed_message_is_told_and_the_socket_lives(
    voice: TalkingSessions, line: Line, echo: Echo, raw: str | bytes
) -> None:
    conversation = voice.conversation(await voice.start(StartSession(), ws_url=""), line)

    await conversation.hear(raw)
    await conversation.hear(message("PING"))

    frames = await line.until("PONG")
    assert [frame.type for frame in frames] == ["ERROR", "PONG"]
    assert frames[0].data["code"] == "invalid_request"
    assert echo.requests == []


async def test_more_sessions_than_allowed_are_refused_until_one_stops(
    voice: TalkingSessions,
) -> None:
    first = await voice.start(StartSession(), ws_url="")
    await voice.start(StartSession(), ws_url="")
    with pytest.raises(TooManySessions):
        await voice.start(StartSession(), ws_url="")

    await voice.stop(first.session_id)

    assert (await voice.start(StartSession(), ws_url="")).state == "ACTIVE"


async def test_a_session_has_one_socket_at_a_time(voice: TalkingSessions, line: Line) -> None:
    session = await voice.start(StartSession(), ws_url="")
    conversation = voice.conversation(session, line)

    async with voice.talk(session.session_id, conversation):
        with pytest.raises(SessionTaken):
            async with voice.talk(session.session_id, conversation):
                pass
        connected = (await voice.session(session.session_id)).connected

    assert connected
    assert not (await voice.session(session.session_id)).connected


async def test_t50_a_stopped_session_can_not_be_talked_in_again(
    voice: TalkingSessions, line: Line
) -> None:
    session = await voice.start(StartSession(), ws_url="")
    conversation = voice.conversation(session, line)
    await voice.stop(session.session_id)

    with pytest.raises(VoiceSessionNotFound):
        async with voice.talk(session.session_id, conversation):
            pass


async def test_stopping_a_session_cancels_its_answer_and_says_goodbye(
    voice: TalkingSessions, line: Line, echo: Echo
) -> None:
    session = await voice.start(StartSession(), ws_url="")
    conversation = voice.conversation(session, line)
    echo.held.clear()
    async with voice.talk(session.session_id, conversation):
        await conversation.hear(message("MESSAGE", text="one two"))
        await line.until("RESPONSE_DELTA")

        closed = await voice.stop(session.session_id)

    assert closed.state == "CLOSED"
    assert (await line.until("SESSION_STOP"))[-1].data == {"reason": "stopped"}
    assert echo.cancelled == 1
    assert conversation.stopped.is_set()
