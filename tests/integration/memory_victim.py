"""A process whose forks do some of memory's work and are killed in the middle of it.

    python -m tests.integration.memory_victim embedding|indexing|ingesting FOLDER

The forks share what was imported, so that one more kill takes no second to start.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tantivy  # noqa: F401  before the forks
from numpy.typing import NDArray

from sonia.memory import NewDocument, NewMemory, following
from sonia.memory.documents import keeping, shelf
from sonia.memory.text import TextIndex
from tests.memory_given import HashingEmbedder, OtherEmbedder, opened

KILLS = 15
AT_ONCE = 4
DOCUMENT = "# Beds\n\nTomatoes want sun.\n\n## North\n\nMoss wants shade.\n"
# In the order in which they are entered, of a document with two chunks.
STEPS: dict[str, tuple[Any, str, int]] = {
    "reading": (keeping, "parse", 1),
    "first": (shelf, "add", 1),
    "second": (shelf, "add", 2),
    "finish": (shelf, "finish", 1),
}


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork(work: Callable[[], Awaitable[None]]) -> int:
    """Do it in a process of its own; the process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(_awaited(work))
    finally:
        os._exit(1)  # it was to be killed


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def killed(child: int) -> None:
    """Wait until it is gone; it must have been killed."""
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status


# --- embedding again ---------------------------------------------------------------------


class Fatal(HashingEmbedder):
    """Embeds 64 texts."""

    space = OtherEmbedder.space
    dimensions = OtherEmbedder.dimensions
    left = 64

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.left <= 0:
            die()
        self.left -= len(texts)
        return await super().embed(texts)


def embedding(folder: Path) -> None:
    async def work() -> None:
        async with opened(folder, Fatal()) as memory:
            await memory.settled()

    killed(fork(work))


# --- writing the text index --------------------------------------------------------------


def indexing(folder: Path) -> None:
    """Print the id and word of each memory that was acknowledged before one of the kills."""
    for kill in range(KILLS):
        ours, theirs = os.pipe()

        async def work(kill: int = kill, line: int = theirs) -> None:
            await _store_and_tell(folder, line, count(kill * 1_000_000))

        child = fork(work)
        os.close(theirs)
        commits = random.randrange(1, 6)
        with os.fdopen(ours) as told:
            while commits:
                commits -= (said := told.readline()) == "commit\n"
                _pass_on(said)
            os.kill(child, signal.SIGKILL)
            for said in told:
                _pass_on(said)
        killed(child)


def _pass_on(said: str) -> None:
    if said.endswith("\n") and said != "commit\n":
        sys.stdout.write(said)


async def _store_and_tell(folder: Path, line: int, numbers: count[int]) -> None:
    commit = TextIndex.commit

    def telling(index: TextIndex) -> None:
        os.write(line, b"commit\n")
        commit(index)

    TextIndex.commit = telling  # type: ignore[method-assign]
    following.GATHER_S = 0.0
    async with opened(folder) as memory, asyncio.TaskGroup() as group:

        async def keep_storing() -> None:
            for number in numbers:
                new = NewMemory(type="fact", content=f"the word is word{number}")
                entry = await memory.store(new)
                os.write(line, f"{entry.id} word{number}\n".encode())

        for _ in range(AT_ONCE):
            group.create_task(keep_storing())


# --- ingesting ---------------------------------------------------------------------------


def ingesting(folder: Path) -> None:
    """One kill at each step, in a folder that is named for it."""
    keeping.BATCH = 1
    for step, (where, name, times) in STEPS.items():

        async def work(
            step: str = step, where: Any = where, name: str = name, times: int = times
        ) -> None:
            real = getattr(where, name)
            calls = count(1)

            def once_more(*args: Any, **named: Any) -> Any:
                if next(calls) == times:
                    die()
                return real(*args, **named)

            setattr(where, name, once_more)
            async with opened(folder / step) as memory, memory.incoming() as incoming:
                await memory.store(NewMemory(type="fact", content="I like tea"))
                await incoming.write(DOCUMENT.encode())
                await memory.ingest(incoming, NewDocument(name="garden.md"))

        (folder / step).mkdir()
        killed(fork(work))


if __name__ == "__main__":
    {"embedding": embedding, "indexing": indexing, "ingesting": ingesting}[sys.argv[1]](
        Path(sys.argv[2])
    )
