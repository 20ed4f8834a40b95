"""`/v1/audio/*`: what OpenAI's clients send to have speech written down, or text spoken."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import UploadFile
from litestar.params import JSONBody
from litestar.response import Stream

from sonia.client import while_connected
from sonia.envelope import correlation_id, describe, translate
from sonia.errors import InvalidRequest, NotFound
from sonia.gateway.captions import subrip, web_vtt
from sonia.types import Value
from sonia.voice import (
    EAR_RATE,
    FORMATS,
    LANGUAGE_NAMES,
    Encoder,
    Hearing,
    Speech,
    Transcript,
    decoded,
    heard,
    joined,
)

EARS = ("whisper-1", "whisper")  # what clients call it besides its own name
VOICES = ("tts-1", "tts-1-hd", "kokoro")
FRAME_SAMPLES = 600  # of the speaking model: 25 ms
Written = Literal["json", "text", "srt", "verbose_json", "vtt"]
PLAIN = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


class TranscriptionForm(msgspec.Struct, frozen=True, kw_only=True):
    """The fields beside `file`. Others that OpenAI knows are named in `_unserved`."""

    model: str
    language: Annotated[str, msgspec.Meta(max_length=16)] | None = None
    prompt: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    response_format: Written = "json"
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    stream: bool = False
    granularities: Sequence[Literal["word", "segment"]] = ("segment",)


class NamedVoice(Value):
    """A voice by its id, as newer clients send it."""

    id: str


class SpeechBody(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/audio/speech`. `instructions` is taken and changes nothing: no engine heeds it."""

    model: str
    input: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    voice: str | NamedVoice
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


def audio_routes(speech: Speech, longest_s: float) -> Sequence[Any]:
    """The three handlers, below `/v1`."""

    @post("/audio/transcriptions", status_code=200)
    async def transcriptions(request: Request[Any, Any, Any]) -> Response[Any]:
        return await _written(speech, longest_s, request, translate_it=False)

    @post("/audio/translations", status_code=200)
    async def translations(request: Request[Any, Any, Any]) -> Response[Any]:
        return await _written(speech, longest_s, request, translate_it=True)

    @post("/audio/speech", status_code=200)
    async def speak(data: JSONBody[SpeechBody], request: Request[Any, Any, Any]) -> Stream:
        return await while_connected(request.receive, _spoken(speech, data))

    return transcriptions, translations, speak


# --- speech to text ----------------------------------------------------------------------


async def _written(
    speech: Speech, longest_s: float, request: Request[Any, Any, Any], *, translate_it: bool
) -> Response[Any]:
    form = await request.form()
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidRequest("Send the sound as the form's `file`.", pointer="/file")
        wanted = _form(form)
        _named(wanted.model, speech.transcriber.model, EARS)
        samples = await asyncio.to_thread(decoded, upload.file, longest_s=longest_s)
    finally:
        for _, item in form.multi_items():
            if isinstance(item, UploadFile):
                await item.close()
    hearing = Hearing(
        language=(wanted.language or "").lower() or None,
        prompt=wanted.prompt,
        temperature=wanted.temperature,
        translate=translate_it,
        times=wanted.response_format in ("srt", "vtt", "verbose_json"),
    )
    if wanted.stream:
        parts = speech.transcriber.transcribe(samples, hearing)
        return Stream(
            _transcript_events(parts, len(samples) / EAR_RATE),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )
    work = heard(speech.transcriber, samples, hearing)
    return _formatted(await while_connected(request.receive, work), wanted, translate_it)


