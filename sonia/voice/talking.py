"""A conversation's spoken side: sound in, her voice out, from the first sound to the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from sonia.config import Pipecat
from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.turn import TurnRequest
from sonia.types import now
from sonia.voice.answering import APOLOGY, Answer, Utterance, Voice
from sonia.voice.attention import PATIENCE
from sonia.voice.clauses import spoken
from sonia.voice.consenting import Consent, Settles
from sonia.voice.ears import Ears, Listening, Manner
from sonia.voice.interface import Responder, VoiceSession
from sonia.voice.opus import DECODED_HZ, OpusDecoder, OpusEncoder
from sonia.voice.playback import Clock, Playback, WallClock
from sonia.voice.resampling import Resampler
from sonia.voice.speech import EAR_RATE, VOICE_RATE, Samples, Speech, from_pcm, heard, to_pcm
from sonia.voice.spoken_turns import SpokenTurn
from sonia.voice.telling import Teller
from sonia.voice.waking import Wake

if TYPE_CHECKING:
    from sonia.voice.pipeline import Line

AUTO = "auto"
Keep = Callable[[SpokenTurn], Awaitable[None]]


class Talkers:
    """What all spoken sessions share: engines, their warmth, and an apology in each voice."""

    def __init__(
        self,
        config: Pipecat,
        responder: Responder,
        speech: Speech,
        keep: Keep,
        settles: Settles,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.settles = settles
        self.responder = responder
        self.speech = speech
        self.keep = keep
        self.clock = clock or WallClock()
        self.apologies: dict[str, Samples] = {}
        self._warming: asyncio.Task[None] | None = None

    def warm(self, voice: str) -> None:
        """Load what a session with this voice needs, behind. Harmless when it is loaded."""
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(self._warm(voice), name="warm the voice")

    async def close(self) -> None:
        """Stop warming."""
        if self._warming:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)

    async def apology(self, voice: str) -> Samples:
        """How this voice says sorry; nothing if it can't."""
        if voice not in self.apologies:
            parts = []
            try:
                async for part in self.speech.speaker.speak(APOLOGY, voice=voice):
                    parts.append(part)
            except Exception:  # noqa: BLE001  then she has no voice
                return np.empty(0, np.float32)
            self.apologies[voice] = np.concatenate(parts)
        return self.apologies[voice]

    async def _warm(self, voice: str) -> None:
        try:
            await asyncio.to_thread(_import_pipeline)
            await self.speech.detector.load()
            await self.speech.judge.load()
            await heard(self.speech.transcriber, np.zeros(EAR_RATE, np.float32))
            await self.apology(voice)
        except Exception as error:  # noqa: BLE001  whoever speaks next is told
            get_logger("pipecat").warning("voice not warmed", reason=str(error))


