"""HTML: what a reader would see of it, with headings, paragraphs, items and rows.

Scripts, styles, navigation and elements that are hidden are left out: what a person can't see on
the page should not reach a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from sonia.parsing.decoding import texts
from sonia.parsing.interface import NotReadable
from sonia.parsing.pieces import About, Headings, Piece, Writing

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

UNSEEN = frozenset(
    {"script", "style", "template", "noscript", "head", "svg", "nav", "iframe", "object", "canvas"}
)
INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "input",
        "ins",
        "kbd",
        "label",
        "mark",
        "output",
        "q",
        "ruby",
        "rb",
        "rt",
        "rtc",
        "rp",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
CLOSE = frozenset({"li", "tr", "dd", "dt", "option"})
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])", re.I)
_SPACES = re.compile(r"\s+")
# Building the tree takes time by the square of its depth: browsers stop at 512.
MAX_DEPTH = 10_000
_TAG = re.compile(r"<(/?)([a-z][^\s/<>]*)[^<>]*?(/?)>", re.I)
_NOT_DEEP = frozenset(
    [
        "p",
        "li",
        "dt",
        "dd",
        "option",
        "optgroup",
        "tr",
        "td",
        "th",
        "thead",
        "tbody",
        "tfoot",
        "colgroup",
        "rt",
        "rp",
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """One piece: a page is one tree."""
    from selectolax.lexbor import LexborHTMLParser

    source = "".join(texts(file, about))
    _check_depth(source)
    tree = LexborHTMLParser(source)
    if (title := tree.css_first("title")) is not None:
        about.title = " ".join(title.text().split())
    if tree.body is not None:
        page = _Page(about)
        page.walk(tree.body)
        yield page.writing.piece()


def _check_depth(source: str) -> None:
    depth = 0
    for closes, tag, empty in _TAG.findall(source):
        if empty or tag.lower() in _NOT_DEEP:
            continue
        depth = max(depth - 1, 0) if closes else depth + 1
        if depth > MAX_DEPTH:
            raise NotReadable(
                f"The page nests elements more than {MAX_DEPTH} deep. Send its text.",
                reason="nested",
            )


class _Page:
    def __init__(self, about: About) -> None:
        self.writing = Writing()
        self._about = about
        self._headings = Headings()
        self._words: list[str] = []
        self._kind = ""
        self._kept_spaces = 0

    def walk(self, root: LexborNode) -> None:
        """Depth first without recursion: pages may be nested as deep as they like."""
        node: LexborNode | None = root
        while node is not None:
            child = self._enter(node)
            if child is not None:
                node = child
                continue
            while node is not None and node.mem_id != root.mem_id and node.next is None:
                node = self._leave_to_parent(node)
            if node is None or node.mem_id == root.mem_id:
                break
            self._leave(node)
            node = node.next
        self._end()

    def _leave_to_parent(self, node: LexborNode) -> LexborNode | None:
        self._leave(node)
        return node.parent

    def _enter(self, node: LexborNode) -> LexborNode | None:
        tag = node.tag or ""
        if tag == "-text":
            self._words.append(node.text_content or "")
            return None
        if tag.startswith("-") or tag in UNSEEN or _hidden(node):
            return None
        if tag == "br":
            self._words.append("\n" if self._kept_spaces else "\x1e")
        elif tag in ("td", "th"):
            self._words.append("" if not "".join(self._words).strip() else " | ")
        elif tag not in INLINE:
            self._end()
            self._kind = tag
            self._kept_spaces += tag == "pre"
        child: LexborNode | None = node.child
        return child

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in INLINE or tag in UNSEEN or tag.startswith("-") or tag in ("br", "td", "th"):
            return
        self._end()
        self._kept_spaces = max(self._kept_spaces - (tag == "pre"), 0)

    def _end(self) -> None:
        """What was gathered is a block."""
        text = "".join(self._words)
        self._words.clear()
        if not self._kept_spaces:
            text = _SPACES.sub(" ", text.replace("\x1e", "\x00")).replace("\x00", "\n")
        kind, self._kind = self._kind, ""
        if not text.strip():
            self._kind = kind if kind in CLOSE else ""
            return
        if kind in HEADINGS:
            path = self._headings.enter(int(kind[1]), text)
            self._about.title = self._about.title or text.strip()
            self.writing.add(text, path, title=True)
        else:
            self.writing.add(text, self._headings.path, close=kind in CLOSE)


def _hidden(node: LexborNode) -> bool:
    given = node.attributes
    if not given:
        return False
    return "hidden" in given or bool(_HIDDEN.search(given.get("style") or ""))
