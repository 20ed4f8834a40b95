"""Kokoro on ONNX Runtime: a clause of text to sound, 24,000 samples a second."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial

import numpy as np

from sonia.errors import InvalidRequest
from sonia.voice.engines.kokoro_frames import FIRST_FRAMES, Clause, Joint, Kokoro, windows
from sonia.voice.engines.loading import Engine, WeightsSource
from sonia.voice.speech import VOICE_RATE, Samples, UnknownVoice, VoiceInfo

SLOWEST, FASTEST = 0.5, 2.0  # what the model speaks well; the rest is stretched afterwards
SENTENCE_PAUSE_S, CLAUSE_PAUSE_S = 0.25, 0.1
FIRST_WORDS = 12  # a first clause of at least so many is spoken before its sentence ends
LANGUAGES = {
    "a": ("en-us", "en-US"),
    "b": ("en-gb", "en-GB"),
    "e": ("es", "es"),
    "f": ("fr-fr", "fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "j": ("ja", "ja"),
    "p": ("pt-br", "pt-BR"),
    "z": ("cmn", "zh"),
}
# The names that OpenAI's clients know, and who speaks for them here.
ALIASES = {
    "alloy": "af_alloy",
    "ash": "am_michael",
    "ballad": "bm_george",
    "cedar": "am_fenrir",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "marin": "af_heart",
    "nova": "af_nova",
    "onyx": "am_onyx",
    "sage": "af_sarah",
    "shimmer": "af_sky",
    "verse": "am_puck",
}
_SENTENCE = re.compile("(?<=[.!?\u2026\u3002\uff01\uff1f])[\"'\u201d\u2019)\\]]*\\s+|\n+")
_CLAUSE = re.compile("(?<=[,;:\u2014\u2013\u3001\uff0c\uff1b])\\s+")


def clauses(text: str) -> Iterator[tuple[str, float]]:
    """What is spoken at once, and the seconds of silence after it.

    Sentences; of the first, if it is long, a clause of its own, so that sound begins early.
    """
    sentences = [part.strip() for part in _SENTENCE.split(text) if part and part.strip()]
    for number, sentence in enumerate(sentences):
        if number == 0:
            head, rest = _first_clause(sentence)
            if rest:
                yield head, CLAUSE_PAUSE_S
                sentence = rest
        yield sentence, SENTENCE_PAUSE_S if number < len(sentences) - 1 else 0.0


def _first_clause(sentence: str) -> tuple[str, str]:
    if len(sentence.split()) <= FIRST_WORDS:
        return sentence, ""
    for cut in _CLAUSE.finditer(sentence):
        head = sentence[: cut.start()]
        if len(head.split()) >= 3:
            return head, sentence[cut.end() :]
    return sentence, ""


class KokoroSpeaker:
    """`Speaker` on the weights of the catalogue, loaded at the first use."""

    def __init__(
        self,
        weights: WeightsSource,
        names: tuple[str, ...],
        model: str = "kokoro-82m-int8",
        voices: str = "kokoro-voices",
        *,
        quick: bool = True,
    ) -> None:
        """`names` are the voices' files, such as `af_heart.bin`; `quick` as in `Kokoro`."""
        self.model = model
        self._names = tuple(sorted(name.removesuffix(".bin") for name in names))
        self._engine = Engine(weights, (model, voices), partial(Kokoro, quick=quick))

    @property
    def state(self) -> str:
        """See `Speaker.state`."""
        return self._engine.state

    def voices(self) -> tuple[VoiceInfo, ...]:
        """See `Speaker.voices`."""
        return tuple(
            VoiceInfo(
                name=name,
                language=LANGUAGES[name[0]][1],
                gender="female" if name[1] == "f" else "male",
            )
            for name in self._names
        )

    def has(self, voice: str) -> bool:
        """See `Speaker.has`."""
        return ALIASES.get(voice, voice) in self._names

    async def speak(self, text: str, *, voice: str, speed: float = 1.0) -> AsyncIterator[Samples]:
        """See `Speaker.speak`."""
        from sonia.voice.codec import stretched

        name = ALIASES.get(voice, voice)
        if not self.has(voice):
            raise UnknownVoice(
                f"No voice {voice!r}. There are {', '.join(self._names)}; and, as OpenAI names "
                f"them, {', '.join(ALIASES)}.",
                voice=voice,
            )
        own = min(max(speed, SLOWEST), FASTEST)
        spoken = False
        for clause, pause_s in clauses(text):
            async for sound in self._clause(clause, name, own, soon=not spoken):
                spoken = True
                if own != speed:
                    sound = await asyncio.to_thread(stretched, sound, speed / own)
                yield sound
            if spoken and pause_s:
                yield np.zeros(int(pause_s / speed * VOICE_RATE), np.float32)
        if not spoken:
            raise InvalidRequest("There is nothing in the text that can be spoken.")

    async def _clause(
        self, text: str, voice: str, speed: float, *, soon: bool
    ) -> AsyncIterator[Samples]:
        """The sound of one clause; with `soon`, its beginning by itself, as soon as it is made."""
        parts: list[Clause] = await self._engine.run(
            Kokoro.prepare, text, LANGUAGES[voice[0]][0], voice, speed
        )
        for part in parts:
            joint = Joint()
            for window in windows(part.frames, FIRST_FRAMES if soon else ()):
                sound = await self._engine.run(Kokoro.render, part, window)
                sound = joint.add(sound, window)
                if len(sound):
                    yield sound

    async def close(self) -> None:
        """Let the model go."""
        await self._engine.close()
