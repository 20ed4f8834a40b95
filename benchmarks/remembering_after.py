"""What becomes of what was kept, and what a turn waits: parts of `benchmarks.remembering`."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.config import EmbeddingModel, Local, MemoryEngine, ModelRouter, Providers
from sonia.db import open_database
from sonia.errors import Unavailable
from sonia.events import Bus, TurnFinished
from sonia.memory import Embedder, NewMemory, Query, SqliteMemory, open_memory
from sonia.router import open_router
from sonia.types import now
from sonia.weights import Weights

MIGRATIONS = Path(__file__).parent.parent / "migrations"
RECALL_LIMIT = 5
HISTORY = 60
AT_ONCE = 512


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A few turns of one person, and what must and must not be held true after them."""

    kind: str
    split: str
    turns: tuple[str, ...]
    now: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    once: str = ""


def right(row: Pair, held: Sequence[str]) -> bool:
    """Whether what is held true fits the labels."""
    told = [content.lower() for content in held]
    if row.kind == "same":
        return sum(row.once in content for content in told) == 1
    return all(any(word.lower() in content for content in told) for word in row.now) and not any(
        word.lower() in content for word in row.gone for content in told
    )


async def pairs(rows: Sequence[Pair]) -> None:
    """Print how often each way holds true what it should, by kind and split."""
    ways = {"sonia": await _held(rows), "exact words": [], "everything": []}
    for row in rows:
        folded = {" ".join(turn.casefold().split()).rstrip(".!"): turn for turn in row.turns}
        ways["exact words"].append(list(folded.values()))
        ways["everything"].append(list(row.turns))
    print("\nOf a few turns each, how many leave true what should be:\n")
    print(f"{'':24}{'rows':>5}" + "".join(f"{way:>14}" for way in ways))
    for split, kind in sorted({(row.split, row.kind) for row in rows}):
        chosen = [n for n, row in enumerate(rows) if (row.split, row.kind) == (split, kind)]
        shares = [sum(right(rows[n], held[n]) for n in chosen) for held in ways.values()]
        name = f"{split}: {kind}"
        print(f"{name:24}{len(chosen):5}" + "".join(f"{s / len(chosen):14.0%}" for s in shares))


async def _held(rows: Sequence[Pair]) -> list[list[str]]:
    """What Sonia holds true after each row's turns, by the whole path of a turn."""
    held = []
    with tempfile.TemporaryDirectory() as folder:
        bus = Bus()
        async with _memory(Path(folder), _Nothing(), bus) as memory:
            for number, row in enumerate(rows):
                for text in row.turns:
                    await bus.publish(_turn(text, f"person {number}"))
                query = Query(query="", user_id=f"person {number}", limit=50)
                held.append([hit.entry.content for hit in (await memory.search(query)).hits])
    return held


async def cost(memories: int, turns: int, models: Path) -> None:
    """Print the milliseconds that a turn waits, in an empty store and in a full one."""
    routing = ModelRouter(providers=Providers(local=Local(models=())), profiles={})
    print("\nMilliseconds of a turn, with the product's embedder:\n")
    print(f"{'':44}{'p50':>8}{'p95':>8}{'p99':>8}")
    with tempfile.TemporaryDirectory() as folder:
        bus = Bus()
        async with (
            open_router(routing, EmbeddingModel(), Weights(models)) as router,
            _memory(Path(folder), router.embeddings, bus) as memory,
        ):
            await _ready(router.embeddings)
            await _time(memory, bus, turns, "an empty store")
            started = time.perf_counter()
            contents = _contents(memories)
            for start in range(0, len(contents), AT_ONCE):
                batch = contents[start : start + AT_ONCE]
                news = [NewMemory(type=kind, content=text) for kind, text in batch]
                await asyncio.gather(*(memory.store(new) for new in news))
            await memory.settled()
            took = time.perf_counter() - started
            await _time(memory, bus, turns, f"{memories} memories (filled in {took:.0f} s)")


async def _time(memory: SqliteMemory, bus: Bus, turns: int, where: str) -> None:
    before: list[float] = []
    recall: list[float] = []
    after: list[float] = []
    for number in range(turns):
        text = f"My {ORDINALS[number % len(ORDINALS)]} colleague is called {NAMES[number % 7]}."
        started = time.perf_counter()
        session = await memory.open_session(f"ses_{where}", user_id="owner")
        opened = time.perf_counter()
        await memory.search(Query(query=text, user_id="owner", limit=RECALL_LIMIT))
        recalled = time.perf_counter()
        await memory.history(session.id, limit=HISTORY)
        answering = time.perf_counter()
        await bus.publish(_turn(text, "owner", session.id))
        done = time.perf_counter()
        before.append(answering - started)
        recall.append(recalled - opened)
        after.append(done - answering)
    print(where)
    for name, values in (
        ("  before the answer starts: all", before),
        ("  of it recall", recall),
        ("  after the answer: written and merged", after),
    ):
        cuts = statistics.quantiles(values, n=100)
        print(f"{name:44}" + "".join(f"{cuts[n] * 1000:8.1f}" for n in (49, 94, 98)))


async def _ready(embedder: Embedder) -> None:
    while True:
        try:
            await embedder.embed(["Are you there?"])
        except Unavailable:
            await asyncio.sleep(0.1)
        else:
            return


@asynccontextmanager
async def _memory(folder: Path, embedder: Embedder, bus: Bus) -> AsyncIterator[SqliteMemory]:
    async with (
        open_database(folder / "sonia.db", MIGRATIONS) as db,
        open_memory(MemoryEngine(), db, embedder, bus, folder / "text-index") as memory,
    ):
        yield memory


def _turn(text: str, user_id: str, session_id: str = "ses_1") -> TurnFinished:
    return TurnFinished(
        session_id=session_id,
        turn_id=f"turn_{time.perf_counter_ns()}",
        user_id=user_id,
        text=text,
        response="I see.",
        complete=True,
        at=now(),
    )


class _Nothing:
    """An embedder that is never ready: only words count."""

    space = "nothing"
    dimensions = 1

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise Unavailable("There is no embedder here.")


NAMES = ("Ana", "Farid", "Ines", "Jonas", "Kofi", "Marta", "Tom")
ORDINALS = ("first", "second", "third", "former", "favourite", "oldest", "newest", "next")
_VERBS = ("met", "visited", "called", "helped", "wrote to", "cooked for", "painted")
_THINGS = ("a kite", "the boiler", "an old bike", "two plants", "a letter", "the piano", "her car")
_PLACES = ("at the lake", "in Porto", "near the station", "at work", "in the garden", "by the sea")


def _contents(count: int) -> list[tuple[str, str]]:
    """Different sentences of different types, the same on every machine."""
    pieces = itertools.product(NAMES, _VERBS, NAMES, _THINGS, _PLACES, range(10))
    kinds = itertools.cycle(("fact", "episode", "preference", "task"))
    sentences = (
        f"{one} {verb} {other} about {thing} {place}, {number} weeks before the holidays."
        for one, verb, other, thing, place, number in pieces
    )
    step = max(len(NAMES) ** 2 * len(_VERBS) * len(_THINGS) * len(_PLACES) * 10 // (count or 1), 1)
    return list(zip(kinds, itertools.islice(sentences, 0, None, step), strict=False))[:count]
