"""What every detector of speech and every judge of turns holds, the real ones and the scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from sonia.config import Config
from sonia.voice import EAR_RATE, Samples, Speech, decoded, open_speech
from sonia.voice.speech import WINDOW, SpeechDetector, TurnJudge
from sonia.weights import Weights
from tests.voice_given import ScriptedJudge, scripted_speech, silence, sound

CLIP = (
    Path(__file__).parent.parent.parent.parent
    / "shared"
    / "data"
    / "speech"
    / "DeepSpeech__arctic_a0024.flac"
)


@pytest.fixture(params=["scripted", "real"])
async def speech(request: pytest.FixtureRequest) -> AsyncIterator[Speech]:
    if request.param == "scripted":
        yield scripted_speech(judge=ScriptedJudge(0.9, 0.1))
        return
    async with open_speech(Weights(Config().models), ["af_heart.bin"]) as real:
        yield real


@pytest.fixture
def spoken(speech: Speech) -> Samples:
    """A sentence of 4 seconds, or what a scripted engine takes for one."""
    if speech.detector.model == "scripted":
        return sound(4000)
    with CLIP.open("rb") as file:
        return decoded(file, longest_s=10)


async def probabilities(detector: SpeechDetector, samples: Samples) -> list[float]:
    stream = detector.stream()
    starts = range(0, len(samples) - WINDOW + 1, WINDOW)
    return [await stream.speaking(samples[start : start + WINDOW]) for start in starts]


async def test_speech_is_told_from_silence_and_a_hum(speech: Speech, spoken: Samples) -> None:
    height = 0.001 if speech.detector.model == "scripted" else 0.05  # to that, loud is speech
    hum = (height * np.sin(np.arange(EAR_RATE) * 0.02)).astype(np.float32)

    quiet = await probabilities(speech.detector, np.concatenate([silence(500), hum]))
    loud = await probabilities(speech.detector, np.concatenate([silence(500), spoken]))

    assert isinstance(speech.detector, SpeechDetector)
    assert max(quiet) < 0.5
    assert np.mean(np.array(loud[16:]) > 0.5) > 0.8


async def test_two_streams_know_nothing_of_each_other(speech: Speech, spoken: Samples) -> None:
    alone = await probabilities(speech.detector, spoken[: 20 * WINDOW])
    first, second = speech.detector.stream(), speech.detector.stream()

    mixed = []
    for start in range(0, 20 * WINDOW, WINDOW):
        mixed.append(await first.speaking(spoken[start : start + WINDOW]))
        await second.speaking(np.zeros(WINDOW, np.float32))

    assert mixed == pytest.approx(alone)


async def test_who_has_finished_is_told_from_who_has_not(speech: Speech, spoken: Samples) -> None:
    whole = await speech.judge.finished(spoken)
    part = await speech.judge.finished(spoken[: len(spoken) // 2])

    assert isinstance(speech.judge, TurnJudge)
    assert 0 <= part < 0.5 < whole <= 1
