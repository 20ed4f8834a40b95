"""What is said to her: found in the sound, written down while it may still go on, and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from sonia.errors import SoniaError, UpstreamTimeout
from sonia.log import get_logger
from sonia.voice.answering import PATIENCE_S, Utterance
from sonia.voice.attention import Asks, Attention, Began, Ended, Noticed, Patience, Paused, WentOn
from sonia.voice.echo import (
    ALIKE,
    FAINTLY_ALIKE,
    LATEST_S,
    SHARED,
    is_back_channel,
    overlap,
    resemblance,
)
from sonia.voice.playback import Clock, Playback
from sonia.voice.speech import EAR_RATE, Hearing, Samples, Speech, Transcript, heard
from sonia.voice.telling import Teller

COMPLETE = 0.5  # from this probability on, the judge's word is that somebody has finished
SURE = 0.5  # words heard over her voice with less confidence are none
PEEK_MS = 1000.0  # after so much more speech, what was said of it is written down meanwhile
FIRST_LOOK_MS, NEXT_LOOK_MS = 450.0, 300.0  # of speech over hers: who is it, and is it for her


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How she listens. `interruption` is `words`, `speech` or `never`."""

    patience: Patience
    threshold: float
    language: str | None
    interruption: str


class Moment(msgspec.Struct, kw_only=True):
    """One utterance while it is heard.

    `over_hers` is whether it began while she answered, `aloud` while she was heard, `alike` how
    much it resembles her voice, `meant` whether it is known to be for her.
    """

    over_hers: bool
    aloud: bool = False
    alike: float = 0.0
    meant: bool = False
    looked_ms: float = 0.0
    peeked_ms: float = 0.0
    stopped_at: float = 0.0
    guess: asyncio.Task[Transcript] | None = None


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Whom she tells what she heard. `busy` is whether she is answering.

    `asked` is whether she waits for a person's consent; `consent` takes words and whether a person
    certainly said them, and tells whether they were an answer to that. `addressed` gives what of
    some words is said to her, None for nothing; before them she may be known to be `awake`.
    """

    began: Callable[[], None]
    paused: Callable[[], None]
    understood: Callable[[str], None]
    took: Callable[[Utterance], Awaitable[None]]
    interrupt: Callable[[], Awaitable[bool]]
    busy: Callable[[], bool]
    asked: Callable[[], bool]
    consent: Callable[[str, bool], Awaitable[bool]]
    awake: Callable[[], bool]
    addressed: Callable[[str], str | None]
    failed: Callable[[Exception], Awaitable[None]]


class Ears:
    """One session's. Enter nothing; `close` ends what it began."""

    def __init__(
        self,
        speech: Speech,
        manner: Manner,
        playback: Playback,
        teller: Teller,
        clock: Clock,
        listening: Listening,
    ) -> None:
        self._speech = speech
        self._manner = manner
        self._playback = playback
        self._teller = teller
        self._clock = clock
        self._listening = listening
        self._attention = Attention(speech.detector.stream(), manner.patience, manner.threshold)
        self._moment: Moment | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def hear(self, samples: Samples) -> None:
        """Listen on, at 16,000 samples a second."""
        for noticed in await self._attention.feed(samples):
            await self._deal(noticed)
        moment = self._moment
        if moment and self._attention.speaking:
            if moment.over_hers:
                await self._look(moment)
            else:
                self._peek(moment)

    async def end_turn(self) -> None:
        """Whoever speaks has finished, by their own word."""
        if ended := self._attention.settle():
            self._conclude(ended)
        else:
            await self._teller.tell("STATUS", state="NOTHING_HEARD")

    async def close(self) -> None:
        """Stop listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- noticing ------------------------------------------------------------------------

    async def _deal(self, noticed: Noticed) -> None:
        match noticed:
            case Began():
                self._moment = Moment(
                    over_hers=self._listening.busy(), aloud=self._playback.audible
                )
                if not self._moment.over_hers:
                    if self._listening.awake():
                        self._listening.began()
                    await self._teller.tell("SPEECH_STARTED", at_ms=round(noticed.at_ms))
            case Paused() if self._moment:
                self._listening.paused()
                self._moment.stopped_at = self._clock.now() - self._manner.patience.suspect_ms / 1e3
                self._moment.guess = self._begin(self._guess(noticed.samples, self._moment))
            case WentOn() if self._moment:
                self._drop_guess(self._moment)
            case Asks() if self._moment:
                self._begin(self._ask(noticed.samples, self._moment, self._moment.guess))
            case Ended():
                self._conclude(noticed)
            case _:
                pass

    async def _ask(
        self, samples: Samples, moment: Moment, guess: asyncio.Task[Transcript] | None
    ) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                finished = await self._speech.judge.finished(samples) >= COMPLETE
        except Exception:  # noqa: BLE001
            finished = False  # silence alone will tell
        same_pause = self._moment is moment and moment.guess is guess
        if finished and same_pause and (ended := self._attention.settle()):
            self._conclude(ended)

    def _conclude(self, ended: Ended) -> None:
        moment, self._moment = self._moment, None
        self._begin(self._take(ended, moment or Moment(over_hers=False), self._clock.now()))

    async def _take(self, ended: Ended, moment: Moment, decided_at: float) -> None:
        """Have the words, and hand them on if they are meant for her."""
        began = self._clock.now()
        guess = moment.guess or self._begin(self._guess(ended.samples, moment))
        try:
            said = await guess
        except Exception as error:  # noqa: BLE001  whatever an engine dies of
            self._playback.go_on()
            await self._listening.failed(error)
            return
        if not moment.meant:
            moment.alike = max(moment.alike, self._alike(ended.voiced, moment.stopped_at))
            if await self._consents(said, moment):
                await self._tell(said, ended)
                self._playback.go_on()
                return
            if not self._is_meant(said, moment):
                self._playback.go_on()
                return
        if moment.over_hers and not moment.meant:
            await self._interrupt(moment, ended.start_ms)
        words = said.text if moment.over_hers else self._listening.addressed(said.text)
        if words is None:
            await self._tell(msgspec.structs.replace(said, text=""), ended)
            return
        await self._tell(said, ended)
        if not words:
            return
        await self._listening.took(
            Utterance(
                text=words,
                start_ms=ended.start_ms,
                end_ms=ended.end_ms,
                stopped_at=moment.stopped_at or began,
                decided_at=decided_at,
                asr_ms=round((self._clock.now() - (moment.stopped_at or began)) * 1000, 1),
            )
        )

    async def _tell(self, said: Transcript, ended: Ended) -> None:
        await self._teller.tell("SPEECH_STOPPED", at_ms=round(ended.end_ms))
        if said.text:
            await self._teller.tell(
                "TRANSCRIPT",
                text=said.text,
                confidence=None if said.confidence is None else round(said.confidence, 3),
                language=said.language,
                start_ms=round(ended.start_ms),
                end_ms=round(ended.end_ms),
            )

    async def _consents(self, said: Transcript, moment: Moment) -> bool:
        """Whether it was an answer to what she asked; her own words never are."""
        if not self._listening.asked() or self._is_hers(said, moment):
            return False
        clear = said.confidence is None or said.confidence >= SURE
        sure = clear and not moment.aloud and moment.alike < FAINTLY_ALIKE
        return await self._listening.consent(said.text, sure)

    def _peek(self, moment: Moment) -> None:
        """Have what was said until now written down, for the model to read it already."""
        voiced_ms = self._attention.voiced_ms
        if moment.guess or voiced_ms - moment.peeked_ms < PEEK_MS:
            return
        moment.peeked_ms = voiced_ms
        self._begin(self._understand(self._attention.said, moment))

    async def _understand(self, samples: Samples, moment: Moment) -> None:
        try:
            await self._guess(samples, moment, midway=True)
        except Exception:  # noqa: BLE001  it is told when the turn is over
            return

    # --- over her voice ------------------------------------------------------------------

    async def _look(self, moment: Moment) -> None:
        voiced_ms = self._attention.voiced_ms
        due_ms = moment.looked_ms + NEXT_LOOK_MS if moment.looked_ms else FIRST_LOOK_MS
        if moment.meant or voiced_ms < due_ms:
            return
        moment.looked_ms = voiced_ms
        if self._manner.interruption == "never":
            return
        samples = self._attention.said
        moment.alike = self._alike(samples, self._clock.now())
        if moment.alike >= ALIKE:
            self._playback.go_on()
        elif self._listening.asked():
            self._playback.hold()  # all of it is heard first: it may be the answer
        elif self._manner.interruption == "speech":
            await self._interrupt(moment, None)
        else:
            self._playback.hold()  # a listener is silent; if it was nothing, she goes on
            self._begin(self._consider(samples, moment))

    async def _consider(self, samples: Samples, moment: Moment) -> None:
        try:
            said = await self._write_down(samples)
        except Exception:  # noqa: BLE001  it is told when the turn is over
            self._playback.go_on()
            return
        if moment.meant:
            return
        if self._is_meant(said, moment):
            await self._interrupt(moment, None)
        else:
            self._playback.go_on()

    def _alike(self, samples: Samples, until: float) -> float:
        """How much the end of `samples`, at `until`, resembles what she said then or before."""
        end = samples[-int(FIRST_LOOK_MS * EAR_RATE / 1000) :]
        played = self._playback.recent(until - len(end) / EAR_RATE - LATEST_S)
        return resemblance(end, played)

    def _is_hers(self, said: Transcript, moment: Moment) -> bool:
        """Whether it is her own voice that came back."""
        shared = overlap(said.text, self._playback.heard())
        return moment.alike >= ALIKE or (moment.alike >= FAINTLY_ALIKE and shared >= SHARED)

    def _is_meant(self, said: Transcript, moment: Moment) -> bool:
        if self._is_hers(said, moment):
            return False
        if not moment.over_hers:
            return True
        if said.confidence is not None and said.confidence < SURE:
            return False
        return self._manner.interruption != "never" and not is_back_channel(said.text)

    async def _interrupt(self, moment: Moment, start_ms: float | None) -> None:
        moment.meant = True
        at = {} if start_ms is None else {"at_ms": round(start_ms)}
        await self._teller.tell("SPEECH_STARTED", **at)
        await self._listening.interrupt()

    # --- words ---------------------------------------------------------------------------

    async def _guess(self, samples: Samples, moment: Moment, *, midway: bool = False) -> Transcript:
        """What was said up to now, told at once if it is surely for her, and not her own voice.

        `midway` through speech: told unless there has been a pause meanwhile.
        """
        if not moment.over_hers:
            moment.alike = max(moment.alike, self._alike(samples, self._clock.now()))
        said = await self._write_down(samples)
        late = midway and (moment.guess or self._moment is not moment)
        surely = not moment.over_hers and moment.alike < FAINTLY_ALIKE and self._listening.awake()
        if said.text and surely and not late:
            await self._teller.tell("PARTIAL_TRANSCRIPT", text=said.text)
            if self._moment is moment:  # the turn goes on
                self._listening.understood(said.text)
        return said

    async def _write_down(self, samples: Samples) -> Transcript:
        hearing = Hearing(language=self._manner.language)
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = await heard(self._speech.transcriber, samples, hearing)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{self._speech.transcriber.model} did not answer for {PATIENCE_S:g} s."
            ) from error
        return said

    def _drop_guess(self, moment: Moment) -> None:
        if moment.guess:
            moment.guess.cancel()
        moment.guess = None

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, SoniaError):  # those are told where they are awaited
            get_logger("pipecat").error("listening failed", exc_info=error)
