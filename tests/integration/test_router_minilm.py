"""The int8 encoder against the same weights in float32, computed here with numpy alone."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sonia.config import Config
from sonia.router.backends.minilm import Minilm
from sonia.router.backends.minilm_build import Tensors, encoder_folder, read_safetensors
from sonia.weights import Weights

TEXTS = [
    "my dog is called Biscuit",
    "What is the capital of France?",
    "",
    "The quick brown fox jumps over the lazy dog, twice a day and never on Sundays.",
    "déjà vu, naïve café",
    "4821",
    "a " * 300,
]
Array = NDArray[np.float32]
erf = np.vectorize(math.erf, otypes=[np.float32])


@pytest.fixture
async def files() -> dict[str, Path]:
    return await Weights(Config().models).ensure("all-minilm-l6-v2")


@pytest.fixture
def copied(files: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {name: Path(shutil.copy(path, tmp_path / name)) for name, path in files.items()}


def linear(x: Array, tensors: Tensors, name: str) -> Array:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def norm(x: Array, tensors: Tensors, name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def attention(x: Array, tensors: Tensors, at: str) -> Array:
    def heads(part: str) -> Array:
        return linear(x, tensors, f"{at}.self.{part}").reshape(len(x), 12, 32).transpose(1, 0, 2)

    scores = heads("query") @ heads("key").transpose(0, 2, 1) / math.sqrt(32)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ heads("value")).transpose(1, 0, 2).reshape(len(x), 384)
    return norm(x + linear(mixed, tensors, f"{at}.output.dense"), tensors, f"{at}.output.LayerNorm")


def reference(tensors: Tensors, ids: list[int]) -> Array:
    """BERT's forward pass (Devlin et al. 2018), one text at a time, mean pooled, normalised."""
    x = (
        tensors["embeddings.word_embeddings.weight"][ids]
        + tensors["embeddings.position_embeddings.weight"][: len(ids)]
        + tensors["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, tensors, "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        x = attention(x, tensors, f"{at}.attention")
        inner = linear(x, tensors, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(
            x + linear(inner, tensors, f"{at}.output.dense"), tensors, f"{at}.output.LayerNorm"
        )
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


async def test_every_vector_is_the_references_to_a_hundredth(files: dict[str, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    tensors = read_safetensors(files["model.safetensors"])
    expected = np.stack([reference(tensors, tokenizer.encode(text).ids) for text in TEXTS])

    found = Minilm(files["model.safetensors"], files["tokenizer.json"]).encode(TEXTS)

    cosines = (found * expected).sum(axis=1)
    assert cosines[[bool(text) for text in TEXTS]].min() > 0.995
    assert cosines.min() > 0.98  # two tokens, of the empty text, leave int8 little to average


async def test_the_encoder_is_built_once_and_again_when_it_is_damaged(
    copied: dict[str, Path],
) -> None:
    safetensors, tokenizer = copied["model.safetensors"], copied["tokenizer.json"]

    folder = encoder_folder(safetensors, tokenizer)
    whole = (folder / "model.bin").read_bytes()
    made = (folder / "model.bin").stat().st_mtime_ns
    again = encoder_folder(safetensors, tokenizer)
    kept = (folder / "model.bin").stat().st_mtime_ns
    (folder / "model.bin").write_bytes(whole[:1000] + b"\x00" + whole[1001:-5])
    mended = encoder_folder(safetensors, tokenizer)

    assert again == mended == folder
    assert kept == made
    assert (folder / "model.bin").read_bytes() == whole
    assert not list(folder.parent.glob(".making-*"))
