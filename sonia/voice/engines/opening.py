"""Which engines there are; none is loaded before its first use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sonia.voice.engines.kokoro import KokoroSpeaker
from sonia.voice.engines.loading import WeightsSource
from sonia.voice.engines.silero import SileroDetector
from sonia.voice.engines.smart_turn import SmartTurnJudge
from sonia.voice.engines.whisper import WhisperTranscriber
from sonia.voice.speech import Speech


@asynccontextmanager
async def open_speech(weights: WeightsSource, voices: Sequence[str]) -> AsyncIterator[Speech]:
    """Hear and speak until left; `voices` are the files of the voices' weights."""
    transcriber = WhisperTranscriber(weights)
    speaker = KokoroSpeaker(weights, tuple(voices))
    detector = SileroDetector(weights)
    judge = SmartTurnJudge(weights)
    try:
        yield Speech(transcriber=transcriber, speaker=speaker, detector=detector, judge=judge)
    finally:
        await detector.close()
        await judge.close()
        await transcriber.close()
        await speaker.close()
