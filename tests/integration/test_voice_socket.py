"""The voice socket against clients that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sonia.config import Pipecat
from sonia.db import Database
from sonia.voice import StartSession, TalkingSessions, open_voice
from sonia.voice.http import routes
from sonia.voice.speech import to_pcm
from tests.serving import serving
from tests.unit.test_voice_conversation import Echo, db, echo
from tests.voice_given import Unasked, scripted_speech, silence, sound

__all__ = ["db", "echo"]  # fixtures
WS = Path(__file__).parents[3] / "shared" / "data" / "security" / "ws"
CASES = json.loads((WS / "autobahn_server_cases.json").read_text(encoding="utf-8"))["cases"]
# A close in the middle of a fragmented message: the library calls that an error of protocol, too.
STRICTER = {"7.1.5": 1002}
GROUPS = sorted({case["id"].split(".")[0] for case in CASES})
TEXT, BINARY, CLOSE, PONG = 1, 2, 8, 10
LIMIT_BYTES = 1_048_576
PATIENCE_S = 60


@websocket("/echo")
async def echoing(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            message: Any = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


class Place(msgspec.Struct, frozen=True):
    """Where to talk."""

    voice: TalkingSessions
    url: str

    async def session(self, **asked: Any) -> str:
        """A new one; the path of its socket."""
        start = msgspec.convert({"sample_rate": 16_000, **asked}, StartSession)
        return f"/v1/voice/ws/{(await self.voice.start(start, ws_url='')).session_id}"

    async def free(self, path: str) -> None:
        """Return when nobody is connected to this session."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.voice.session(path.rsplit("/", 1)[1])).connected:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def talk(self, path: str) -> connect:
        return connect(self.url.replace("http", "ws") + path, proxy=None)


@asynccontextmanager
async def place(echo: Echo, db: Database, **settings: Any) -> AsyncIterator[Place]:
    speech = scripted_speech()
    async with open_voice(Pipecat(max_sessions=300), echo, speech, db, Unasked()) as voice:
        sockets = {"ws_max_size": LIMIT_BYTES, "ws_per_message_deflate": False, **settings}
        async with serving([routes(voice, speech), echoing], sockets=sockets) as url:
            yield Place(voice, url)


