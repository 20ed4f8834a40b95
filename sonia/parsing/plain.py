"""Plain text: paragraphs are parted by blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from sonia.parsing.decoding import texts
from sonia.parsing.pieces import About, Block, Piece

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """A piece per million characters."""
    for text in texts(file, about):
        yield Piece(text, paragraphs(text))


def paragraphs(
    text: str, start: int = 0, end: int | None = None, heading: tuple[str, ...] = ()
) -> list[Block]:
    """The paragraphs of `text[start:end]`."""
    end = len(text) if end is None else end
    blocks: list[Block] = []
    for gap in _BLANK.finditer(text, start, end):
        if gap.start() > start:
            blocks.append(Block(start, gap.start(), heading))
        start = gap.end()
    if text[start:end].strip():
        blocks.append(Block(start, end, heading))
    return blocks
