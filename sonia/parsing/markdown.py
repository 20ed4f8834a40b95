"""Markdown (CommonMark and tables), by its block structure; the text is the source itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from sonia.parsing.decoding import texts
from sonia.parsing.pieces import About, Block, Headings, Piece
from sonia.parsing.plain import paragraphs

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

BLOCKS = frozenset({"paragraph_open", "fence", "code_block", "html_block", "table_open"})
_FRONT = re.compile(r"\A---\n(?P<fields>.*?)\n(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:\s*[\"']?(?P<title>.+?)[\"']?\s*$", re.MULTILINE)


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """A piece per million characters; the headings hold on from one to the next."""
    headings = Headings()
    for number, text in enumerate(texts(file, about)):
        body = _front_matter(text, about) if number == 0 else 0
        blocks = paragraphs(text, 0, body) + _blocks(text, body, headings, about)
        yield Piece(text, blocks)


def _front_matter(text: str, about: About) -> int:
    """The length of the fields that some editors put before the text."""
    front = _FRONT.match(text[:65_536])
    if front is None:
        return 0
    if title := _TITLE.search(front["fields"]):
        about.title = title["title"]
    return front.end()


def _blocks(text: str, body: int, headings: Headings, about: About) -> list[Block]:
    lines = text[body:].split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=body))
    blocks: list[Block] = []
    tokens = _parser().parse(text[body:])
    for position, token in enumerate(tokens):
        if token.map is None:
            continue
        start, end = starts[token.map[0]], min(starts[token.map[1]], len(text))
        if token.type == "heading_open":
            title = tokens[position + 1].content
            path = headings.enter(int(token.tag[1:]), title)
            about.title = about.title or title.strip()
            blocks.append(Block(start, end, path, opens=True, bare=True))
        elif token.type in BLOCKS:
            blocks.append(Block(start, end, headings.path))
    return blocks or paragraphs(text, body, None, headings.path)  # nested deeper than is parsed


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable("inline")
