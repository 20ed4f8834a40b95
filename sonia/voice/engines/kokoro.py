"""Kokoro on ONNX Runtime: a clause of text to sound, 24,000 samples a second."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sonia.errors import InvalidRequest
from sonia.voice.engines.loading import Engine, WeightsSource
from sonia.voice.speech import VOICE_RATE, Samples, UnknownVoice, VoiceInfo

THREADS = 2
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


class Kokoro:
    """The model, loaded. Blocks; call it from one thread at a time."""

    def __init__(self, model: dict[str, Path], voices: dict[str, Path]) -> None:
        import onnxruntime
        from kokoro_onnx.tokenizer import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        (path,) = model.values()
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {item.name: item.type for item in self._session.get_inputs()}
        self._voices = voices
        self._styles: dict[str, Any] = {}
        self._tokenizer = Tokenizer()

    def say(self, text: str, voice: str, speed: float) -> Samples:
        """The sound of one clause, without the silence around it; empty if nothing is speakable."""
        if not any(letter.isalnum() for letter in text):
            return np.empty(0, np.float32)  # marks alone become a noise
        from kokoro_onnx.chunker import split_phonemes
        from kokoro_onnx.config import MAX_PHONEME_LENGTH

        phonemes = " ".join(self._tokenizer.phonemize(text, LANGUAGES[voice[0]][0]).split())
        parts = split_phonemes(phonemes, MAX_PHONEME_LENGTH) if phonemes else []
        sounds = [sound for part in parts if len(sound := self._infer(part, voice, speed))]
        return np.concatenate(sounds) if sounds else np.empty(0, np.float32)

    def _infer(self, phonemes: str, voice: str, speed: float) -> Samples:
        from kokoro_onnx.trim import trim as trim_audio

        tokens = self._tokenizer.tokenize(phonemes)
        if not tokens:
            return np.empty(0, np.float32)
        style = self._style(voice)
        name = "input_ids" if "input_ids" in self._inputs else "tokens"
        pace: Any = np.array([speed], np.float32)
        if "int" in self._inputs["speed"]:
            pace = np.array([max(1, round(speed))], np.int32)
        (sound, *_) = self._session.run(
            None,
            {
                name: np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1],
                "speed": pace,
            },
        )
        trimmed, _ = trim_audio(np.asarray(sound, np.float32).ravel())
        return np.asarray(trimmed, np.float32)

    def _style(self, voice: str) -> Any:
        if voice not in self._styles:
            raw = np.fromfile(self._voices[f"{voice}.bin"], np.float32)
            self._styles[voice] = raw.reshape(-1, 1, 256)
        return self._styles[voice]


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
    ) -> None:
        """`names` are the voices' files, such as `af_heart.bin`."""
        self.model = model
        self._names = tuple(sorted(name.removesuffix(".bin") for name in names))
        self._engine = Engine(weights, (model, voices), Kokoro)

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

    async def speak(self, text: str, *, voice: str, speed: float = 1.0) -> AsyncIterator[Samples]:
        """See `Speaker.speak`."""
        from sonia.voice.codec import stretched

        name = ALIASES.get(voice, voice)
        if name not in self._names:
            raise UnknownVoice(
                f"No voice {voice!r}. There are {', '.join(self._names)}; and, as OpenAI names "
                f"them, {', '.join(ALIASES)}.",
                voice=voice,
            )
        own = min(max(speed, SLOWEST), FASTEST)
        spoken = False
        for clause, pause_s in clauses(text):
            sound = await self._engine.run(Kokoro.say, clause, name, own)
            if not len(sound):
                continue
            spoken = True
            if own != speed:
                sound = await asyncio.to_thread(stretched, sound, speed / own)
            silence = np.zeros(int(pause_s / speed * VOICE_RATE), np.float32)
            yield np.concatenate([sound, silence])
        if not spoken:
            raise InvalidRequest("There is nothing in the text that can be spoken.")

    async def close(self) -> None:
        """Let the model go."""
        await self._engine.close()
