"""From phonemes to frames, and from windows of frames to sound that joins without a seam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sonia.log import get_logger
from sonia.types import Value
from sonia.voice.engines.kokoro_graph import (
    ENERGY,
    FEATURES,
    PITCH,
    Halves,
    UnknownGraph,
    halves,
)
from sonia.voice.speech import VOICE_RATE, Samples

THREADS = 2
FRAME = 600  # samples: 40 frames a second
# What is made first of an answer, so that it is heard early: 0.4 s, then 0.7 s while that plays.
FIRST_FRAMES = (16, 28)
CONTEXT = 8  # frames of the neighbour that a window is made with, and joined in
LEAD, TAIL = 4, 6  # frames kept of the silence around; the first consonant is clipped with fewer
FADE = VOICE_RATE // 100  # samples, 10 ms
SHIFT = VOICE_RATE // 70  # samples: a period of a low voice
MARKS = frozenset(';:,.!?\u2014\u2026"() \u201c\u201d')


class Clause(msgspec.Struct, frozen=True):
    """What the second half needs: features [1, 512, frames], pitch and energy [1, 2 x frames]
    and style [1, 256]; or, of a graph that can't be cut, the sound itself.
    """

    features: Any
    pitch: Any
    energy: Any
    style: Any
    sound: Any = None

    @property
    def frames(self) -> int:
        """How many; 0 when there is only the sound."""
        return 0 if self.features is None else int(self.features.shape[2])


class Window(Value):
    """Frames from `start` up to `stop` are made, with those up to `CONTEXT` around them."""

    start: int
    stop: int
    first: bool
    last: bool


def windows(frames: int, soon: Sequence[int]) -> Iterator[Window]:
    """The whole; with `soon`, so many frames first, and last what would be little by itself."""
    start = 0
    for length in soon:
        if frames - start < length + 2 * CONTEXT:
            break
        yield Window(start=start, stop=start + length, first=not start, last=False)
        start += length
    yield Window(start=start, stop=frames, first=not start, last=True)


class Joint:
    """Joins the windows of one clause, in order.

    Where two meet, the later one is moved by up to a period of the voice to where it fits best,
    brought to the same level, and faded in over 10 ms.
    """

    def __init__(self) -> None:
        self._held: Samples = np.empty(0, np.float32)

    def add(self, sound: Samples, window: Window) -> Samples:
        """What can be played now that `sound`, of `window` and its context, is there."""
        from kokoro_onnx.trim import trim

        if not len(sound):
            return sound
        start, stop = (int(place) for place in trim(sound)[1])
        cut = window.stop * FRAME
        if not window.first:
            sound = self._fitted(sound)
            stop = max(0, stop - CONTEXT * FRAME)
            start = 0
            cut = FADE + (window.stop - window.start) * FRAME
        if window.last:
            return np.asarray(sound[start : max(start, stop)], np.float32)
        self._held = sound[cut - SHIFT - FADE : cut + CONTEXT * FRAME]
        return np.asarray(sound[min(start, cut - FADE) : cut - FADE], np.float32)

    def _fitted(self, sound: Samples) -> Samples:
        """`sound` from the joint on, its first 10 ms mixed with those held back."""
        joint = CONTEXT * FRAME
        seam = self._held[SHIFT : SHIFT + FADE]
        near = sound[joint - FADE - SHIFT : joint + SHIFT]
        alike = np.correlate(near, seam, "valid")
        energy = np.convolve(np.square(near), np.ones(FADE, np.float32), "valid")
        best = int(np.argmax(alike / np.sqrt(energy + 1e-9)))
        rest = near_level(sound[joint - FADE - SHIFT + best :], self._held)
        fade = np.linspace(0, 1, FADE, dtype=np.float32)
        rest[:FADE] = seam * (1 - fade) + rest[:FADE] * fade
        return rest


def near_level(sound: Samples, before: Samples) -> Samples:
    """A copy of `sound` that begins as loud as `before` and ends as loud as it is."""
    own = float(np.sqrt(np.mean(np.square(sound[: len(before)]))))
    wanted = float(np.sqrt(np.mean(np.square(before))))
    gain = min(max(wanted / own, 0.7), 1.4) if own > 1e-4 else 1.0
    copy = sound.copy()
    length = min(len(copy), VOICE_RATE // 3)
    copy[:length] *= np.linspace(gain, 1, length, dtype=np.float32)
    return copy


class Kokoro:
    """The model, loaded. Blocks; call it from one thread at a time."""

    def __init__(
        self, model: dict[str, Path], voices: dict[str, Path], *, quick: bool = True
    ) -> None:
        """Without `quick` the graph is run as it is, to compare with."""
        from kokoro_onnx.tokenizer import Tokenizer

        (path,) = model.values()
        cut = _cut(path) if quick else None
        self._before = _session(cut.before if cut else str(path))
        self._after = _session(cut.after) if cut else None
        self._takes = {item.name: item.type for item in self._before.get_inputs()}
        self._voices = voices
        self._styles: dict[str, Any] = {}
        self._tokenizer = Tokenizer()
        marks = self._tokenizer.tokenize("".join(MARKS))
        self._silent = frozenset((0, *marks))

    def prepare(self, text: str, language: str, voice: str, speed: float) -> list[Clause]:
        """What is to be made into sound; nothing if nothing is speakable."""
        if not any(letter.isalnum() for letter in text):
            return []  # marks alone become a noise
        from kokoro_onnx.chunker import split_phonemes
        from kokoro_onnx.config import MAX_PHONEME_LENGTH

        phonemes = " ".join(self._tokenizer.phonemize(text, language).split())
        parts = split_phonemes(phonemes, MAX_PHONEME_LENGTH) if phonemes else []
        tokens = [self._tokenizer.tokenize(part) for part in parts]
        return [self._clause(part, voice, speed) for part in tokens if part]

    def render(self, clause: Clause, window: Window) -> Samples:
        """The sound of `window` with its context, 600 samples a frame."""
        if self._after is None:
            return np.asarray(clause.sound, np.float32)
        start, stop = max(0, window.start - CONTEXT), min(clause.frames, window.stop + CONTEXT)
        style = self._after.get_inputs()[-1].name
        (sound,) = self._after.run(
            None,
            {
                FEATURES: clause.features[:, :, start:stop],
                PITCH: clause.pitch[:, 2 * start : 2 * stop],
                ENERGY: clause.energy[:, 2 * start : 2 * stop],
                style: clause.style,
            },
        )
        return np.asarray(sound, np.float32).ravel()

    def _clause(self, tokens: list[int], voice: str, speed: float) -> Clause:
        styles = self._style(voice)
        style = styles[min(len(tokens), len(styles)) - 1]
        name = "input_ids" if "input_ids" in self._takes else "tokens"
        pace: Any = np.array([speed], np.float32)
        if "int" in self._takes["speed"]:
            pace = np.array([max(1, round(speed))], np.int32)
        given = {name: np.array([[0, *tokens, 0]], np.int64), "style": style, "speed": pace}
        made = self._before.run(None, given)
        if self._after is None:
            return Clause(None, None, None, style, np.asarray(made[0]).ravel())
        features, pitch, energy, durations = made
        first, last = self._spoken(tokens, durations)
        return Clause(
            features[:, :, first:last],
            pitch[:, 2 * first : 2 * last],
            energy[:, 2 * first : 2 * last],
            style,
        )

    def _spoken(self, tokens: list[int], durations: Any) -> tuple[int, int]:
        """The frames from a little before the first sound to a little after the last."""
        ends = np.cumsum(durations)
        loud = [place for place, token in enumerate((0, *tokens, 0)) if token not in self._silent]
        if not loud:
            return 0, int(ends[-1])
        begins = int(ends[loud[0]] - durations[loud[0]])
        return max(0, begins - LEAD), min(int(ends[-1]), int(ends[loud[-1]]) + TAIL)

    def _style(self, voice: str) -> Any:
        if voice not in self._styles:
            raw = np.fromfile(self._voices[f"{voice}.bin"], np.float32)
            self._styles[voice] = raw.reshape(-1, 1, 256)
        return self._styles[voice]


def _cut(path: Path) -> Halves | None:
    try:
        return halves(path)
    except UnknownGraph as error:
        get_logger("pipecat").warning("speaking by the graph as it is", reason=str(error))
        return None


def _session(model: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
