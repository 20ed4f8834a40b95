"""Who speaks when: windows of sound in, turns of speech out. Time here is the sound's own."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from sonia.voice.speech import EAR_RATE, WINDOW, Samples, SpeechStream

WINDOW_MS = WINDOW * 1000 / EAR_RATE
BEFORE_WINDOWS = 10  # kept from before the first window that was speech
STARTS_WINDOWS = 2  # fewer are a click
LONGEST_S = 60.0  # nobody is listened to for longer without being answered
HYSTERESIS = 0.15


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long which silence is waited for, in milliseconds.

    After `suspect_ms` the words are looked for, in case nothing follows; from `ask_ms` on, and
    again every `again_ms`, whether that was all; after `longest_ms` it was, whatever it sounded
    like.
    """

    suspect_ms: float = 64
    ask_ms: float = 192
    again_ms: float = 256
    longest_ms: float = 1600


PATIENCE = {
    "quick": Patience(longest_ms=800),
    "balanced": Patience(),
    "patient": Patience(ask_ms=416, longest_ms=3200),
}


class Began(msgspec.Struct, frozen=True):
    """Speech began at `at_ms`."""

    at_ms: float


class Paused(msgspec.Struct, frozen=True):
    """A pause, which may be the end: `samples` were said up to it."""

    samples: Samples


class Asks(msgspec.Struct, frozen=True):
    """The pause lasts: was that all? Answer with `Attention.settle`."""

    samples: Samples


class WentOn(msgspec.Struct, frozen=True):
    """The pause was none."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The turn is over: what was said, from when to when. `voiced` is without the last silence."""

    samples: Samples
    voiced: Samples
    start_ms: float
    end_ms: float


Noticed = Began | Paused | Asks | WentOn | Ended


class Attention:
    """Listens to one microphone. `speaking` is true from `Began` to `Ended`."""

    def __init__(self, stream: SpeechStream, patience: Patience, threshold: float) -> None:
        self._stream = stream
        self._patience = patience
        self._threshold = threshold
        self._rest = np.empty(0, np.float32)
        self._before: deque[Samples] = deque(maxlen=BEFORE_WINDOWS)
        self._said: list[Samples] = []
        self._windows = 0  # heard since the beginning
        self._loud = 0
        self._silent = 0
        self._start = 0
        self._asked_ms = 0.0
        self.speaking = False

    @property
    def voiced_ms(self) -> float:
        """How long this turn lasts, from the first to the last window that was speech."""
        windows = self._windows - self._start - self._silent
        return windows * WINDOW_MS if self.speaking else 0.0

    @property
    def said(self) -> Samples:
        """This turn's sound so far."""
        return np.concatenate(self._said) if self._said else np.empty(0, np.float32)

    async def feed(self, samples: Samples) -> list[Noticed]:
        """Listen on; what was noticed, in order. Any number of samples."""
        sound = np.concatenate([self._rest, samples])
        whole = len(sound) // WINDOW * WINDOW
        self._rest = sound[whole:]
        noticed: list[Noticed] = []
        for at in range(0, whole, WINDOW):
            window = sound[at : at + WINDOW]
            noticed += self._hear(window, await self._stream.speaking(window))
        return noticed

    def settle(self) -> Ended | None:
        """The turn is over now; None if there is none."""
        if not self.speaking:
            return None
        end = self._windows - self._silent
        samples = self.said
        ended = Ended(
            samples=samples,
            voiced=samples[: len(samples) - self._silent * WINDOW],
            start_ms=self._start * WINDOW_MS,
            end_ms=end * WINDOW_MS,
        )
        self._said, self._loud, self._silent = [], 0, 0
        self.speaking = False
        return ended

    def _hear(self, window: Samples, probability: float) -> list[Noticed]:
        self._windows += 1
        if not self.speaking:
            return self._wait(window, probability)
        self._said.append(window)
        if probability >= self._threshold - HYSTERESIS:
            silent, self._silent = self._silent, 0
            if len(self._said) * WINDOW_MS >= LONGEST_S * 1000:
                ended = self.settle()
                return [ended] if ended else []
            return [WentOn()] if silent * WINDOW_MS >= self._patience.suspect_ms else []
        self._silent += 1
        return self._pause()

    def _wait(self, window: Samples, probability: float) -> list[Noticed]:
        self._before.append(window)
        self._loud = self._loud + 1 if probability >= self._threshold else 0
        if self._loud < STARTS_WINDOWS:
            return []
        self._said, self._silent, self._asked_ms = list(self._before), 0, 0.0
        self._before.clear()
        self._start = self._windows - STARTS_WINDOWS
        self.speaking = True
        return [Began(self._start * WINDOW_MS)]

    def _pause(self) -> list[Noticed]:
        patience, silent_ms = self._patience, self._silent * WINDOW_MS
        if silent_ms - WINDOW_MS < patience.suspect_ms <= silent_ms:
            return [Paused(self.said)]
        if silent_ms >= patience.longest_ms:
            ended = self.settle()
            return [ended] if ended else []
        first = silent_ms - WINDOW_MS < patience.ask_ms <= silent_ms
        if first or (self._asked_ms and silent_ms - self._asked_ms >= patience.again_ms):
            self._asked_ms = silent_ms
            return [Asks(self.said)]
        return []
