"""Telling an interruption from her own voice and from a listener's small words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from sonia.voice import EAR_RATE, Samples, decoded
from sonia.voice.echo import ALIKE, is_back_channel, overlap, resemblance
from sonia.voice.speech import VOICE_RATE

SPEECH = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "speech"
PART_S, BEFORE_S = 0.45, 1.3


def clip(name: str) -> Samples:
    with (SPEECH / name).open("rb") as file:
        return decoded(file, longest_s=30)


def reverberant(sound: Samples, seconds: float) -> Samples:
    size = int(seconds * EAR_RATE)
    room = np.random.default_rng(1).normal(0, 1, size) * np.exp(-np.arange(size) * 4 / size)
    room *= 0.5 / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    return np.convolve(sound, room)[: len(sound)].astype(np.float32)


def played(sound: Samples, at_s: float) -> Samples:
    """What she said up to then, as it was sent."""
    sent = soxr.resample(sound, EAR_RATE, VOICE_RATE)
    return sent[int((at_s - BEFORE_S) * VOICE_RATE) : int((at_s + PART_S) * VOICE_RATE)]


def part(sound: Samples, at_s: float) -> Samples:
    return sound[int(at_s * EAR_RATE) : int((at_s + PART_S) * EAR_RATE)]


@pytest.mark.parametrize("level_db", [-10, -20, -30])
def test_real_speech_that_comes_back_from_a_room_is_known_again(level_db: int) -> None:
    hers = clip("lhotse__2412-153948-0000.flac")
    back = reverberant(hers, 0.3) * np.float32(10 ** (level_db / 20))
    noise = np.random.default_rng(2).normal(0, 0.001, len(back)).astype(np.float32)

    likeness = [resemblance(part(back + noise, at), played(hers, at)) for at in (2.0, 4.0, 6.0)]

    assert sorted(likeness)[1] > ALIKE  # a breath in the noise is not known, and not heard


def test_somebody_elses_speech_is_not_taken_for_hers() -> None:
    hers, other = clip("lhotse__2412-153948-0000.flac"), clip("DeepSpeech__arctic_a0024.flac")

    likeness = [resemblance(part(other, 1.0), played(hers, at)) for at in (2.0, 4.0, 6.0)]

    assert max(likeness) < ALIKE


def test_nothing_played_is_like_nothing() -> None:
    other = clip("DeepSpeech__arctic_a0024.flac")

    assert resemblance(part(other, 1.0), np.zeros(VOICE_RATE, np.float32)) == 0.0
    assert resemblance(part(other, 1.0), np.empty(0, np.float32)) == 0.0


@pytest.mark.parametrize("text", ["", "Uh-huh.", "Yeah.", "Mm-hmm, right.", "I see"])
def test_small_words_are_a_listeners(text: str) -> None:
    assert is_back_channel(text)


@pytest.mark.parametrize("text", ["Stop.", "No.", "Okay, but why?", "Yes, do that now"])
def test_other_words_are_meant_for_her(text: str) -> None:
    assert not is_back_channel(text)


def test_her_own_words_are_counted() -> None:
    hers = "There was a very small house."

    assert overlap("a very small house", hers) == 1.0
    assert overlap("what about the garden", hers) == 0.0
    assert overlap("", hers) == 0.0
