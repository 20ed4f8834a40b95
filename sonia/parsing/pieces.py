"""What the formats hand to the chunker: pieces of text with their blocks marked."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

SPACE_IN_HEADING = 200


class Block(NamedTuple):
    """A heading, paragraph, list item, row or definition: `text[start:end]` of its piece.

    `opens` starts a section, so what stands before it belongs elsewhere. A `bare` one is nothing
    but the section's heading, so what stands behind it belongs to it.
    """

    start: int
    end: int
    heading: tuple[str, ...] = ()
    opens: bool = False
    bare: bool = False


class Piece(NamedTuple):
    """Consecutive pieces make up the whole text. No chunk reaches over two."""

    text: str
    blocks: list[Block]
    page: int | None = None


class About(msgspec.Struct):
    """What a format learns of the whole file while its pieces are taken."""

    title: str = ""
    pages: int | None = None
    encoding: str | None = None


class Pieces(Protocol):
    """An iterator of pieces."""

    def __iter__(self) -> Pieces: ...
    def __next__(self) -> Piece: ...


class Headings:
    """The path of headings as one walks through a document."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> tuple[str, ...]:
        """A heading of `level` (1 is outermost): return the path that holds from here."""
        words = " ".join(title.split())[:SPACE_IN_HEADING]
        self._levels = [(held, text) for held, text in self._levels if held < level]
        if words:
            self._levels.append((level, words))
        return self.path

    @property
    def path(self) -> tuple[str, ...]:
        """Outermost first."""
        return tuple(text for _, text in self._levels)


class Writing:
    """Builds a piece block by block, for formats whose text is not there as such."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self.blocks: list[Block] = []

    def add(
        self,
        text: str,
        heading: tuple[str, ...] = (),
        *,
        title: bool = False,
        close: bool = False,
    ) -> None:
        """Add a block: a heading (`title`), or an item or row (`close` to the one before)."""
        text = text.strip()
        if not text:
            return
        gap = "" if not self._parts else "\n" if close else "\n\n"
        start = self._length + len(gap)
        self._parts += [gap, text]
        self._length = start + len(text)
        self.blocks.append(Block(start, self._length, heading, title, title))

    def piece(self) -> Piece:
        """All of it."""
        return Piece("".join(self._parts), self.blocks)
