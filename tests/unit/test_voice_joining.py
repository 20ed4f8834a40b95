"""Sound that is made in windows and joined again."""

from __future__ import annotations

import numpy as np
import pytest

from sonia.voice.engines.kokoro_frames import (
    CONTEXT,
    FIRST_FRAMES,
    FRAME,
    Joint,
    Window,
    windows,
)
from sonia.voice.speech import VOICE_RATE, Samples


def tone(frames: int, level: float = 0.5) -> Samples:
    """A voice's harmonics at 120 Hz."""
    time = np.arange(frames * FRAME) / VOICE_RATE
    parts = [np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 6)]
    return (level * sum(parts) / 2).astype(np.float32)


def made(sound: Samples, window: Window) -> Samples:
    """What an engine makes for `window`: its frames and the context around."""
    frames = len(sound) // FRAME
    start, stop = max(0, window.start - CONTEXT), min(frames, window.stop + CONTEXT)
    return sound[start * FRAME : stop * FRAME]


@pytest.mark.parametrize("frames", [1, 20, 31, 32, 33, 59, 60, 61, 400])
def test_windows_cover_every_frame_once(frames: int) -> None:
    cut = list(windows(frames, FIRST_FRAMES))

    assert [cut[0].start, cut[-1].stop] == [0, frames]
    assert [before.stop for before in cut[:-1]] == [after.start for after in cut[1:]]
    assert [window.first for window in cut] == [True] + [False] * (len(cut) - 1)
    assert [window.last for window in cut] == [False] * (len(cut) - 1) + [True]


def test_nothing_is_made_apart_unless_it_is_wanted_soon() -> None:
    assert len(list(windows(400, ()))) == 1
    assert [window.stop for window in windows(400, FIRST_FRAMES)] == [16, 44, 400]
    assert [window.stop for window in windows(50, FIRST_FRAMES)] == [16, 50]


def test_what_was_cut_is_joined_to_what_it_was() -> None:
    whole = tone(100)
    joint = Joint()

    parts = [joint.add(made(whole, window), window) for window in windows(100, FIRST_FRAMES)]

    joined = np.concatenate(parts)
    assert len(parts[0]) > 0.35 * VOICE_RATE
    assert abs(len(joined) - len(whole)) <= 2 * VOICE_RATE // 70
    assert np.abs(np.diff(joined)).max() <= 1.05 * np.abs(np.diff(whole)).max()


def test_a_later_window_that_is_quieter_begins_as_loud_as_the_one_before() -> None:
    joint = Joint()
    first, rest = windows(100, (24,))

    loud = joint.add(made(tone(100, 0.5), first), first)
    quiet = joint.add(made(tone(100, 0.4), rest), rest)

    tenth = VOICE_RATE // 20
    ends, begins = np.std(loud[-tenth:]), np.std(quiet[:tenth])
    assert begins == pytest.approx(ends, rel=0.05)
    assert np.std(quiet[-tenth:]) == pytest.approx(0.8 * ends, rel=0.05)


def test_silence_before_and_after_is_not_part_of_a_clause() -> None:
    whole = np.concatenate([np.zeros(6000, np.float32), tone(40), np.zeros(9000, np.float32)])
    (window,) = windows(len(whole) // FRAME, ())

    sound = Joint().add(whole, window)

    assert len(tone(40)) <= len(sound) <= len(tone(40)) + 4096
