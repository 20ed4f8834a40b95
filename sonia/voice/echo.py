"""What is no interruption: her own voice coming back, and the small words of a listener."""

from __future__ import annotations

import re

import numpy as np

from sonia.voice.speech import EAR_RATE, VOICE_RATE, Samples

LATEST_S = 1.0  # how much later than it was sent an echo may be heard
ALIKE = 0.35  # normalised correlation of two sounds that are one
FAINTLY_ALIKE = 0.15  # the same with other noises; with her words in it, it is hers too
SHARED = 0.6  # of the words heard, so many were hers
_SMALL = """
uh um hm hmm mm mhm mmhm mhmm mm-hmm huh uh-huh uhhuh ah oh aha yeah yep yes yup ok okay right sure
i see wow really nice good cool great true exactly indeed thanks thank you ja genau achso oui si sí
vale claro
"""
BACK_CHANNELS = frozenset(_SMALL.split())
MOST_BACK_CHANNELS = 3
_WORD = re.compile(r"[\w'-]+")


def words(text: str) -> list[str]:
    """The words of `text`, folded."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def is_back_channel(text: str) -> bool:
    """Whether somebody who says this is only listening; nothing at all is that too."""
    said = words(text)
    return len(said) <= MOST_BACK_CHANNELS and all(word in BACK_CHANNELS for word in said)


def overlap(text: str, hers: str) -> float:
    """Which share of the words of `text` she said herself, in [0, 1]."""
    said, known = words(text), set(words(hers))
    return sum(word in known for word in said) / len(said) if said else 0.0


def resemblance(heard: Samples, played: Samples) -> float:
    """How much of `heard` is `played`, whatever its loudness and delay: in [0, 1].

    `heard` is at 16,000 a second, `played` at 24,000 and longer by the delays that may be. It
    is the peak of the normalised cross-correlation.
    """
    import soxr

    reference = np.asarray(soxr.resample(played, VOICE_RATE, EAR_RATE, quality="QQ"), np.float32)
    if len(reference) < len(heard):
        reference = np.pad(reference, (0, len(heard) - len(reference)))
    if not len(heard) or not np.any(reference):
        return 0.0
    size = 1 << (len(reference) + len(heard) - 1).bit_length()
    product = np.fft.rfft(reference, size) * np.conj(np.fft.rfft(heard, size))
    matches = np.fft.irfft(product, size)[: len(reference) - len(heard) + 1]
    sums = np.concatenate([[0.0], np.cumsum(np.square(reference, dtype=np.float64))])
    energies = sums[len(heard) :] - sums[: len(sums) - len(heard)]
    scale = np.sqrt(np.maximum(energies, 1e-9) * max(float(np.sum(np.square(heard))), 1e-9))
    loud = energies > 1e-4 * energies.max()
    return float(np.max(np.where(loud, np.abs(matches) / scale, 0.0)))
