"""Embedding what has no vector, and moving to another embedding space."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sonia.db import Database
from sonia.errors import SoniaError, Unavailable
from sonia.log import get_logger
from sonia.memory import vectors
from sonia.memory.following import Follower
from sonia.memory.interface import Embedder
from sonia.memory.mirroring import MirrorFollower

Earlier = Callable[[str], Embedder | None]


class VectorFollower(Follower):
    """Embeds what has no vector. While the embedder is not ready, it asks again.

    While the vectors of another space still answer, they are kept whole by the embedder of that
    space, if `earlier` still has it, and those of the embedder's own are made beside them. When
    every memory has one, they answer.
    """

    name = "vectors"

    def __init__(
        self,
        db: Database,
        embedder: Embedder,
        batch_size: int,
        mirror: MirrorFollower,
        earlier: Earlier,
    ) -> None:
        super().__init__(db)
        self._embedder = embedder
        self._batch_size = batch_size
        self._mirror = mirror
        self._earlier = earlier
        self.space = embedder.space  # that answers

    def asking(self) -> Embedder:
        """Who makes the vector of a question. Raises `Unavailable` when nobody can."""
        if self.space == self._embedder.space:
            return self._embedder
        if (embedder := self._earlier(self.space)) is None:
            raise Unavailable(
                f"The memories are being embedded again, by {self._embedder.space}, and "
                f"{self.space}, whose vectors there are, is no longer configured. "
                "Search by words meanwhile."
            )
        return embedder

    async def _step(self) -> bool:
        standing = await self._db.read(vectors.standing)
        self.space = standing.space
        own = self._embedder
        if standing.space != own.space and (old := self._earlier(standing.space)) is not None:
            with suppress(SoniaError):
                if await self._embed(old):
                    return True
        if await self._embed(own):
            return True
        if standing.space == own.space:
            return False
        if await self._db.write(lambda c: vectors.arrive(c, own.space)):
            self.space = own.space
            get_logger("memory-engine").info("embedding space changed", space=own.space)
            self._mirror.wake()
        return True

    async def _embed(self, embedder: Embedder) -> bool:
        space = embedder.space
        rows = await self._db.read(lambda c: vectors.unembedded(c, space, self._batch_size))
        if not rows:
            return False
        made = await embedder.embed([content for _, _, content in rows])
        if made.ndim != 2 or len(made) != len(rows):
            raise Unavailable(f"The embedder answered with the shape {made.shape}.")
        known = [(number, version) for number, version, _ in rows]
        held = await self._db.write(lambda c: vectors.put(c, space, known, made))
        self._mirror.take(space, held, made)
        return True
