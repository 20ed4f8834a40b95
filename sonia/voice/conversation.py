"""One socket's conversation: messages in, the turn's events out, one answer at a time.

It is in writing until the client sends sound; from then on answers are spoken, too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from contextlib import AsyncExitStack

import msgspec

from sonia.envelope import describe
from sonia.errors import InvalidRequest, SoniaError
from sonia.turn import MAX_TEXT_CHARS, ResponseDelta, TurnRequest
from sonia.voice.answering import Utterance
from sonia.voice.interface import Responder, Said, VoiceSession
from sonia.voice.talking import Talkers, Talking, talking
from sonia.voice.telling import Send, Teller

CLIENT_KINDS = ("MESSAGE", "AUDIO", "INTERRUPT", "END_TURN", "PING", "SESSION_STOP")


class Conversation:
    """What is said in one socket. `stopped` is set when it is over."""

    def __init__(self, shared: Talkers, session: VoiceSession, send: Send) -> None:
        self._shared = shared
        self._responder: Responder = shared.responder
        self._session = session
        self._teller = Teller(session.session_id, send)
        self._stack = AsyncExitStack()
        self._talking: Talking | None = None
        self._reminding: asyncio.Task[None] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._spoken: list[str] = []
        self._turns = 0
        self._active_at = shared.clock.now()
        self.stopped = asyncio.Event()

    @property
    def active_at(self) -> float:
        """When somebody last said something; now, while that is being answered."""
        talking = self._talking
        if (talking and talking.busy()) or (self._answering and not self._answering.done()):
            return self._shared.clock.now()
        return max(self._active_at, talking.active_at if talking else 0.0)

    @property
    def turns(self) -> int:
        """How many were answered."""
        return self._turns + (self._talking.turns if self._talking else 0)

    async def greet(self) -> None:
        """Say that the session has begun, and how it is."""
        rate = self._session.sample_rate or self._shared.config.sample_rate
        await self._teller.tell("SESSION_START", user_id=self._session.user_id)
        await self._teller.tell(
            "STATUS", state="ACTIVE", audio=True, sample_rate=rate, codec=self._session.codec
        )

    async def hear(self, raw: str | bytes) -> None:
        """Deal with one message; what is wrong with it is told, never raised."""
        try:
            if isinstance(raw, bytes):
                self._teller.binary = True
                await self._listen(raw)
            else:
                await self._dispatch(_read(raw))
        except SoniaError as error:
            await self._teller.tell("ERROR", **msgspec.to_builtins(describe(error)))

    async def interrupt(self) -> None:
        """Cancel the answer that is being given and tell how much of it was heard, or sent."""
        if self._talking and await self._talking.interrupt():
            return
        if await self._cancel():
            await self._teller.tell("INTERRUPTED", spoken_text="".join(self._spoken))

    async def remind(self, text: str) -> None:
        """Tell this unasked, and say it aloud where she is talked to; that goes on behind."""
        await self._teller.tell("MESSAGE", role="assistant", text=text)
        if self._talking and (self._reminding is None or self._reminding.done()):
            self._reminding = asyncio.create_task(self._talking.remind(text))

    async def stop(self, reason: str) -> None:
        """Cancel, say goodbye, and let the socket close."""
        if not self.stopped.is_set():
            await self._cancel()
            await self._stack.aclose()
            await self._teller.tell("SESSION_STOP", reason=reason)
            self.stopped.set()

    async def leave(self) -> None:
        """The client is gone: cancel without a word."""
        self._teller.gone = True
        self.stopped.set()
        await self._cancel()
        await self._stack.aclose()

    # --- hearing -------------------------------------------------------------------------

    async def _dispatch(self, said: Said) -> None:
        match said.type.upper():
            case "MESSAGE":
                await self._answer(_text(said))
            case "AUDIO":
                self._teller.binary = False
                await self._listen(_audio(said))
            case "END_TURN":
                talking = await self._talk()
                talking.wake.stay()
                await talking.ears.end_turn()
            case "INTERRUPT":
                await self.interrupt()
            case "PING":
                await self._teller.tell("PONG")
            case "SESSION_STOP":
                await self.stop("asked for")
            case other:
                raise InvalidRequest(
                    f"Unknown message type {other!r}. Known: {', '.join(CLIENT_KINDS)}.",
                    pointer="/type",
                )

    async def _listen(self, data: bytes) -> None:
        if self._session.codec == "pcm" and len(data) % 2:
            raise InvalidRequest("Sound is 16-bit PCM, mono: an even number of bytes.")
        if data:
            await (await self._talk()).hear(data)

    async def _talk(self) -> Talking:
        """The spoken side, begun at its first use."""
        if self._talking is None:
            talk = talking(self._shared, self._session, self._teller)
            self._talking = await self._stack.enter_async_context(talk)
        return self._talking

    async def _answer(self, text: str) -> None:
        await self.interrupt()
        self._active_at = self._shared.clock.now()
        if self._talking:
            await self._talking.take(Utterance(text=text))
            return
        self._spoken = []
        self._answering = asyncio.create_task(self._take_turn(text))

    async def _cancel(self) -> bool:
        if self._reminding:
            self._reminding.cancel()
            await asyncio.gather(self._reminding, return_exceptions=True)
        task, self._answering = self._answering, None
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    # --- answering in writing ------------------------------------------------------------

    async def _take_turn(self, text: str) -> None:
        began = time.perf_counter()
        first_ms: float | None = None
        request = TurnRequest(
            text=text,
            session_id=self._session.session_id,
            user_id=self._session.user_id,
            wait_for_approval=True,
        )
        try:
            async with self._responder.turn(request) as events:
                async for event in events:
                    if first_ms is None and isinstance(event, ResponseDelta):
                        first_ms = (time.perf_counter() - began) * 1000
                    await self._teller.show(event)
                    if isinstance(event, ResponseDelta):
                        self._spoken.append(event.text)
        except Exception as error:  # noqa: BLE001  a failed answer must not end the session
            await self._teller.failed(error)
            return
        self._turns += 1
        first = round(first_ms, 1) if first_ms is not None else None
        await self._teller.tell("TURN_METRICS", llm_first_token_ms=first)


def _read(raw: str) -> Said:
    try:
        return msgspec.json.decode(raw, type=Said)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(
            f"Not a message: {error}. Send {{'type': 'MESSAGE', 'data': {{'text': '…'}}}} as JSON."
        ) from error


def _text(said: Said) -> str:
    text = said.data.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("A MESSAGE needs data.text, a string with words in it.")
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidRequest(f"data.text is over {MAX_TEXT_CHARS} characters.")
    return text


def _audio(said: Said) -> bytes:
    audio = said.data.get("audio")
    try:
        if isinstance(audio, str):
            return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(
        "AUDIO needs data.audio: sound in base64, PCM (16-bit, mono) or one Opus packet."
    )
