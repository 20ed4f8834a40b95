"""Text files as text, a piece at a time, whatever they were written in.

A file is UTF-8 unless it says otherwise (a byte order mark, or the zeros that UTF-16 leaves in
plain words). Bytes that are not UTF-8 are read as windows-1252, one by one: so a Latin-1 file is
right, and so is one put together from both.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from sonia.parsing.interface import NotReadable
from sonia.parsing.pieces import About

HEAD_BYTES = 65_536
PIECE_CHARS = 1_000_000
MAX_CONTROL_SHARE = 0.02
MAX_UNREADABLE_SHARE = 0.02
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = {code: None for code in (*range(9), *range(14, 27), *range(28, 32), 127)}
_FALLBACK = "windows-1252-bytes"


class _Fallback:
    """Counts the bytes that it lends a meaning."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        wrong = error.object[error.start : error.end]
        self.bytes += len(wrong)
        text = "".join(
            bytes([byte]).decode("cp1252", "ignore") or bytes([byte]).decode("latin-1")
            for byte in wrong
        )
        return text, error.end


def encoding_of(head: bytes) -> str:
    """The encoding of a file that begins like this. Raises `NotReadable` for binary."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        pairs = max(len(head) // 2, 1)
        even, odd = head[::2].count(0) / pairs, head[1::2].count(0) / pairs
        if min(even, odd) < 0.05 and max(even, odd) > 0.3:
            return "utf-16-le" if odd > even else "utf-16-be"
        raise binary()
    if _control_share(head.decode("latin-1")) > MAX_CONTROL_SHARE:
        raise binary()
    return "utf-8"


def texts(file: BinaryIO, about: About) -> Iterator[str]:
    """The file as consecutive texts of about a million characters, cut at blank lines."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    encoding = encoding_of(head)
    fallback = _Fallback()
    codecs.register_error(_FALLBACK, fallback)
    errors = _FALLBACK if encoding.startswith("utf-8") else "replace"
    reader = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline=None)
    try:
        held = ""
        while more := reader.read(PIECE_CHARS):
            _check(more)
            held += more
            cut = _place(held)
            yield held[:cut]
            held = held[cut:]
        if held:
            yield held
    finally:
        reader.detach()
    about.encoding = "windows-1252" if fallback.bytes else encoding.removesuffix("-sig")


def binary() -> NotReadable:
    """What is said of a file that is no text."""
    return NotReadable(
        "The file is binary, whatever its name says. Send text, Markdown, HTML, PDF, DOCX or "
        "source code.",
        reason="binary",
    )


def _check(text: str) -> None:
    if "\0" in text or _control_share(text) > MAX_CONTROL_SHARE:
        raise binary()
    if text.count("\ufffd") > MAX_UNREADABLE_SHARE * len(text):
        raise NotReadable(
            "The file is not in the encoding that its first bytes name. Save it as UTF-8.",
            reason="broken",
        )


def _control_share(text: str) -> float:
    return 1 - len(text.translate(_CONTROLS)) / max(len(text), 1)


def _place(text: str) -> int:
    """Where to part a text: behind the last blank line, else line, else word, else its end."""
    if len(text) < PIECE_CHARS:
        return len(text)
    for mark in ("\n\n", "\n", " "):
        if (found := text.rfind(mark)) > len(text) // 2:
            return found + len(mark)
    return len(text)
