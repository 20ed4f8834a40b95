"""A spoken answer: the words as they come, spoken clause by clause, kept as far as heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np

from sonia.errors import UpstreamTimeout
from sonia.turn import ApprovalNeeded, ResponseDelta, ToolAnswered, TurnEvent, TurnRequest
from sonia.voice.clauses import Clauses, spoken
from sonia.voice.consenting import Consent
from sonia.voice.interface import Responder
from sonia.voice.playback import Clock, Playback
from sonia.voice.speech import VOICE_RATE, Samples, Speaker
from sonia.voice.telling import Teller

PATIENCE_S = 20.0  # an engine that says nothing for so long is stuck
SENTENCE_PAUSE_S, CLAUSE_PAUSE_S = 0.2, 0.08
CHARS_PER_S = 15
APOLOGY = "Sorry, something went wrong. Please try again."

Speak = Callable[[Samples], Awaitable[None]]


class CutOff(Exception):
    """She was interrupted."""


class Utterance(msgspec.Struct, frozen=True, kw_only=True):
    """Something said, and the moments of hearing it, by the session's clock."""

    text: str
    start_ms: float = 0.0
    end_ms: float = 0.0
    stopped_at: float | None = None
    decided_at: float | None = None
    asr_ms: float | None = None


class Metrics(msgspec.Struct, kw_only=True):
    """How long what took, in milliseconds. Voice to voice is from the last sample of speech.

    The words were there after `asr_ms`, and after `decided_ms` it was clear that they were all.
    From the later of these on, one after the other: the answer's first token, its first clause,
    the sound of that.
    """

    asr_ms: float | None = None
    decided_ms: float | None = None
    llm_first_token_ms: float | None = None
    llm_first_clause_ms: float | None = None
    tts_first_audio_ms: float | None = None
    voice_to_voice_ms: float | None = None


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks, how fast, and how she says that she can't."""

    speaker: Speaker
    name: str
    speed: float
    apology: Samples


