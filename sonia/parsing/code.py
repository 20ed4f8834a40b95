"""Source code: functions, classes and what else is defined, each a block.

Python is parsed. Other languages are cut where a line without indentation begins a definition,
which is right for code that is laid out as its formatters do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import BinaryIO

from sonia.parsing.decoding import PIECE_CHARS, texts
from sonia.parsing.pieces import About, Block, Piece
from sonia.parsing.plain import paragraphs

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

LARGE_CLASS_CHARS = 800
_WORDS = (
    "function|class|interface|enum|struct|union|trait|impl|module|namespace|type|def|fn|func|fun"
    "|sub|proc|procedure|record|protocol|extension|object|macro_rules!|CREATE|create"
)
_LEAD = (
    "export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\\([^)]*\\))?"
    "|unsafe|extern|inline|const|virtual|override|open|sealed|data|partial|local|declare"
)
_DEFINES = re.compile(
    rf"^(?:(?:{_LEAD})[ \t]+)*(?:{_WORDS})\b[ \t]*(?:<[^>\n]*>[ \t]*)?(?:\([^)\n]*\)[ \t]*)?"
    r"(?P<name>[\w.:$]*)"
    r"|^(?:[\w:<>*&,\[\]]+[ \t]+){1,6}\*?(?P<c>\w+)[ \t]*\([^;\n]*$"
    r"|^(?:export\s+)?(?:const|let|var)\s+(?P<js>\w+)\s*=\s*(?:async\s*)?(?:function\b|\([^)\n]*\)\s*=>)"
    r"|^(?P<sh>[\w-]+)\s*\(\)\s*\{",
    re.MULTILINE,
)


def read_python(file: BinaryIO, about: About) -> Iterator[Piece]:
    """Python, by its syntax tree; code that is not valid is read like other languages."""
    yield from _read(file, about, python=True)


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """Any other language."""
    yield from _read(file, about, python=False)


def _read(file: BinaryIO, about: About, *, python: bool) -> Iterator[Piece]:
    for number, text in enumerate(texts(file, about)):
        small = number == 0 and len(text) < PIECE_CHARS
        blocks = _python(text) if python and small else None
        yield Piece(text, _others(text) if blocks is None else blocks)


def _python(text: str) -> list[Block] | None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    blocks: list[Block] = []
    at = 0
    for node in tree.body:
        if isinstance(node, Definition):
            at = _define(node, text, starts, at, (), blocks)
    return blocks + _rest(text, at, len(text), ())


def _define(
    node: Definition,
    text: str,
    starts: list[int],
    at: int,
    path: tuple[str, ...],
    blocks: list[Block],
) -> int:
    """Add a definition and what stands before it; return where it ends."""
    first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
    start, end = starts[first - 1], min(starts[node.end_lineno or first], len(text))
    blocks += _rest(text, at, start, path)
    inner = (*path, f"{'class' if isinstance(node, ast.ClassDef) else 'def'} {node.name}")
    members = [item for item in node.body if isinstance(item, Definition)]
    if not isinstance(node, ast.ClassDef) or not members or end - start <= LARGE_CLASS_CHARS:
        blocks.append(Block(start, end, inner, opens=True))
        return end
    body = start
    for member in members:
        if body == start:
            top = min([member.lineno, *(mark.lineno for mark in member.decorator_list)])
            blocks.append(Block(start, starts[top - 1], inner, opens=True))
            body = starts[top - 1]
        body = _define(member, text, starts, body, inner, blocks)
    blocks += _rest(text, body, end, inner)
    return end


def _rest(text: str, start: int, end: int, path: tuple[str, ...]) -> list[Block]:
    """What is no definition, as paragraphs; the first of them is a section of its own."""
    found = paragraphs(text, start, end, path)
    return [found[0]._replace(opens=True), *found[1:]] if found else []


def _others(text: str) -> list[Block]:
    begins: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    for match in _DEFINES.finditer(text):
        name = match["name"] or match["c"] or match["js"] or match["sh"] or match[0].strip()
        if match.start() == 0:
            begins = []
        begins.append((match.start(), (name.strip()[:100],)))
    blocks: list[Block] = []
    for position, (start, path) in enumerate(begins):
        end = begins[position + 1][0] if position + 1 < len(begins) else len(text)
        found = paragraphs(text, start, end, path)
        blocks += [block._replace(opens=not number) for number, block in enumerate(found)]
    return blocks
