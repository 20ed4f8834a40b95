"""Sonia's ears, voice and answers over the Wyoming protocol, with its own client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeVoice

from sonia.config import Pipecat
from sonia.errors import ConfigurationError, UpstreamError
from sonia.turn import ResponseDelta, TurnEvent, TurnRequest, TurnStarted
from sonia.voice import Speech, open_home
from sonia.voice.wyoming import open_wyoming
from tests.voice_given import ScriptedTranscriber, scripted_speech, sound


class Echo:
    """A `Responder` that says again what it heard; `waiting` holds it."""

    def __init__(self) -> None:
        self.requests: list[TurnRequest] = []
        self.waiting: asyncio.Event | None = None
        self.began, self.left = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def turn(self, request: TurnRequest) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        self.requests.append(request)

        async def events() -> AsyncIterator[TurnEvent]:
            yield TurnStarted(turn_id="turn_1", session_id=request.session_id or "ses_1")
            self.began.set()
            if self.waiting:
                await self.waiting.wait()
            for word in ("You said: ", request.text):
                yield ResponseDelta(turn_id="turn_1", text=word)

        try:
            yield events()
        finally:
            self.left.set()


@asynccontextmanager
async def serving(
    speech: Speech | None = None, responder: Echo | None = None, longest_s: float = 60
) -> AsyncIterator[AsyncTcpClient]:
    opened = open_wyoming(
        speech or scripted_speech(),
        responder or Echo(),
        "127.0.0.1",
        0,
        voice="af_heart",
        longest_s=longest_s,
    )
    async with opened as port, AsyncTcpClient("127.0.0.1", port) as client:
        yield client


async def reads(client: AsyncTcpClient, kind: str) -> Event:
    async with asyncio.timeout(60):
        event = await client.read_event()
    assert event is not None
    assert event.type == kind, event
    return event


async def speaks(client: AsyncTcpClient, rate: int = 16_000, channels: int = 1) -> None:
    form: dict[str, Any] = {"rate": rate, "width": 2, "channels": channels}
    pcm = (np.repeat(sound(500, rate), channels) * 32767).astype("<i2").tobytes()
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**form).event())
    half = len(pcm) // 4 * 2
    for part in (pcm[:half], pcm[half:]):
        await client.write_event(AudioChunk(audio=part, **form).event())
    await client.write_event(AudioStop().event())


async def test_what_is_served_is_described() -> None:
    async with serving() as client:
        await client.write_event(Describe().event())

        info = Info.from_event(await reads(client, "info"))

    assert [model.name for program in info.asr for model in program.models] == ["scripted"]
    assert [voice.name for program in info.tts for voice in program.voices] == ["af_heart"]
    assert [program.name for program in info.handle] == ["sonia"]
    assert "en" in info.asr[0].models[0].languages


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
async def test_sound_is_written_down(rate: int, channels: int) -> None:
    ears = ScriptedTranscriber("turn on the light")
    async with serving(scripted_speech(ears)) as client:
        await speaks(client, rate, channels)

        heard = Transcript.from_event(await reads(client, "transcript"))

    assert heard.text == "turn on the light"
    assert ears.lengths_s == [pytest.approx(0.5, abs=0.01)]


async def test_text_is_spoken() -> None:
    async with serving() as client:
        asked = Synthesize(text="three small words", voice=SynthesizeVoice(name="af_heart"))
        await client.write_event(asked.event())

        start = AudioStart.from_event(await reads(client, "audio-start"))
        pcm = b""
        while (event := await client.read_event()) and event.type == "audio-chunk":
            pcm += AudioChunk.from_event(event).audio

    assert (start.rate, start.width, start.channels) == (24_000, 2, 1)
    assert event is not None
    assert event.type == "audio-stop"
    assert len(pcm) / 2 / 24_000 == pytest.approx(0.6, abs=0.01)


async def test_what_was_heard_is_answered_in_one_session() -> None:
    turns = Echo()
    async with serving(responder=turns) as client:
        for text in ("hello", "again"):
            await client.write_event(Transcript(text=text).event())
            handled = await reads(client, "handled")

    assert handled.data["text"] == "You said: again"
    assert handled.data["context"] == {"session_id": "ses_1"}
    assert [request.session_id for request in turns.requests] == [None, "ses_1"]


async def test_a_client_that_leaves_ends_what_it_waited_for() -> None:
    turns = Echo()
    turns.waiting = asyncio.Event()
    opened = open_wyoming(scripted_speech(), turns, "127.0.0.1", 0, voice="af_heart", longest_s=60)
    async with opened as port:
        client = AsyncTcpClient("127.0.0.1", port)
        await client.connect()
        await client.write_event(Transcript(text="hello").event())
        await turns.began.wait()

        await client.disconnect()

        async with asyncio.timeout(60):
            await turns.left.wait()


async def test_an_engine_that_fails_is_told_and_the_connection_goes_on() -> None:
    ears = ScriptedTranscriber()
    ears.failing = UpstreamError("The weights can't be had.")
    async with serving(scripted_speech(ears)) as client:
        await speaks(client)
        error = await reads(client, "error")
        await client.write_event(Ping(text="still there").event())
        pong = await reads(client, "pong")

    assert error.data == {"text": "The weights can't be had.", "code": "upstream_error"}
    assert pong.data["text"] == "still there"


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b'{"no": "type"}\n',
        b'{"type": "ping", "payload_length": 99999999999}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b"[" * 70_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
async def test_what_is_no_event_is_refused_and_the_connection_closed(line: bytes) -> None:
    opened = open_wyoming(scripted_speech(), Echo(), "127.0.0.1", 0, voice="af_heart", longest_s=60)
    async with opened as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line)
        async with asyncio.timeout(60):
            said = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert b'"error"' in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": "high", "width": 2, "channels": 1},
        {"rate": 16_000, "width": 4, "channels": 1},
        {"rate": 0, "width": 2, "channels": 1},
        {"rate": 16_000, "width": 2, "channels": 0},
        {},
    ],
)
async def test_sound_of_a_wrong_form_is_refused(wrong: dict[str, Any]) -> None:
    async with serving() as client:
        await client.write_event(Event(type="audio-start", data=wrong))

        error = await reads(client, "error")

    assert error.data["code"] == "invalid_request"


async def test_sound_that_is_too_long_is_refused() -> None:
    async with serving(longest_s=0.3) as client:
        await client.write_event(Transcribe().event())
        pcm = (sound(500) * 32767).astype("<i2").tobytes()
        await client.write_event(AudioChunk(audio=pcm, rate=16_000, width=2, channels=1).event())

        error = await reads(client, "error")

    assert error.data["text"] == "The sound is longer than 0.3 s."


async def test_nothing_listens_unless_a_port_is_given() -> None:
    async with open_home(Pipecat(), scripted_speech(), Echo()) as port:
        assert port is None


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = Pipecat(wyoming_port=taken.getsockname()[1])

        with pytest.raises(ConfigurationError, match=r"services\.pipecat\.wyoming_port"):
            async with open_home(config, scripted_speech(), Echo()):
                pass