class Answer:
    """One answer. `add` puts sound on its way; it is awaited for each clause."""

    def __init__(
        self,
        responder: Responder,
        voice: Voice,
        playback: Playback,
        teller: Teller,
        clock: Clock,
        consent: Consent,
    ) -> None:
        self._responder = responder
        self._voice = voice
        self._playback = playback
        self._teller = teller
        self._clock = clock
        self._consent = consent
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue()
        self._shown = ""
        self._left = self._broken = False
        self.complete = False
        self._began_at = self._token_at = self._first_clause_at = 0.0
        self.metrics = Metrics()
        self.turn_id: str | None = None

    async def give(self, request: TurnRequest, said: Utterance, add: Speak) -> None:
        """Answer, and return when all of it was heard. Cancelling keeps what was heard."""
        self._began_at = self._token_at = self._clock.now()
        self._playback.begin()
        self.metrics.asr_ms = said.asr_ms
        if said.stopped_at is not None and said.decided_at is not None:
            self.metrics.decided_ms = _ms(said.decided_at - said.stopped_at)
        speaking = asyncio.create_task(self._speak(add), name="speak")
        try:
            await self._take(request, speaking)
            self.complete = True
        except CutOff:
            return
        finally:
            self._consent.over()
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            self._measure(said)

    async def _take(self, request: TurnRequest, speaking: asyncio.Task[None]) -> None:
        async def reached() -> str:
            if not self._left:
                self._queue(clauses.end())
                self._clauses.put_nowait(None)
                await speaking
                await self._playback.finished()
                if self._playback.stopped:
                    raise CutOff
                await self._teller.tell("AUDIO_DONE")
            return self._shown if self._broken else self._playback.heard()

        clauses = Clauses()
        async with self._responder.turn(request, reached=reached) as events:
            try:
                async for event in events:
                    await self._deal(event, clauses)
            except BaseException:
                self._left = True  # nobody waits for the rest to be heard
                raise

    async def _deal(self, event: TurnEvent, clauses: Clauses) -> None:
        if isinstance(event, ResponseDelta):
            if self.metrics.llm_first_token_ms is None:
                self._token_at = self._clock.now()
                self.metrics.llm_first_token_ms = _ms(self._token_at - self._began_at)
            self.turn_id = event.turn_id
            self._shown += event.text
            self._queue(clauses.feed(event.text))
        elif isinstance(event, ApprovalNeeded):
            self._queue(clauses.end())
            self.say(await self._consent.question(event))
        elif isinstance(event, ToolAnswered):
            self._consent.over()
        await self._teller.show(event)

    def say(self, text: str) -> None:
        """Say this as well, now."""
        self._queue([f" {text} "])

    def _queue(self, clauses: list[str]) -> None:
        for clause in clauses:
            if not self._first_clause_at:
                self._first_clause_at = self._clock.now()
                self.metrics.llm_first_clause_ms = _ms(self._first_clause_at - self._token_at)
            self._clauses.put_nowait(clause)

    async def _speak(self, add: Speak) -> None:
        try:
            while (clause := await self._clauses.get()) is not None:
                await self._playback.room()
                if self._playback.stopped:
                    return
                await self._say(clause, add)
        except TimeoutError:
            model = self._voice.speaker.model
            late = UpstreamTimeout(f"{model} did not answer for {PATIENCE_S:g} s.")
            await self._apologise(late, add)
        except Exception as error:  # noqa: BLE001  whatever an engine dies of, the session goes on
            await self._apologise(error, add)

    async def _say(self, clause: str, add: Speak) -> None:
        words = spoken(clause)
        if not any(letter.isalnum() for letter in words):
            self._playback.add(clause, np.empty(0, np.float32), 0.0)
            return
        left = clause
        sounds = self._voice.speaker.speak(words, voice=self._voice.name, speed=self._voice.speed)
        while True:
            async with asyncio.timeout(PATIENCE_S):
                sound = await anext(sounds, None)
            if sound is None:
                break
            text, left = _share(left, len(sound) / VOICE_RATE * self._voice.speed)
            await add(self._put(text, sound))
        self._playback.add(left, np.empty(0, np.float32), 0.0)

    def _put(self, text: str, sound: Samples) -> Samples:
        if self.metrics.tts_first_audio_ms is None:
            since = self._first_clause_at or self._began_at
            self.metrics.tts_first_audio_ms = _ms(self._clock.now() - since)
        pause_s = _pause_s(text.rstrip())
        silence = np.zeros(int(pause_s / self._voice.speed * VOICE_RATE), np.float32)
        whole = np.concatenate([sound, silence])
        self._playback.add(text, whole, len(sound) / VOICE_RATE)
        return whole

    async def _apologise(self, error: Exception, add: Speak) -> None:
        self._broken = True
        await self._teller.failed(error)
        sound = self._voice.apology
        if len(sound):
            self._playback.add("", sound, len(sound) / VOICE_RATE)
            await add(sound)

    def _measure(self, said: Utterance) -> None:
        sent_at = self._playback.first_sent_at
        if said.stopped_at is not None and sent_at is not None:
            self.metrics.voice_to_voice_ms = _ms(sent_at - said.stopped_at)


def _share(text: str, seconds: float) -> tuple[str, str]:
    """So much of `text` as is spoken in `seconds`, and the rest."""
    cut = int(seconds * CHARS_PER_S)
    if cut >= len(text) * 0.7:
        return text, ""
    at = text.find(" ", cut)
    return (text, "") if at < 0 else (text[:at], text[at:])


def _pause_s(text: str) -> float:
    """How long she is silent after it."""
    if text.endswith((".", "!", "?")):
        return SENTENCE_PAUSE_S
    return 0.0 if text[-1:].isalnum() else CLAUSE_PAUSE_S


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
