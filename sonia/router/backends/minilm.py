"""all-MiniLM-L6-v2 on CTranslate2: text to 384 numbers of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonia.errors import Unavailable
from sonia.router.backends.minilm_build import DIMENSIONS, encoder_folder

MAX_TOKENS = 256  # what the model was trained to read; the rest of a text is not seen
BATCH_TEXTS = 32
THREADS = 1  # two are slower for one question


class Minilm:
    """The encoder, loaded. Blocks; call it from one thread at a time."""

    dimensions = DIMENSIONS

    def __init__(self, safetensors: Path, tokenizer: Path) -> None:
        """Load, building the int8 encoder the first time. Raises `Unavailable`."""
        import ctranslate2
        from tokenizers import Tokenizer

        folder = encoder_folder(safetensors, tokenizer)
        try:
            self._encoder = ctranslate2.Encoder(
                str(folder), device="cpu", compute_type="int8", intra_threads=THREADS
            )
        except (RuntimeError, ValueError) as error:
            raise Unavailable(f"CTranslate2 can't load {folder}: {error}") from error
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> int:
        """Tokens that are read of the texts, the two that stand around each among them."""
        return sum(len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts)))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`[len(texts), 384]`: the mean over the real tokens, normalised."""
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        for start in range(0, len(by_length), BATCH_TEXTS):
            batch = by_length[start : start + BATCH_TEXTS]
            output = self._encoder.forward_batch([ids[index] for index in batch])
            hidden = np.array(output.last_hidden_state, dtype=np.float32)
            lengths = np.array([len(ids[index]) for index in batch])
            real = np.arange(hidden.shape[1])[None, :] < lengths[:, None]
            mean = (hidden * real[:, :, None]).sum(axis=1) / lengths[:, None]
            vectors[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors
