"""Voice's routes: sessions over REST, and the socket."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request, Router, WebSocket, get, post, websocket
from litestar.exceptions import WebSocketDisconnect, WebSocketException
from litestar.params import FromPath, JSONBody

from sonia.envelope import Envelope, answer
from sonia.errors import InvalidRequest, SoniaError
from sonia.types import Value
from sonia.voice.conversation import Conversation
from sonia.voice.interface import Frame, StartSession, VoiceSession
from sonia.voice.service import TalkingSessions, no_such_session
from sonia.voice.speech import Speech, VoiceInfo
from sonia.voice.spoken_turns import SpokenTurn
from sonia.whose import check_theirs, whose

GOING_AWAY = 1001
POLICY = 1008


class StopBody(Value):
    """`POST /session/stop`; the id may stand in the query instead."""

    session_id: str


def routes(voice: TalkingSessions, speech: Speech) -> Router:
    """Voice's handlers, below `/voice`."""

    @post("/session/start", status_code=200)
    async def session_start(
        request: Request[Any, Any, Any], data: JSONBody[StartSession | None] = None
    ) -> Envelope[VoiceSession]:
        host = request.headers.get("host", "localhost")
        url = f"ws://{host}/voice/ws/{{session_id}}"
        wanted = data or StartSession()
        wanted = msgspec.structs.replace(wanted, user_id=whose(wanted.user_id))
        return answer(await voice.start(wanted, ws_url=url))

    @get("/session/{session_id:str}")
    async def session(session_id: FromPath[str]) -> Envelope[VoiceSession]:
        return answer(await _theirs(voice, session_id))

    @get("/session/{session_id:str}/turns")
    async def session_turns(session_id: FromPath[str]) -> Envelope[tuple[SpokenTurn, ...]]:
        turns = await voice.turns(session_id)
        if turns:
            check_theirs(turns[0].user_id, no_such_session(session_id))
        else:
            await _theirs(voice, session_id)
        return answer(turns)

    @post("/session/stop", status_code=200)
    async def session_stop(
        request: Request[Any, Any, Any], data: JSONBody[StopBody | None] = None
    ) -> Envelope[VoiceSession]:
        session_id = data.session_id if data else request.query_params.get("session_id")
        if not session_id:
            raise InvalidRequest("Give session_id, in the body or in the query.")
        await _theirs(voice, session_id)
        return answer(await voice.stop(session_id))

    @post("/session/{session_id:str}/interrupt", status_code=200)
    async def session_interrupt(session_id: FromPath[str]) -> Envelope[VoiceSession]:
        await _theirs(voice, session_id)
        return answer(await voice.interrupt(session_id))

    @websocket(["/ws/{session_id:str}", "/stream/{session_id:str}"])
    async def talk(socket: WebSocket[Any, Any, Any], session_id: FromPath[str]) -> None:
        await _talk(voice, socket, session_id)

    @get("/voices")
    async def voices() -> Envelope[tuple[VoiceInfo, ...]]:
        return answer(speech.speaker.voices())

    handlers = [
        session_start,
        session,
        session_turns,
        session_stop,
        session_interrupt,
        talk,
        voices,
    ]
    return Router(path="/voice", route_handlers=handlers, tags=["pipecat"])


async def _theirs(voice: TalkingSessions, session_id: str) -> VoiceSession:
    """Raises `VoiceSessionNotFound` for another person's, too."""
    session = await voice.session(session_id)
    check_theirs(session.user_id, no_such_session(session_id))
    return session


async def _talk(voice: TalkingSessions, socket: WebSocket[Any, Any, Any], session_id: str) -> None:
    await socket.accept()
    encoder = msgspec.json.Encoder()

    async def send(frame: Frame | bytes) -> None:
        try:
            if isinstance(frame, bytes):
                await socket.send_bytes(frame)
            else:
                await socket.send_text(encoder.encode(frame).decode())
        except (WebSocketException, OSError, RuntimeError):
            return  # it hung up; whoever listens to it is told

    try:
        session = await _theirs(voice, session_id)
        conversation = voice.conversation(session, send)
        async with voice.talk(session_id, conversation):
            await conversation.greet()
            await _listen(socket, conversation)
    except WebSocketDisconnect:
        return
    except SoniaError as error:
        await socket.close(code=POLICY, reason=error.message[:120])
        return
    await socket.close(code=1000)


async def _listen(socket: WebSocket[Any, Any, Any], conversation: Conversation) -> None:
    over = asyncio.ensure_future(conversation.stopped.wait())
    try:
        while not over.done():
            hearing = asyncio.ensure_future(socket.receive())
            await asyncio.wait({over, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                hearing.cancel()
                break
            message: Any = hearing.result()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(code=message.get("code") or GOING_AWAY, detail="")
            text = message.get("text")
            await conversation.hear(text if text is not None else message.get("bytes") or b"")
    finally:
        over.cancel()
        await conversation.leave()