class Talking:
    """One session's. `line` is there between entering and leaving `talking`."""

    line: Line

    def __init__(self, shared: Talkers, session: VoiceSession, teller: Teller) -> None:
        config = shared.config
        self._shared = shared
        self._session = session
        self._teller = teller
        self._rate = session.sample_rate or config.sample_rate
        self._voice = session.voice or config.voice
        self._waiting: set[int] = set()  # what is being answered, or will be
        self._expecting: asyncio.Task[None] | None = None
        self._consent = Consent(shared.settles, session.user_id)
        self._answer: Answer | None = None
        self.wake = Wake(config.wake_word, shared.clock)
        self._sent = 0
        self.turns = 0
        self.active_at = shared.clock.now()  # when somebody last said anything
        self._speed = session.speed or config.speed
        opus = session.codec == "opus"
        self._unpack = OpusDecoder().feed if opus else from_pcm
        self._pack = OpusEncoder(self._rate).feed if opus else _as_pcm
        self._in = Resampler(DECODED_HZ if opus else self._rate, EAR_RATE)
        self._out = Resampler(VOICE_RATE, self._rate)
        piece_s = config.chunk_size / self._rate
        self._playback = Playback(self._send, shared.clock, piece_s)
        language = session.language or config.language
        self.ears = Ears(
            shared.speech,
            Manner(
                patience=PATIENCE[config.end_of_turn],
                threshold=config.vad_threshold,
                language=None if language == AUTO else language.partition("-")[0],
                interruption=config.interruption,
            ),
            self._playback,
            teller,
            shared.clock,
            Listening(
                began=self._expect,
                paused=shared.responder.soon,
                understood=self._expect,
                took=self.take,
                interrupt=self.interrupt,
                busy=self.busy,
                asked=lambda: self._consent.open,
                consent=self._consented,
                awake=lambda: self.wake.awake,
                addressed=self.wake.addressed,
                failed=self._deaf,
            ),
        )

    def busy(self) -> bool:
        """Whether she answers, or is about to."""
        return bool(self._waiting)

    def _expect(self, so_far: str = "") -> None:
        """Somebody speaks: meanwhile the model reads what was said before, and `so_far`."""
        if self._expecting:
            self._expecting.cancel()
        user_id, session_id = self._session.user_id, self._session.session_id
        work = self._shared.responder.expect(session_id, user_id=user_id, so_far=so_far)
        self._expecting = asyncio.create_task(_quietly(work), name="expect words")

    async def hear(self, data: bytes) -> None:
        """Sound as the session's codec has it. Raises `InvalidRequest` for what is none."""
        await self.line.hear(self._in.feed(self._unpack(data)))

    async def take(self, said: Utterance) -> None:
        """Answer this aloud."""
        if self._expecting:
            self._expecting.cancel()
        self._waiting.add(id(said))
        self.active_at = self._shared.clock.now()
        self.wake.stay()
        await self.line.take(said, self._session.user_id)

    async def interrupt(self) -> bool:
        """Fall silent, cancel the answer, and tell what of it was heard. False: there was none."""
        if not self.busy():
            return False
        said = await self._playback.stop()
        await self._teller.tell("INTERRUPTED", spoken_text=said)
        self._waiting.clear()
        await self.line.interrupt()
        return True

    async def give(self, said: Utterance, add: Any) -> None:
        """Answer one utterance; what goes wrong is told."""
        shared = self._shared
        voice = Voice(
            speaker=shared.speech.speaker,
            name=self._voice,
            speed=self._speed,
            apology=shared.apologies.get(self._voice, np.empty(0, np.float32)),
        )
        answer = self._answer = Answer(
            shared.responder, voice, self._playback, self._teller, shared.clock, self._consent
        )
        request = TurnRequest(
            text=said.text,
            session_id=self._session.session_id,
            user_id=self._session.user_id,
            wait_for_approval=True,
        )
        try:
            await answer.give(request, said, add)
            self.turns += 1
        except Exception as error:  # noqa: BLE001  a failed answer must not end the session
            await self._teller.failed(error)
        finally:
            self._waiting.discard(id(said))
            self.active_at = shared.clock.now()
            self.wake.stay()
            metrics = msgspec.to_builtins(answer.metrics)
            await self._keep(said, answer, metrics)
            await self._teller.tell("TURN_METRICS", **metrics)

    async def _consented(self, text: str, sure: bool) -> bool:
        """Whether this answers what she asked; it is acted on, and she says what comes of it."""
        reply = await self._consent.answer(text, sure=sure)
        if reply and self._answer:
            self._answer.say(reply)
        return reply is not None

    async def _keep(
        self, said: Utterance, answer: Answer, metrics: dict[str, float | None]
    ) -> None:
        turn = SpokenTurn(
            session_id=self._session.session_id,
            turn_id=answer.turn_id,
            user_id=self._session.user_id,
            at=now(),
            text=said.text,
            heard=self._playback.heard(),
            complete=answer.complete,
            start_ms=round(said.start_ms),
            end_ms=round(said.end_ms),
            metrics=metrics,
        )
        try:
            await asyncio.shield(self._shared.keep(turn))
        except SoniaError as error:
            get_logger("pipecat").warning("spoken turn not kept", reason=error.message)

    async def remind(self, text: str) -> None:
        """Say this aloud, unless she is answering; who speaks silences it."""
        if self.busy():
            return
        words = Utterance(text=text)
        self._waiting.add(id(words))
        speaker = self._shared.speech.speaker
        try:
            sounds = speaker.speak(spoken(text), voice=self._voice, speed=self._speed)
            sound = np.concatenate([part async for part in sounds])
            if id(words) in self._waiting:
                self._playback.begin()
                self._playback.add(text, sound, len(sound) / VOICE_RATE)
                await self._playback.send()
                await self._teller.tell("AUDIO_DONE")
        except (SoniaError, ValueError) as error:  # it was told in writing
            get_logger("pipecat").warning("reminder not said", reason=str(error))
        finally:
            self._waiting.discard(id(words))

    async def send(self) -> None:
        """Send what is to be heard, in real time."""
        await self._playback.send()

    async def silence(self) -> None:
        """Nobody listens any more."""
        if self._expecting:
            self._expecting.cancel()
            await asyncio.gather(self._expecting, return_exceptions=True)
        await self._playback.stop()

    async def _deaf(self, error: Exception) -> None:
        """She could not hear: say so, in words that were made before."""
        await self._teller.failed(error)
        sound = await self._shared.apology(self._voice)
        if len(sound) and not self.busy():
            self._playback.begin()
            self._playback.add("", sound, len(sound) / VOICE_RATE)
            await self._playback.send()
            await self._teller.tell("AUDIO_DONE")

    async def _send(self, samples: Samples) -> None:
        for piece in self._pack(self._out.feed(samples)):
            await self._teller.sound(piece, sample_rate=self._rate, seq=self._sent)
            self._sent += 1


@asynccontextmanager
async def talking(shared: Talkers, session: VoiceSession, teller: Teller) -> AsyncIterator[Talking]:
    """Talk until left; leaving falls silent at once."""
    pipeline = await asyncio.to_thread(_import_pipeline)
    shared.warm(session.voice or shared.config.voice)
    talk = Talking(shared, session, teller)
    parts = pipeline.Parts(hear=talk.ears.hear, give=talk.give, send=talk.send)
    async with pipeline.open_line(parts) as line:
        talk.line = line
        try:
            yield talk
        finally:
            await talk.ears.close()
            await talk.silence()


def _as_pcm(samples: Samples) -> list[bytes]:
    return [to_pcm(samples)]


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """What only makes something sooner may fail."""
    try:
        await work
    except SoniaError as error:
        get_logger("pipecat").warning("not expected", reason=error.message)


def _import_pipeline() -> Any:
    from sonia.voice import pipeline

    return pipeline
