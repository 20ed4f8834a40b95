"""Whisper on CTranslate2, with windows as short as what was said.

The usual padding to 30 s costs five times the work of an utterance under 5 s, and short
windows hear no worse; what they do wrong, saying a whole utterance again, is cut (`unrepeated`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sonia.voice.engines.loading import Engine, WeightsSource
from sonia.voice.speech import (
    EAR_RATE,
    Hearing,
    Samples,
    Segment,
    Transcript,
    UnknownLanguage,
    Word,
)

WINDOW_S = 28.0  # Whisper hears 30 s at most; a margin of silence ends the last word
LOOK_BACK_S = 8.0  # how far before a window's end its cut may lie
SHORTEST_S = 5.0
TAIL_S = 1.0
BEAM = 5
THREADS = 1
PROMPT_TOKENS = 200
PAUSE_S = 0.8  # a longer one ends a segment
SILENT_RMS = 1e-4
NO_SPEECH, UNLIKELY = 0.6, -1.0  # together they mean that nobody spoke
UNSURE = 0.5
FRAME_S = 0.02  # of the encoder's output


class Whisper:
    """The model, loaded. Blocks; call it from one thread at a time."""

    def __init__(self, files: dict[str, Path]) -> None:
        import ctranslate2
        from faster_whisper.feature_extractor import FeatureExtractor
        from tokenizers import Tokenizer

        self._storage = ctranslate2.StorageView
        self._model = ctranslate2.models.Whisper(
            str(files["model.bin"].parent),
            device="cpu",
            compute_type="int8",
            intra_threads=THREADS,
        )
        self._tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
        self._features = FeatureExtractor()

    def hear(self, samples: Samples, offset_s: float, hearing: Hearing) -> Transcript:
        """Transcribe one window of at most 30 s."""
        duration_s = len(samples) / EAR_RATE
        if not len(samples) or float(np.sqrt(np.mean(np.square(samples)))) < SILENT_RMS:
            return Transcript(text="", language=hearing.language or "en", duration=duration_s)
        encoded = self._encode(samples, duration_s)
        language = hearing.language or self._language(encoded, samples)
        prompt = self._prompt(language, hearing)
        best = self._model.generate(
            encoded,
            [prompt],
            beam_size=1 if hearing.temperature > 0 else BEAM,
            sampling_topk=0 if hearing.temperature > 0 else 1,
            sampling_temperature=hearing.temperature or 1.0,
            max_length=len(prompt) + int(4 + 7 * duration_s + 12),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
        )[0]
        score, silence = float(best.scores[0]), float(best.no_speech_prob)
        if silence > NO_SPEECH and score < UNLIKELY:
            return Transcript(text="", language=language, duration=duration_s)
        end = self._id("<|endoftext|>")
        tokens = [token for token in best.sequences_ids[0] if token < end]
        text = unrepeated(self._tokenizer.decode(tokens).strip())
        heard = Transcript(
            text=text, language=language, duration=duration_s, confidence=math.exp(min(score, 0.0))
        )
        if not hearing.times or not text:
            return heard
        words = self._words(encoded, prompt, tokens, duration_s, offset_s)
        words = words[: len(text.split())] if language not in UNSPACED else words
        segments = tuple(self._segments(words, offset_s, score, silence, hearing.temperature))
        return msgspec.structs.replace(heard, words=tuple(words), segments=segments)

    def knows(self, language: str) -> bool:
        """Whether it was trained on this language."""
        return self._tokenizer.token_to_id(f"<|{language}|>") is not None

    # --- the parts -----------------------------------------------------------------------

    def _id(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise LookupError(f"the tokenizer has no {token}")
        return found

    def _encode(self, samples: Samples, window_s: float) -> Any:
        whole = min(max(SHORTEST_S, window_s + TAIL_S), 30.0)
        padded = np.zeros(int(whole * EAR_RATE), np.float32)
        padded[: len(samples)] = samples[: len(padded)]
        mel = self._features(padded, padding=0)
        frames = mel.shape[-1] - mel.shape[-1] % 2
        mel = np.ascontiguousarray(mel[None, :, :frames], dtype=np.float32)
        return self._model.encode(self._storage.from_array(mel))

    def _language(self, encoded: Any, samples: Samples) -> str:
        token, sureness = self._model.detect_language(encoded)[0][0]
        if sureness < UNSURE:  # the long window is dear, and surer
            token, _ = self._model.detect_language(self._encode(samples, 30.0))[0][0]
        return str(token).strip("<|>")

    def _prompt(self, language: str, hearing: Hearing) -> list[int]:
        tokens: list[int] = []
        if hearing.prompt.strip():
            before = self._tokenizer.encode(f" {hearing.prompt.strip()}", add_special_tokens=False)
            tokens = [self._id("<|startofprev|>"), *before.ids[-PROMPT_TOKENS:]]
        task = "<|translate|>" if hearing.translate else "<|transcribe|>"
        start = ("<|startoftranscript|>", f"<|{language}|>", task, "<|notimestamps|>")
        return [*tokens, *(self._id(token) for token in start)]

    def _words(
        self,
        encoded: Any,
        prompt: list[int],
        tokens: list[int],
        duration_s: float,
        offset_s: float,
    ) -> list[Word]:
        frames = max(int(duration_s / FRAME_S), 1)
        start = [token for token in prompt if token >= self._id("<|endoftext|>")][-4:]
        aligned = self._model.align(encoded, start, [tokens], frames, median_filter_width=7)[0]
        begins: dict[int, float] = {}
        for index, frame in aligned.alignments:
            begins.setdefault(index, frame * FRAME_S)
        words: list[Word] = []
        for piece, first, after in self._pieces(tokens):
            begin = begins.get(first, words[-1].end - offset_s if words else 0.0)
            end = begins.get(after, duration_s)
            words.append(
                Word(
                    word=piece,
                    start=round(offset_s + min(begin, duration_s), 2),
                    end=round(offset_s + min(max(begin, end), duration_s), 2),
                )
            )
        return words

    def _pieces(self, tokens: list[int]) -> Iterator[tuple[str, int, int]]:
        """Each word with the number of its first token and of the one after its last."""
        first, text = 0, ""
        for number in range(len(tokens)):
            further = self._tokenizer.decode(tokens[first : number + 1])
            starts = (self._tokenizer.id_to_token(tokens[number]) or "").startswith("Ġ")
            if starts and text.strip():
                yield text.strip(), first, number
                first, further = number, self._tokenizer.decode(tokens[number : number + 1])
            text = further
        if text.strip():
            yield text.strip(), first, len(tokens)

    def _segments(
        self,
        words: list[Word],
        offset_s: float,
        score: float,
        silence: float,
        temperature: float,
    ) -> Iterator[Segment]:
        for number, group in enumerate(sentences(words)):
            text = " ".join(word.word for word in group)
            packed = text.encode()
            yield Segment(
                id=number,
                seek=int(offset_s * 100),
                start=group[0].start,
                end=group[-1].end,
                text=text,
                tokens=tuple(self._tokenizer.encode(f" {text}", add_special_tokens=False).ids),
                temperature=temperature,
                avg_logprob=round(score, 4),
                compression_ratio=round(len(packed) / len(zlib.compress(packed)), 3),
                no_speech_prob=round(silence, 4),
            )


UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def unrepeated(text: str) -> str:
    """Cut a text that is one utterance said again and again to its end, whole or broken off."""
    words = text.split()
    for length in range(1, len(words) // 2 + 1):
        times = len(words) / length
        if times < (2 if length >= 4 else 6):  # "no, no, no" is what people say
            continue
        if all(word == words[index % length] for index, word in enumerate(words)):
            return " ".join(words[:length])
    return text


def sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words in groups that end with a full stop or a pause."""
    group: list[Word] = []
    for word in words:
        if group and word.start - group[-1].end > PAUSE_S:
            yield group
            group = []
        group.append(word)
        if word.word.endswith((".", "?", "!", "。", "?", "!")):
            yield group
            group = []
    if group:
        yield group


