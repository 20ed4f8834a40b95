"""How well memory finds: recall and nDCG, by the real store and search, beside simpler ways.

    python -m benchmarks.retrieval [--data DIR]... [--cache DIR]

DIR is in BEIR's layout (corpus.jsonl, queries.jsonl, qrels.tsv); `_id` like `conv:session:turn`
with a field `conv` is a conversation, searched within that conversation only. Every document is
stored as a memory, as the product would store it: a person's, in its session. Ways:

    text, vector      one half alone (vector is what sqlite-vec alone would give)
    rrf, min-max      peers: reciprocal rank fusion with k = 60, and the sum of both halves' scores
    hybrid            what Sonia does, by relevance alone
    ranked            with freshness, importance and diversity, as it is by default

95 % confidence intervals by bootstrap over the questions. The embeddings are kept in the cache
folder: the first run takes some minutes, later ones about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import MemoryEngine, Ranking
from sonia.db import open_database
from sonia.events import Bus
from sonia.memory import NewMemory, Query, SearchMode, SqliteMemory, open_memory
from sonia.router.backends.minilm import Minilm

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared/data/retrieval"
WEIGHTS = Path("~/.cache/sonia/models/all-minilm-l6-v2").expanduser()
DEPTH = 100
RRF_K = 60
PLAIN = Ranking(recency_weight=0, importance_weight=0, diversity_weight=0)
RESAMPLES = 1_000
MEASURES = ("recall@5", "recall@10", "recall@100", "nDCG@10")


class Document(msgspec.Struct, rename={"id": "_id"}):
    """One row of corpus.jsonl."""

    id: str
    text: str
    title: str = ""
    conv: int | str | None = None


class Question(msgspec.Struct, rename={"id": "_id"}):
    """One row of queries.jsonl."""

    id: str
    text: str
    conv: int | str | None = None


class CachedMinilm:
    """The product's embedder; what it has made once is read from a file."""

    space = "all-minilm-l6-v2"
    dimensions = Minilm.dimensions

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Minilm | None = None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await asyncio.to_thread(self._embed, tuple(texts))

    def _embed(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        paths = [self._folder / hashlib.sha256(text.encode()).hexdigest() for text in texts]
        missing = [i for i, path in enumerate(paths) if not path.exists()]
        if missing:
            made = self._loaded().encode([texts[i] for i in missing])
            for i, vector in zip(missing, made, strict=True):
                paths[i].write_bytes(vector.tobytes())
        return np.stack([np.frombuffer(path.read_bytes(), np.float32) for path in paths])

    def _loaded(self) -> Minilm:
        if self._model is None:
            safetensors = next(WEIGHTS.rglob("model.safetensors"))
            self._model = Minilm(safetensors, next(WEIGHTS.rglob("tokenizer.json")))
        return self._model


class Collection:
    """Documents, questions, and which answer which."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.documents = _rows(folder / "corpus.jsonl", Document)
        self.relevant: dict[str, dict[str, int]] = defaultdict(dict)
        for line in _qrels(folder).read_text().splitlines()[1:]:
            question, document, degree = line.split("\t")
            if int(degree) > 0:
                self.relevant[question][document] = int(degree)
        asked = _rows(folder / "queries.jsonl", Question)
        self.questions = [question for question in asked if question.id in self.relevant]


def _qrels(folder: Path) -> Path:
    plain = folder / "qrels.tsv"
    return plain if plain.exists() else folder / "qrels/test.tsv"


def _rows(path: Path, kind: Any) -> list[Any]:
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines() if line]


def as_memory(document: Document) -> NewMemory:
    """What the product would store: an utterance in its session, or a document's text."""
    if document.conv is not None:
        return NewMemory(
            type="episode",
            content=document.text,
            metadata={"document": document.id, "said_at": document.title},
            user_id=f"person-{document.conv}",
            session_id=document.id.rsplit(":", 1)[0],
        )
    whole = document.text
    if document.title and not whole.startswith(document.title):
        whole = f"{document.title}. {whole}"
    return NewMemory(type="document", content=whole or "-", metadata={"document": document.id})


async def searched(
    memory: SqliteMemory, collection: Collection, mode: SearchMode
) -> list[dict[str, float]]:
    """Per question the found documents and their scores, best first."""
    answers = []
    for question in collection.questions:
        found = await memory.search(
            Query(
                query=question.text[:10_000],
                limit=DEPTH,
                mode=mode,
                user_id="owner" if question.conv is None else f"person-{question.conv}",
            )
        )
        answers.append({hit.entry.metadata["document"]: hit.score for hit in found.hits})
    return answers


def reciprocal_ranks(*ways: dict[str, float]) -> dict[str, float]:
    """Cormack, Clarke and Buettcher, SIGIR 2009."""
    return _summed({d: 1 / (RRF_K + rank) for rank, d in enumerate(way, 1)} for way in ways)


def min_max(*ways: dict[str, float]) -> dict[str, float]:
    """Each way's scores stretched to [0, 1], and added."""
    stretched = []
    for way in ways:
        low, high = min(way.values(), default=0.0), max(way.values(), default=1.0)
        stretched.append({d: (s - low) / ((high - low) or 1.0) for d, s in way.items()})
    return _summed(stretched)


def _summed(ways: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for way in ways:
        for document, score in way.items():
            total[document] += score
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def measured(answer: dict[str, float], relevant: dict[str, int]) -> list[float]:
    """In the order of `MEASURES`."""
    order = list(answer)
    recalls = [sum(d in relevant for d in order[:k]) / len(relevant) for k in (5, 10, 100)]
    gained = sum(relevant.get(d, 0) / math.log2(i + 2) for i, d in enumerate(order[:10]))
    ideal = sorted(relevant.values(), reverse=True)[:10]
    return [*recalls, gained / sum(g / math.log2(i + 2) for i, g in enumerate(ideal))]


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 2.5th and the 97.5th percentile of each measure's mean."""
    random = np.random.default_rng(1)
    picked = random.integers(0, len(values), (RESAMPLES, len(values)))
    means = values[picked].mean(axis=1)
    return np.percentile(means, 2.5, axis=0), np.percentile(means, 97.5, axis=0)


async def ways_of(
    collection: Collection, embedder: CachedMinilm
) -> dict[str, list[dict[str, float]]]:
    """Store everything, search in every way."""
    with tempfile.TemporaryDirectory() as name:
        folder, ways = Path(name), dict[str, list[dict[str, float]]]()
        plain = MemoryEngine(ranking=PLAIN)
        for config in (plain, MemoryEngine()):
            async with (
                open_database(folder / "sonia.db", ROOT / "migrations") as db,
                open_memory(config, db, embedder, Bus(), folder / "text-index") as memory,
            ):
                if config is plain:
                    for document in collection.documents:
                        await memory.store(as_memory(document))
                await memory.settled()
                if config is plain:
                    ways["text"] = await searched(memory, collection, "text")
                    ways["vector"] = await searched(memory, collection, "vector")
                    ways["hybrid"] = await searched(memory, collection, "hybrid")
                else:
                    ways["ranked"] = await searched(memory, collection, "hybrid")
    halves = list(zip(ways["text"], ways["vector"], strict=True))
    ways["rrf"] = [reciprocal_ranks(*half) for half in halves]
    ways["min-max"] = [min_max(*half) for half in halves]
    return ways


def main() -> None:
    """Print a table for each collection."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", help="a collection's folder")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sonia-minilm")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    embedder = CachedMinilm(given.cache)
    for folder in given.data or sorted(path for path in DATA.iterdir() if path.is_dir()):
        collection = Collection(folder)
        ways = asyncio.run(ways_of(collection, embedder))
        print(
            f"\n{collection.name}: {len(collection.documents)} documents, "
            f"{len(collection.questions)} questions"
        )
        print(f"{'':10}" + "".join(f"{measure:>22}" for measure in MEASURES))
        for way in ("text", "vector", "rrf", "min-max", "hybrid", "ranked"):
            values = np.array(
                [
                    measured(answer, collection.relevant[question.id])
                    for answer, question in zip(ways[way], collection.questions, strict=True)
                ]
            )
            low, high = interval(values)
            cells = zip(values.mean(axis=0), low, high, strict=True)
            print(f"{way:10}" + "".join(f"{m:10.3f} ({a:.3f}-{b:.3f})" for m, a, b in cells))


if __name__ == "__main__":
    main()
