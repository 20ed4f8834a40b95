"""G.711, the telephone's eight bits (ITU-T G.711): mu-law and A-law to samples and back."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonia.voice.speech import Samples

Law = Literal["mulaw", "alaw"]
RATE = 8000


def _mulaw() -> NDArray[np.float32]:
    code = ~np.arange(256) & 0xFF
    size = ((((code & 15) << 3) + 132) << ((code >> 4) & 7)) - 132
    return (np.where(code & 128, -size, size) / 32768).astype(np.float32)


def _alaw() -> NDArray[np.float32]:
    code = np.arange(256) ^ 0x55
    steps, low = (code >> 4) & 7, (code & 15) << 4
    size = np.where(steps == 0, low + 8, (low + 264) << np.maximum(steps - 1, 0))
    return (np.where(code & 128, size, -size) / 32768).astype(np.float32)


_TABLES: dict[Law, NDArray[np.float32]] = {"mulaw": _mulaw(), "alaw": _alaw()}


def decoded_g711(coded: bytes, law: Law) -> Samples:
    """One sample a byte, 8,000 a second."""
    return _TABLES[law][np.frombuffer(coded, np.uint8)]


def encoded_g711(samples: Samples, law: Law) -> bytes:
    """The nearest code of each sample."""
    table = _TABLES[law]
    order = np.argsort(table, kind="stable")
    levels = table[order]
    above = np.clip(np.searchsorted(levels, samples), 1, 255)
    nearer = samples - levels[above - 1] < levels[above] - samples
    return order[np.where(nearer, above - 1, above)].astype(np.uint8).tobytes()