class Raw:
    """A client that sends what bytes it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.got: list[tuple[int, bytes]] = []

    def frame(self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> None:
        self.header(opcode, len(payload), fin=fin, rsv=rsv)
        self.data(payload)

    def header(self, opcode: int, size: int, *, fin: bool = True, rsv: int = 0) -> None:
        head = bytes([fin << 7 | rsv << 4 | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += (
                struct.pack(">BH", 0xFE, size) if size < 65536 else struct.pack(">BQ", 0xFF, size)
            )
        self.data(head + bytes(4))  # the mask of zeros changes nothing

    def data(self, payload: bytes) -> None:
        self.writer.write(payload)

    async def next(self) -> bool:
        """Take one frame; False when the server has ended the connection."""
        try:
            first, size = await self.reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            self.got.append((first & 15, await self.reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            return False
        return True

    async def to_the_end(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.next():
                pass

    def closed_with(self) -> int | None:
        codes = [struct.unpack(">H", data[:2])[0] for op, data in self.got if op == CLOSE and data]
        return codes[0] if codes else None


@asynccontextmanager
async def raw(url: str, path: str) -> AsyncIterator[Raw]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert b" 101 " in head
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def send(client: Raw, step: dict[str, Any]) -> None:
    """One step of a case; waiting changes nothing in the order of bytes."""
    match step["op"]:
        case "frame":
            payload = base64.b64decode(step["payload"] or "")
            if step["repeat"]:
                pattern, size = base64.b64decode(step["repeat"][0]), step["repeat"][1]
                payload = (pattern * (size // len(pattern) + 1))[:size]
            client.frame(step["opcode"], payload, fin=step["fin"], rsv=step["rsv"])
        case "frame_header":
            client.header(step["opcode"], step["length"])
        case "frame_data":
            client.data(base64.b64decode(step["payload"]))
        case "close":
            code = b"" if step["code"] is None else struct.pack(">H", step["code"])
            client.frame(CLOSE, code + base64.b64decode(step["reason"] or ""))
        case _:
            pass


def events(client: Raw) -> list[list[Any]]:
    """What came back, as the cases write it."""
    told: list[list[Any]] = []
    for opcode, payload in client.got:
        data = base64.b64encode(payload).decode()
        if opcode in (TEXT, BINARY):
            told.append(["message", data, opcode == BINARY])
        elif opcode == PONG:
            told.append(["pong", data])
    return told


def awaited(case: dict[str, Any]) -> list[list[list[Any]]]:
    """Each answer that is right."""
    return [[e for e in variant if e[0] != "timeout"] for variant in case["expect"].values()]


async def play(case: dict[str, Any], client: Raw, *, echoed: bool) -> str:
    """What was wrong, if anything."""
    for step in case["send"]:
        send(client, step)
    by_us = case["expect_close"]["closedByMe"]
    right = awaited(case)
    async with asyncio.timeout(PATIENCE_S):
        while echoed and by_us and len(client.got) < len(right[0]) and await client.next():
            pass
    if by_us and not any(step["op"] == "close" for step in case["send"]):
        client.frame(CLOSE, struct.pack(">H", 1000))
    await client.to_the_end()
    code = client.closed_with()
    if case["informational"] or (code and code == STRICTER.get(case["id"])):
        return ""  # the standard leaves it open
    if code is not None and code not in case["expect_close"]["closeCode"]:
        return f"{case['id']}: closed with {code}"
    clean = any(opcode == CLOSE for opcode, _ in client.got)
    if not clean and case["expect_close"]["requireClean"]:
        return f"{case['id']}: not closed cleanly"
    if echoed and by_us and not case["custom"] and events(client) not in right:
        return f"{case['id']}: {events(client)}"
    return ""


@pytest.mark.parametrize("group", GROUPS)
async def test_t39_no_frame_is_dealt_with_otherwise_than_the_standard_says(
    echo: Echo, db: Database, group: str
) -> None:
    wrong: list[str] = []
    async with place(echo, db) as here:
        for case in CASES:
            if case["id"].split(".")[0] == group:
                async with raw(here.url, "/v1/echo") as client:
                    wrong.append(await play(case, client, echoed=True))

    assert [one for one in wrong if one] == []


async def test_t39_no_frame_ends_more_than_its_own_voice_session(echo: Echo, db: Database) -> None:
    wrong: list[str] = []
    async with place(echo, db) as here:
        for case in CASES:
            if not any(step.get("opcode") == BINARY for step in case["send"]):
                async with raw(here.url, await here.session()) as client:
                    wrong.append(await play(case, client, echoed=False))
        async with here.talk(await here.session()) as socket:
            await socket.send(json.dumps({"type": "PING"}))
            answers = [json.loads(await socket.recv())["type"] for _ in range(3)]

    assert [one for one in wrong if one] == []
    assert answers == ["SESSION_START", "STATUS", "PONG"]


async def test_t39_a_message_of_100_mb_is_refused_before_it_is_there(
    echo: Echo, db: Database
) -> None:
    async with place(echo, db) as here:
        path = await here.session()
        async with raw(here.url, path) as client:
            client.header(BINARY, 100_000_000)
            await client.to_the_end()

        assert client.closed_with() == 1009
        await here.free(path)
        async with here.talk(path) as socket:
            assert json.loads(await socket.recv())["type"] == "SESSION_START"


async def test_r15_who_answers_no_ping_is_dropped_and_the_session_is_free(
    echo: Echo, db: Database
) -> None:
    async with place(echo, db, ws_ping_interval=0.05, ws_ping_timeout=0.05) as here:
        path = await here.session()
        async with raw(here.url, path) as client:
            await client.to_the_end()
        await here.free(path)

        assert (await here.voice.probe())["connected"] == 0


async def test_a_second_socket_in_a_session_is_refused_and_the_first_goes_on(
    echo: Echo, db: Database
) -> None:
    async with place(echo, db) as here:
        path = await here.session()
        async with here.talk(path) as first:
            await first.recv()
            async with here.talk(path) as second:
                with pytest.raises(ConnectionClosed) as refused:
                    await second.recv()
            await first.send(json.dumps({"type": "PING"}))
            await first.recv()
            pong = json.loads(await first.recv())

    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 1008
    assert "Another socket" in refused.value.rcvd.reason
    assert pong["type"] == "PONG"


async def test_who_is_cut_off_in_the_middle_of_a_word_talks_on_in_the_same_session(
    echo: Echo, db: Database
) -> None:
    async with place(echo, db) as here:
        path = await here.session()
        async with raw(here.url, path) as client:
            client.frame(BINARY, to_pcm(sound(500)))
            client.header(BINARY, 6400)
            client.data(b"\x01\x02\x03")
            while not any(b"SPEECH_STARTED" in payload for _, payload in client.got):
                assert await asyncio.wait_for(client.next(), PATIENCE_S)
        await here.free(path)
        async with here.talk(path) as socket:
            await socket.send(to_pcm(np.concatenate([sound(800), silence(600)])))
            told: list[str] = []
            while "MESSAGE" not in told:
                got = await asyncio.wait_for(socket.recv(), PATIENCE_S)
                if isinstance(got, str):
                    told.append(json.loads(got)["type"])

    assert "TRANSCRIPT" in told
    assert len(echo.requests) == 1


async def test_r16_two_hundred_idle_sockets_are_answered(echo: Echo, db: Database) -> None:
    async with place(echo, db) as here:
        paths = [await here.session() for _ in range(200)]
        async with asyncio.timeout(PATIENCE_S):
            clients = [await here.talk(path) for path in paths]
            connected = (await here.voice.probe())["connected"]
            for client in clients:
                await client.send(json.dumps({"type": "PING"}))
            told = [[json.loads(await one.recv())["type"] for _ in range(3)] for one in clients]
            await asyncio.gather(*(client.close() for client in clients))

    assert connected == 200
    assert {kinds[-1] for kinds in told} == {"PONG"}
