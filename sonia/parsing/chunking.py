"""Cutting a text along its blocks into chunks of bounded length, with overlap.

Blocks are packed until the next one would not fit; a section never shares a chunk with the one
before it. A block that is too long is cut behind a sentence, else behind a line, else behind a
word. A chunk that goes on where another stopped repeats its last sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sonia.parsing.interface import Chunk
from sonia.parsing.pieces import Block, Piece

_SENTENCE_ENDS = (". ", "! ", "? ", ".\n", "!\n", "?\n", "\u3002", "\uff01", "\uff1f")
_RESTART = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s*(?=\S)|\n+(?=\S)")
_WORD = re.compile(r"\s+(?=\S)")


def chunks(pieces: Iterable[Piece], length: int, overlap: int) -> Iterator[Chunk]:
    """Every chunk in order: at most `length` characters, the offsets those of the whole text."""
    offset = 0
    for piece in pieces:
        for span in _spans(piece, length, overlap):
            if chunk := _chunk(piece, span, offset):
                yield chunk
        offset += len(piece.text)


class _Span(NamedTuple):
    start: int
    end: int
    heading: tuple[str, ...]
    bare: bool  # nothing but headings so far


def _spans(piece: Piece, length: int, overlap: int) -> Iterator[_Span]:
    text, held = piece.text, None
    for block in piece.blocks:
        if held is None:
            held = _Span(block.start, block.end, block.heading, block.bare)
        elif block.opens and not held.bare:
            yield held
            held = _Span(block.start, block.end, block.heading, block.bare)
        elif block.end - held.start <= length:
            heading = block.heading if held.bare else held.heading
            held = _Span(held.start, block.end, heading, held.bare and block.bare)
        else:
            yield held
            held = _gone_on(text, held, block, length, overlap)
        while held.end - held.start > length:
            cut = _cut(text, held.start + length // 2, held.start + length)
            yield held._replace(end=cut)
            held = held._replace(start=_back(text, cut, overlap, held.start + 1), bare=False)
    if held:
        yield held


def _gone_on(text: str, held: _Span, block: Block, length: int, overlap: int) -> _Span:
    """The chunk behind `held`: some of its end again, as far as the block leaves room."""
    room = min(overlap, max(length - (block.end - block.start) - (block.start - held.end), 0))
    start = block.start
    if held.heading == block.heading and room:
        start = min(_back(text, held.end, room, held.start + 1), block.start)
        start = block.start if start == held.end else start
    return _Span(start, block.end, block.heading, block.bare)


def _cut(text: str, low: int, high: int) -> int:
    """Where to end a chunk, above `low` and at most `high`."""
    for marks in (_SENTENCE_ENDS, ("\n",), (" ", "\t", "\u3000")):
        ends = [found + 1 for mark in marks if (found := text.rfind(mark, low, high)) >= 0]
        if ends:
            return max(ends)
    return high


def _back(text: str, at: int, overlap: int, floor: int) -> int:
    """Where to begin again before `at`: at a sentence, else at a word, within `overlap`."""
    low = max(at - overlap, floor)
    for pattern in (_RESTART, _WORD):
        if (found := pattern.search(text, low, at)) and found.end() < at:
            return found.end()
    return at if " " in text[low:at] else low


def _chunk(piece: Piece, span: _Span, offset: int) -> Chunk | None:
    content = piece.text[span.start : span.end]
    start = span.start + len(content) - len(content.lstrip())
    content = content.strip()
    if not content:
        return None
    return Chunk(
        content=content,
        start=offset + start,
        end=offset + start + len(content),
        heading=span.heading,
        page=piece.page,
    )
