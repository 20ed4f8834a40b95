"""Sound from one rate to another, as it comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sonia.voice.speech import Samples


class Resampler:
    """From one rate to another, piece by piece."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        import soxr

        self._stream: Any = None
        if from_hz != to_hz:
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="MQ")

    def feed(self, samples: Samples) -> Samples:
        """The next samples at the other rate; a few may come with the next piece."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples), np.float32)

    def end(self) -> Samples:
        """What is left of a sound that is over; nothing can be fed after it."""
        if self._stream is None:
            return np.empty(0, np.float32)
        rest = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        return np.asarray(rest, np.float32)
