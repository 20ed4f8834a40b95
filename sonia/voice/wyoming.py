"""The Wyoming protocol: Sonia's ears, voice and answers for Home Assistant and its satellites.

One TCP connection, one request at a time: `describe`; `transcribe` and audio up to `audio-stop`;
`synthesize`; `transcript`, which is answered by a turn. Events are JSON lines with an optional
payload; the format is the `wyoming` package's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import soxr
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.handle import Handled
from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
)
from wyoming.ping import Pong

from sonia.envelope import translate
from sonia.errors import Internal, InvalidRequest
from sonia.log import get_logger
from sonia.turn import MAX_TEXT_CHARS, ResponseDelta, TurnRequest, TurnStarted
from sonia.version import VERSION
from sonia.voice.interface import Responder
from sonia.voice.languages import LANGUAGE_NAMES
from sonia.voice.speech import EAR_RATE, VOICE_RATE, Hearing, Samples, Speech, UnknownVoice, heard

MAX_LINE_BYTES = 65_536
MAX_PART_BYTES = 1_048_576
CHUNK = VOICE_RATE // 10  # samples


class _Header(msgspec.Struct):
    """The line that begins an event; lengths in bytes."""

    type: str
    data: dict[str, Any] = {}
    data_length: int = 0
    payload_length: int = 0


@asynccontextmanager
async def open_wyoming(
    speech: Speech,
    responder: Responder,
    host: str,
    port: int,
    *,
    voice: str,
    longest_s: float,
) -> AsyncIterator[int]:
    """Serve until left; yields the port. What is over `longest_s` of sound is refused."""
    talks: set[asyncio.Task[Any] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        talks.add(talk)
        try:
            await _Connection(speech, responder, reader, writer, voice, longest_s).run()
        finally:
            talks.discard(talk)
            writer.close()

    server = await asyncio.start_server(connected, host, port, limit=MAX_LINE_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        open_talks = [talk for talk in talks if talk]
        for talk in open_talks:
            talk.cancel()
        await asyncio.gather(*open_talks, return_exceptions=True)


class _Connection:
    """One client."""

    def __init__(
        self,
        speech: Speech,
        responder: Responder,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        voice: str,
        longest_s: float,
    ) -> None:
        self._speech = speech
        self._responder = responder
        self._reader = reader
        self._writer = writer
        self._voice = voice
        self._longest_s = longest_s
        self._language: str | None = None
        self._heard: list[Samples] = []
        self._ear: Any = None
        self._format: tuple[int, int, int] | None = None
        self._session: str | None = None

    async def run(self) -> None:
        """Answer until the client leaves, which ends what it was waiting for, or can't be read."""
        coming = asyncio.create_task(self._next())
        try:
            while (event := await coming) is not None:
                coming = asyncio.create_task(self._next())
                answering = asyncio.create_task(self._answered(event))
                try:
                    await asyncio.wait({coming, answering}, return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() and _ended(coming):
                        break
                    await answering
                finally:
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
        except InvalidRequest as error:  # where the next event begins is not known
            await self._send(Error(text=error.message, code=error.code))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _answered(self, event: Event) -> None:
        """Answer; what fails is told to this client."""
        try:
            await self._answer(event)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  one request's failure ends no connection
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("pipecat").error("wyoming failed", exc_info=error)
            await self._send(Error(text=known.message, code=known.code))

    async def _next(self) -> Event | None:
        """The next event. Raises `InvalidRequest` for what is none."""
        try:
            line = await self._reader.readline()
            if not line:
                return None
            head = msgspec.json.decode(line, type=_Header)
            if not 0 <= max(head.data_length, head.payload_length) <= MAX_PART_BYTES:
                raise InvalidRequest(f"A part of an event is over {MAX_PART_BYTES} bytes.")
            data = head.data
            if head.data_length:
                more = await self._reader.readexactly(head.data_length)
                data = data | msgspec.json.decode(more, type=dict[str, Any])
            payload = await self._reader.readexactly(head.payload_length)
        except (ValueError, RecursionError) as error:  # a line too long included
            raise InvalidRequest(
                "Not an event of the Wyoming protocol: a line of JSON with a type."
            ) from error
        return Event(type=head.type, data=data, payload=payload or None)

    async def _send(self, thing: Eventable) -> None:
        if not self._writer.is_closing():
            await async_write_event(thing.event(), self._writer)

    async def _answer(self, event: Event) -> None:
        match event.type:
            case "describe":
                await self._send(self._described())
            case "ping":
                await self._send(Pong(text=event.data.get("text")))
            case "transcribe":
                self._language = _text(event, "language") or None
                self._silence()
            case "audio-start":
                self._silence()
                self._open_ear(event)
            case "audio-chunk":
                self._listen(event)
            case "audio-stop":
                await self._transcribe()
            case "synthesize":
                await self._say(event)
            case "transcript":
                await self._respond(event)
            case _:
                pass  # the protocol has servers drop what they don't know

    # --- hearing -------------------------------------------------------------------------

    def _silence(self) -> None:
        self._heard, self._ear, self._format = [], None, None

    def _open_ear(self, event: Event) -> None:
        rate, width, channels = (_whole(event, name) for name in ("rate", "width", "channels"))
        if not (4000 <= rate <= 192_000 and width == 2 and 1 <= channels <= 8):
            raise InvalidRequest(
                f"Sound of rate {rate}, width {width} and {channels} channels is not read. Send "
                "width 2, 1 to 8 channels, rate 4000 to 192000."
            )
        self._format = (rate, width, channels)
        self._ear = soxr.ResampleStream(rate, EAR_RATE, 1, dtype="float32")

    def _listen(self, event: Event) -> None:
        if self._format is None:
            self._open_ear(event)
        channels = self._format[2] if self._format else 1
        payload = event.payload or b""
        if len(payload) % (2 * channels):
            raise InvalidRequest("An audio-chunk ends in the middle of a sample.")
        sound = np.frombuffer(payload, "<i2").reshape(-1, channels).mean(axis=1) / 32768
        self._heard.append(self._ear.resample_chunk(sound.astype(np.float32)))
        if sum(map(len, self._heard)) > self._longest_s * EAR_RATE:
            self._silence()
            raise InvalidRequest(f"The sound is longer than {self._longest_s:g} s.")

    async def _transcribe(self) -> None:
        if self._ear is not None:
            self._heard.append(self._ear.resample_chunk(np.empty(0, np.float32), last=True))
        sound = np.concatenate([np.empty(0, np.float32), *self._heard])
        self._silence()
        if not len(sound):
            await self._send(Transcript(text=""))
            return
        written = await heard(self._speech.transcriber, sound, Hearing(language=self._language))
        await self._send(Transcript(text=written.text, language=written.language))

    # --- speaking ------------------------------------------------------------------------

    async def _say(self, event: Event) -> None:
        text = _text(event, "text")
        wanted = event.data.get("voice") or {}
        voice = self._named(wanted if isinstance(wanted, dict) else {})
        form = {"rate": VOICE_RATE, "width": 2, "channels": 1}
        started = False
        async for sound in self._speech.speaker.speak(text, voice=voice):
            if not started:
                await self._send(AudioStart(**form))
                started = True
            whole = (np.clip(sound, -1, 1) * 32767).astype("<i2")
            for at in range(0, len(whole), CHUNK):
                await self._send(AudioChunk(audio=whole[at : at + CHUNK].tobytes(), **form))
        await self._send(AudioStop())

    def _named(self, wanted: dict[str, Any]) -> str:
        """The voice of this name, else the first that speaks the language, else the usual one."""
        if isinstance(name := wanted.get("name"), str):
            return name
        language = wanted.get("language")
        if not isinstance(language, str):
            return self._voice
        short = language.replace("_", "-").partition("-")[0].lower()
        for voice in self._speech.speaker.voices():
            if voice.language.partition("-")[0] == short:
                return self._voice if short == "en" else voice.name
        raise UnknownVoice(f"No voice speaks {language!r}.", voice=language)

    # --- answering -----------------------------------------------------------------------

    async def _respond(self, event: Event) -> None:
        """A turn; the connection is a session, and `context.session_id` goes on with another."""
        context = event.data.get("context")
        session = context.get("session_id") if isinstance(context, dict) else None
        text = _text(event, "text")
        if not text.strip() or len(text) > MAX_TEXT_CHARS:
            raise InvalidRequest(f"A transcript has 1 to {MAX_TEXT_CHARS} characters of text.")
        said: list[str] = []
        request = TurnRequest(
            text=text, session_id=session if isinstance(session, str) else self._session
        )
        async with self._responder.turn(request) as events:
            async for step in events:
                if isinstance(step, TurnStarted):
                    self._session = step.session_id
                elif isinstance(step, ResponseDelta):
                    said.append(step.text)
        await self._send(Handled(text="".join(said), context={"session_id": self._session}))

    def _described(self) -> Eventable:
        def who(name: str, url: str, version: str | None = None) -> dict[str, Any]:
            made = Attribution(name=name, url=url)
            return {"attribution": made, "installed": True, "version": version}

        sonia = {"name": "sonia", **who("Sonia", "", VERSION)}
        whisper = who("OpenAI", "https://github.com/openai/whisper")
        kokoro = who("hexgrad", "https://huggingface.co/hexgrad/Kokoro-82M")
        ears, mouth = self._speech.transcriber, self._speech.speaker
        languages = sorted(LANGUAGE_NAMES)
        return Info(
            asr=[
                AsrProgram(
                    **sonia,
                    description="Speech to text on this machine",
                    models=[
                        AsrModel(
                            name=ears.model, description=ears.model, languages=languages, **whisper
                        )
                    ],
                )
            ],
            tts=[
                TtsProgram(
                    **sonia,
                    description="Text to speech on this machine",
                    voices=[
                        TtsVoice(
                            name=voice.name,
                            description=f"{voice.name}, {voice.gender}",
                            languages=[voice.language],
                            **kokoro,
                        )
                        for voice in mouth.voices()
                    ],
                )
            ],
            handle=[
                HandleProgram(
                    **sonia,
                    description="Sonia, with memory and tools",
                    models=[
                        HandleModel(
                            name="sonia",
                            description="Sonia",
                            languages=["en"],
                            **who("Sonia", "", VERSION),
                        )
                    ],
                )
            ],
        )


def _ended(coming: asyncio.Task[Event | None]) -> bool:
    """Whether no further event comes."""
    return coming.done() and (coming.exception() is not None or coming.result() is None)


def _text(event: Event, name: str) -> str:
    value = event.data.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{event.type}: {name} must be a string.")
    return value or ""


def _whole(event: Event, name: str) -> int:
    value = event.data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"{event.type}: {name} must be a whole number.")
    return value