def _form(form: Any) -> TranscriptionForm:
    fields: dict[str, Any] = {}
    for name in ("model", "language", "prompt", "response_format", "temperature", "stream"):
        value = form.get(name)
        if isinstance(value, UploadFile):
            raise InvalidRequest(f"`{name}` is a text field, not a file.", pointer=f"/{name}")
        if value not in (None, ""):
            fields[name] = value
    _unserved(form)
    listed = [
        *form.getall("timestamp_granularities[]", []),
        *form.getall("timestamp_granularities", []),
    ]
    if listed:
        fields["granularities"] = listed
    try:
        return msgspec.convert(fields, TranscriptionForm, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from error


def _unserved(form: Any) -> None:
    for name in ("include[]", "include", "known_speaker_names[]", "known_speaker_references[]"):
        if form.get(name):
            raise InvalidRequest(
                f"`{name}` is not served by the local recogniser. Leave it out.", pointer=f"/{name}"
            )


def _named(model: str, own: str, aliases: Sequence[str]) -> None:
    if model not in (own, *aliases):
        raise NotFound(
            f"No model {model!r} here. Use {own!r} or {aliases[0]!r}, which is the same.",
            pointer="/model",
        )


def _formatted(
    transcript: Transcript, wanted: TranscriptionForm, translated: bool
) -> Response[Any]:
    form = wanted.response_format
    if form in PLAIN:
        text = {"text": lambda t: f"{t.text}\n", "srt": subrip, "vtt": web_vtt}[form](transcript)
        return Response(text, media_type=f"{PLAIN[form]}; charset=utf-8")
    told: dict[str, Any] = {"text": transcript.text}
    if form == "verbose_json":
        code = "en" if translated else transcript.language
        told |= {
            "task": "translate" if translated else "transcribe",
            "language": LANGUAGE_NAMES.get(code, code),
            "duration": transcript.duration,
        }
        if "word" in wanted.granularities:
            told["words"] = transcript.words
        if "segment" in wanted.granularities:
            told["segments"] = transcript.segments
    told["usage"] = _usage(transcript.duration)
    return Response(told, media_type="application/json")


def _usage(seconds: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(seconds, 3)}


async def _transcript_events(parts: Any, duration_s: float) -> AsyncIterator[bytes]:
    done: list[Transcript] = []
    try:
        async with aclosing(parts):
            async for part in parts:
                if part.text:
                    lead = " " if any(one.text for one in done) else ""
                    yield _event({"type": "transcript.text.delta", "delta": lead + part.text})
                done.append(part)
    except Exception as error:  # noqa: BLE001  the answer has begun: the failure is its last event
        yield _failure(error)
        return
    whole = joined(done, duration_s)
    yield _event(
        {"type": "transcript.text.done", "text": whole.text, "usage": _usage(whole.duration)}
    )


# --- text to speech ----------------------------------------------------------------------


async def _spoken(speech: Speech, body: SpeechBody) -> Stream:
    _named(body.model, speech.speaker.model, VOICES)
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    sound = speech.speaker.speak(body.input, voice=voice, speed=body.speed)
    first = await anext(sound)  # what is wrong is said before the answer begins
    pieces = _encoded(body, first, sound)
    if body.stream_format == "sse":
        media_type, pieces = "text/event-stream", _speech_events(pieces, len(body.input))
    else:
        media_type = FORMATS[body.response_format][0]
        pieces = _bytes_only(pieces)
    return Stream(pieces, media_type=media_type, headers={"cache-control": "no-store"})


async def _encoded(body: SpeechBody, first: Any, rest: Any) -> AsyncIterator[Any]:
    """Bytes of the format, each with how many samples it adds."""
    async with aclosing(rest):
        encoder = await asyncio.to_thread(Encoder, body.response_format)
        piece: Any = first
        while piece is not None:
            yield await asyncio.to_thread(encoder.feed, piece), len(piece)
            piece = await anext(rest, None)
        yield await asyncio.to_thread(encoder.end), 0


async def _bytes_only(pieces: Any) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        async for data, _ in pieces:
            if data:
                yield data


async def _speech_events(pieces: Any, characters: int) -> AsyncIterator[bytes]:
    samples = 0
    async with aclosing(pieces):
        try:
            async for data, added in pieces:
                samples += added
                if data:
                    audio = base64.b64encode(data).decode()
                    yield _event({"type": "speech.audio.delta", "audio": audio})
        except Exception as error:  # noqa: BLE001  the answer has begun: the failure is its last event
            yield _failure(error)
            return
    frames = samples // FRAME_SAMPLES
    usage = {
        "input_tokens": characters,
        "output_tokens": frames,
        "total_tokens": characters + frames,
    }
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _failure(error: Exception) -> bytes:
    known = describe(translate(error))
    told = {"message": known.message, "type": "server_error", "code": known.code, "param": None}
    return _event({"type": "error", "error": told, "correlation_id": correlation_id()})