def windows(samples: Samples) -> Iterator[tuple[int, int]]:
    """Where to cut: first and after-last sample of each window, cut where it is quietest."""
    start, whole = 0, len(samples)
    step = EAR_RATE // 10
    while whole - start > WINDOW_S * EAR_RATE:
        latest = start + int(WINDOW_S * EAR_RATE)
        earliest = latest - int(LOOK_BACK_S * EAR_RATE)
        part = samples[earliest:latest]
        blocks = part[: len(part) // step * step].reshape(-1, step)
        quietest = int(np.argmin(np.square(blocks).mean(axis=1)))
        cut = earliest + quietest * step + step // 2
        yield start, cut
        start = cut
    yield start, whole


class WhisperTranscriber:
    """`Transcriber` on the weights of the catalogue, loaded at the first use."""

    def __init__(self, weights: WeightsSource, model: str = "whisper-base") -> None:
        self.model = model
        self._engine = Engine(weights, (model,), Whisper)

    @property
    def state(self) -> str:
        """See `Transcriber.state`."""
        return self._engine.state

    async def transcribe(self, samples: Samples, hearing: Hearing) -> AsyncIterator[Transcript]:
        """See `Transcriber.transcribe`."""
        engine = await self._engine.load()
        if hearing.language and not engine.knows(hearing.language):
            raise UnknownLanguage(
                f"{self.model} doesn't know the language {hearing.language!r}. Give a code of "
                "ISO 639-1 such as en, de or fr, or leave it out.",
                language=hearing.language,
            )
        for start, end in windows(samples):
            part = await self._engine.run(
                Whisper.hear, samples[start:end], start / EAR_RATE, hearing
            )
            yield part
            if hearing.language is None and part.text:  # one recording is in one language
                hearing = msgspec.structs.replace(hearing, language=part.language)

    async def close(self) -> None:
        """Let the model go."""
        await self._engine.close()
