"""Vectors and texts for measuring speed: real ones, and as many more as are asked for.

The texts of `../shared/data/retrieval` are embedded once by the product's own model (some
minutes; kept in the folder for temporary files). More are made of them: a vector between that of
a text and that of one of its twenty nearest, moved by a part of the difference of two others, so
that they lie as embeddings lie. Random vectors would say nothing of an approximate index.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonia.config import Config
from sonia.router.backends.minilm import Minilm
from sonia.weights import Weights

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "retrieval"
SETS = ("locomo", "cranfield", "cisi")
MODEL = "all-minilm-l6-v2"
BATCH = 64
TEXT_CHARS = 220

Vectors = NDArray[np.float32]


def texts(name: str) -> list[str]:
    found: list[str] = []
    for collection in SETS:
        for line in (SHARED / collection / name).read_text().splitlines():
            row = json.loads(line)
            found.append(f"{row.get('title') or ''} {row['text']}".strip()[:2000])
    return found


def embedded(name: str) -> Vectors:
    kept = Path(tempfile.gettempdir()) / f"sonia-benchmark-{name}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    print(f"embedding {name} …", flush=True)
    files = asyncio.run(Weights(Config().models).ensure(MODEL))
    model = Minilm(files["model.safetensors"], files["tokenizer.json"])
    rows = texts(name)
    parts = [model.encode(tuple(rows[at : at + BATCH])) for at in range(0, len(rows), BATCH)]
    made = np.concatenate(parts)
    np.save(kept, made)
    return made


def made(count: int, seed: int = 0) -> tuple[Vectors, list[str]]:
    """`count` vectors of length 1 with a text for each."""
    real, said = embedded("corpus.jsonl"), texts("corpus.jsonl")
    rng = np.random.default_rng(seed)
    alike = np.argpartition(-(real @ real.T), 20, axis=1)[:, :20]
    vectors, contents = [real[:count]], said[:count]
    while (missing := count - sum(map(len, vectors))) > 0:
        size = min(20_000, missing)
        one = rng.integers(len(real), size=size)
        other = alike[one, rng.integers(20, size=size)]
        share = rng.uniform(0.3, 0.7, size=(size, 1))
        away = real[rng.integers(len(real), size=size)] - real[rng.integers(len(real), size=size)]
        between = share * real[one] + (1 - share) * real[other]
        moved = between + 0.35 * rng.uniform(0.3, 1, size=(size, 1)) * away
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        vectors.append(moved.astype(np.float32))
        contents += [_mixed(said[a], said[b]) for a, b in zip(one, other, strict=True)]
    return np.concatenate(vectors), [content[:TEXT_CHARS] or "nothing" for content in contents]


def questions(count: int, seed: int = 1) -> tuple[Vectors, list[str]]:
    """Real questions, in an order of chance."""
    vectors, said = embedded("queries.jsonl"), texts("queries.jsonl")
    chosen = np.random.default_rng(seed).permutation(len(said))[:count]
    return vectors[chosen], [said[index] for index in chosen]


def _mixed(one: str, other: str) -> str:
    return f"{one[: TEXT_CHARS // 2]} {other[: TEXT_CHARS // 2]}"
