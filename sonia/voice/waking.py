"""Whether she is spoken to: by a wake word that begins an utterance, or because she just was.

It is found in the words, not in the sound: detectors that come with weights know other names.
"""

from __future__ import annotations

import re

from sonia.voice.playback import Clock

AWAKE_S = 20.0  # after an answer, whoever goes on talks to her
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ALIKE = str.maketrans("yjkzáàéèíóúö", "iicsaaeeioou")
_TWICE = re.compile(r"(.)\1+")


class Wake:
    """One session's. Without a `word` she is always spoken to."""

    def __init__(self, word: str, clock: Clock) -> None:
        self._word = [_folded(part) for part in _WORD.findall(word)]
        self._clock = clock
        self._until = float("-inf")

    @property
    def awake(self) -> bool:
        """Whether anything that is said now is for her."""
        return not self._word or self._clock.now() < self._until

    def stay(self) -> None:
        """She was talked to, by a button or in writing too, or has answered."""
        self._until = self._clock.now() + AWAKE_S

    def addressed(self, text: str) -> str | None:
        """What of `text` is said to her; empty if it is her name alone, None if nothing is."""
        found = list(_WORD.finditer(text))[: len(self._word)]
        if self._word and [_folded(one.group()) for one in found] == self._word:
            self.stay()
            return text[found[-1].end() :].lstrip(" ,.;:!?-\u2014")
        return text if self.awake else None


def _folded(word: str) -> str:
    """As it sounds, roughly: `Sonya`, `Sonja` and `Sonia` are one."""
    return _TWICE.sub(r"\1", word.casefold().translate(_ALIKE))
