"""Ears and a voice that do as they are told: sound is loud or silent, and means what is scripted.

They pass the contract suite of the real engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import numpy as np

from sonia.errors import NotFound
from sonia.types import ApprovalId
from sonia.voice import Hearing, Samples, Speech, Transcript, VoiceInfo
from sonia.voice.speech import EAR_RATE, VOICE_RATE

WORD_S = 0.2
LOUD = 0.3
HERS = 7  # her voice


def sound(ms: float, rate_hz: int = EAR_RATE, who: int = 0) -> Samples:
    """Somebody speaks; `who` tells one voice from another."""
    drawn = np.random.default_rng(who).uniform(-LOUD, LOUD, int(ms * rate_hz / 1000) // 8 + 1)
    return np.repeat(drawn, 8)[: int(ms * rate_hz / 1000)].astype(np.float32)


def silence(ms: float, rate_hz: int = EAR_RATE) -> Samples:
    """Nobody speaks."""
    return np.zeros(int(ms * rate_hz / 1000), np.float32)


class ScriptedClock:
    """Time passes only by waiting, and not beyond where it is stopped."""

    def __init__(self) -> None:
        self._now = 100.0
        self._until = float("inf")
        self._moved = asyncio.Condition()

    def now(self) -> float:
        return self._now

    def stop_in(self, seconds: float) -> None:
        """Let so much time pass, and no more."""
        self._until = self._now + seconds

    async def go_on(self) -> None:
        async with self._moved:
            self._until = float("inf")
            self._moved.notify_all()

    async def sleep(self, seconds: float) -> None:
        due = self._now + seconds
        async with self._moved:
            await self._moved.wait_for(lambda: due <= self._until)
        self._now = max(self._now, due)
        await asyncio.sleep(0)


class ScriptedEngine:
    """What the scripted ones have in common; `failing` is raised, `hanging` is waited for."""

    model = "scripted"
    state = "ready"

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self.hanging: asyncio.Event | None = None

    async def load(self) -> None:
        return

    async def obey(self) -> None:
        if self.hanging:
            await self.hanging.wait()
        if self.failing:
            raise self.failing


class ScriptedDetector(ScriptedEngine):
    """Loud is speech."""

    def stream(self) -> ScriptedDetector:
        return self

    async def speaking(self, window: Samples) -> float:
        await self.obey()
        return float(np.abs(window).mean() > LOUD / 200)


class ScriptedJudge(ScriptedEngine):
    """Gives its `answers` in order; then that everybody has finished."""

    def __init__(self, *answers: float) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = asyncio.Semaphore(0)  # released each time

    async def finished(self, samples: Samples) -> float:
        await self.obey()
        self.asked.release()
        return self.answers.pop(0) if self.answers else 1.0


class ScriptedTranscriber(ScriptedEngine):
    """Hears its `texts` in order, and the last one ever after. Silence has no words."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.texts = list(texts) or ["hello there"]
        self.lengths_s: list[float] = []

    async def transcribe(self, samples: Samples, hearing: Hearing) -> AsyncIterator[Transcript]:
        await self.obey()
        duration_s = len(samples) / EAR_RATE
        self.lengths_s.append(duration_s)
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        quiet = not len(samples) or float(np.abs(samples).max()) < LOUD / 100
        yield Transcript(text="" if quiet else text, language="en", duration=duration_s)


class ScriptedSpeaker(ScriptedEngine):
    """Every word lasts `WORD_S`."""

    VOICES: ClassVar = (VoiceInfo(name="af_heart", language="en-US", gender="female"),)

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def voices(self) -> tuple[VoiceInfo, ...]:
        return self.VOICES

    def has(self, voice: str) -> bool:
        return voice in ("af_heart", "alloy")

    async def speak(self, text: str, *, voice: str, speed: float = 1.0) -> AsyncIterator[Samples]:
        await self.obey()
        self.said.append(text)
        yield sound(len(text.split()) * WORD_S * 1000 / speed, VOICE_RATE, HERS)


def scripted_speech(
    transcriber: ScriptedTranscriber | None = None, judge: ScriptedJudge | None = None
) -> Speech:
    """All four."""
    return Speech(
        transcriber=transcriber or ScriptedTranscriber(),
        speaker=ScriptedSpeaker(),
        detector=ScriptedDetector(),
        judge=judge or ScriptedJudge(),
    )


class Unasked:
    """Control's side where nothing is to be approved."""

    async def settle(
        self,
        approval_id: ApprovalId,
        *,
        approve: bool,
        by: str,
        reason: str = "",
        code: str | None = None,
    ) -> object:
        raise NotFound(f"No approval {approval_id!r}.")

    async def code(self, approval_id: ApprovalId) -> str:
        raise NotFound(f"No approval {approval_id!r}.")
