"""What memory's tests are given: a small embedder, and memory over a folder."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonia.config import MemoryEngine
from sonia.db import open_database
from sonia.errors import Unavailable
from sonia.events import Bus
from sonia.memory import Embedder, Model, SqliteMemory, open_memory
from sonia.types import now

MIGRATIONS = Path(__file__).parent.parent / "migrations"
BLNS = Path(__file__).parent.parent.parent / "shared/data/security/text/blns.json"

NASTY = (
    "' OR 1=1; DROP TABLE memory_entries; --",
    'NEAR("dog" "cat", 5) AND biscuit* OR NOT content:dog^2',
    "content:biscuit +must -not [a TO z] {x} ~2 \\ /re.*gex/",
    '"unbalanced',
    "((((",
    "*",
    "AND",
    "a\x00b",
    "\ufeff\u200b\u202e reversed",
    "\ufdfa \U0001f469\u200d\U0001f467 \u0131\u0307 \u1e9e \ufb01",
    "%s %n {0} ${jndi:ldap://x}",
    "日本語のテキスト",
    "1e309 NaN -0 0x7fffffffffffffff",
)


class HashingEmbedder:
    """Texts that share words are close. Deterministic; knows nothing."""

    space = "hashing"
    dimensions = 64
    _dimensions: int | None = None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._one(text) for text in texts])

    async def count_tokens(self, texts: Sequence[str]) -> int:
        return sum(len(text.split()) for text in texts)

    def _one(self, text: str) -> NDArray[np.float32]:
        dimensions = self._dimensions or self.dimensions
        total = np.full(dimensions, 1e-3)
        for word in text.lower().split():
            seed = hashlib.blake2b(word.encode(), digest_size=8).digest()
            total += np.random.default_rng(list(seed)).normal(size=dimensions)
        return (total / np.linalg.norm(total)).astype(np.float32)


class LoadingEmbedder(HashingEmbedder):
    """Says it is not ready until `ready` is set."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.ready.is_set():
            raise Unavailable("The weights are still loading.")
        return await super().embed(texts)


class OtherEmbedder(HashingEmbedder):
    """Embeds `allowed` texts, then waits until it is let go on."""

    space = "other"
    dimensions = 32

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.made = 0

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.left <= 0:
            self.waiting.set()
            await self.go_on.wait()
        self.left -= len(texts)
        self.made += len(texts)
        return await super().embed(texts)


class HangingEmbedder(HashingEmbedder):
    """Never answers."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        await asyncio.Event().wait()
        raise AssertionError


class Clock:
    """Stands where it was set."""

    def __init__(self) -> None:
        self.at = now()

    def __call__(self) -> dt.datetime:
        return self.at


@asynccontextmanager
async def opened(
    folder: Path,
    embedder: Embedder | None = None,
    bus: Bus | None = None,
    clock: Clock | None = None,
    config: MemoryEngine | None = None,
    model: Model | None = None,
    check_after_s: float = 3600.0,
    earlier: Callable[[str], Embedder | None] = lambda _: None,
) -> AsyncIterator[SqliteMemory]:
    """Memory over the database and the text index in `folder`."""
    async with (
        open_database(folder / "sonia.db", MIGRATIONS) as db,
        open_memory(
            config or MemoryEngine(),
            db,
            embedder or HashingEmbedder(),
            bus or Bus(),
            folder / "text-index",
            clock=clock or now,
            model=model,
            check_after_s=check_after_s,
            earlier=earlier,
        ) as memory,
    ):
        yield memory


class ScriptedModel:
    """Answers each question with the next of its answers; an error is raised."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.told = asyncio.Event()

    async def answer(self, instructions: str, text: str, schema: dict[str, Any]) -> str:
        self.asked.append(text)
        self.told.set()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
