"""What ears and a voice are: speech to text and text to speech, whichever engine does it.

Sound is mono `float32` from -1 to 1: 16,000 samples a second into a `Transcriber`, 24,000 out
of a `Speaker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.errors import InvalidRequest
from sonia.types import Value

EAR_RATE = 16_000
VOICE_RATE = 24_000
WINDOW = 512  # samples that a `SpeechStream` is given at once: 32 ms

Samples = NDArray[np.float32]


class NotAudio(InvalidRequest):
    """The bytes are no sound that can be read, or there is none in them."""


class AudioTooLong(InvalidRequest):
    """It lasts longer than is taken at once; `details["limit_s"]` is that many seconds."""


class UnknownVoice(InvalidRequest):
    """No voice has this name; the message lists those there are."""


class UnknownLanguage(InvalidRequest):
    """The recogniser doesn't know this language."""


class Word(Value):
    """One spoken word and when, in seconds from the start."""

    word: str
    start: float
    end: float


class Segment(Value):
    """A sentence or so of speech.

    `avg_logprob` is the mean log-probability of its window's tokens, `no_speech_prob` the
    probability in [0, 1] that the window holds no speech, `seek` the window's start in
    hundredths of a second.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class Transcript(Value):
    """What was said. `language` is a code such as `en`; `duration` is the sound's, in seconds.

    `confidence` in [0, 1] is the mean probability of its tokens, where that is known. `words` and
    `segments` are empty unless times were asked for.
    """

    text: str
    language: str
    duration: float
    confidence: float | None = None
    words: tuple[Word, ...] = ()
    segments: tuple[Segment, ...] = ()


class Hearing(Value):
    """How to transcribe.

    `language` is a code, or None to have it recognised; `prompt` is what was said before, or
    names to expect; `temperature` in [0, 1]; `translate` gives English whatever was spoken;
    `times` asks for words and segments.
    """

    language: str | None = None
    prompt: str = ""
    temperature: float = 0.0
    translate: bool = False
    times: bool = False


class VoiceInfo(Value):
    """One voice: its name, the code of the language it speaks, and `female` or `male`."""

    name: str
    language: str
    gender: str


@runtime_checkable
class Transcriber(Protocol):
    """Speech to text."""

    @property
    def model(self) -> str:
        """Its name, such as `whisper-base`."""
        ...

    @property
    def state(self) -> str:
        """`ready`, `unloaded`, or what is being waited for."""
        ...

    def transcribe(self, samples: Samples, hearing: Hearing) -> AsyncIterator[Transcript]:
        """Each window's transcript, in order, times counted from the start of `samples`.

        Raises `UnknownLanguage`; `UpstreamError` when the weights can't be had.
        """
        ...


@runtime_checkable
class Speaker(Protocol):
    """Text to speech."""

    @property
    def model(self) -> str:
        """Its name, such as `kokoro-82m-int8`."""
        ...

    @property
    def state(self) -> str:
        """`ready`, `unloaded`, or what is being waited for."""
        ...

    def voices(self) -> tuple[VoiceInfo, ...]:
        """Every voice, by name."""
        ...

    def has(self, voice: str) -> bool:
        """Whether a voice has this name, or is known to OpenAI's clients by it."""
        ...

    def speak(self, text: str, *, voice: str, speed: float = 1.0) -> AsyncIterator[Samples]:
        """The sound, clause by clause, as each is made. `speed` is from 0.25 to 4.

        Raises `UnknownVoice`; `InvalidRequest` when nothing in `text` can be spoken.
        """
        ...


@runtime_checkable
class SpeechStream(Protocol):
    """The sound of one microphone, window by window."""

    async def speaking(self, window: Samples) -> float:
        """The probability in [0, 1] that the next `WINDOW` samples hold speech."""
        ...


@runtime_checkable
class SpeechDetector(Protocol):
    """Whether somebody speaks."""

    @property
    def model(self) -> str:
        """Its name, such as `silero-vad-v6`."""
        ...

    @property
    def state(self) -> str:
        """`ready`, `unloaded`, or what is being waited for."""
        ...

    async def load(self) -> None:
        """Have it ready. Raises `UpstreamError` when the weights can't be had."""
        ...

    def stream(self) -> SpeechStream:
        """Begin to listen to one more microphone."""
        ...


@runtime_checkable
class TurnJudge(Protocol):
    """Whether somebody who pauses has finished."""

    @property
    def model(self) -> str:
        """Its name, such as `smart-turn-v3.2`."""
        ...

    @property
    def state(self) -> str:
        """`ready`, `unloaded`, or what is being waited for."""
        ...

    async def load(self) -> None:
        """Have it ready. Raises `UpstreamError` when the weights can't be had."""
        ...

    async def finished(self, samples: Samples) -> float:
        """The probability in [0, 1] that what was said up to this pause is all."""
        ...


async def heard(
    transcriber: Transcriber, samples: Samples, hearing: Hearing | None = None
) -> Transcript:
    """Every window as one transcript."""
    parts = [part async for part in transcriber.transcribe(samples, hearing or Hearing())]
    return joined(parts, len(samples) / EAR_RATE)


def joined(parts: list[Transcript], duration_s: float) -> Transcript:
    """One transcript of consecutive ones, segments numbered through."""
    segments = [segment for part in parts for segment in part.segments]
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        language=parts[0].language if parts else "en",
        duration=round(duration_s, 3),
        confidence=min((part.confidence for part in parts if part.confidence), default=None),
        words=tuple(word for part in parts for word in part.words),
        segments=tuple(
            msgspec.structs.replace(segment, id=number) for number, segment in enumerate(segments)
        ),
    )


class Speech(Value):
    """The ears and the voice of this process, shared by whoever hears or speaks."""

    transcriber: Transcriber
    speaker: Speaker
    detector: SpeechDetector
    judge: TurnJudge

    def states(self) -> dict[str, str]:
        """`ready`, `unloaded` or what is waited for, of each."""
        return {name: getattr(self, name).state for name in self.__struct_fields__}


def to_pcm(samples: Samples) -> bytes:
    """16-bit, little-endian."""
    return (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()


def from_pcm(pcm: bytes) -> Samples:
    """The inverse of `to_pcm`."""
    return (np.frombuffer(pcm, "<i2") / np.float32(32768)).astype(np.float32)
