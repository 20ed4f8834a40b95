"""What a file is: its first bytes decide, then what its sender says, then its name."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from sonia.parsing.interface import NotReadable, Wish
from sonia.types import Value

Kind = Literal["pdf", "docx", "html", "markdown", "python", "code", "text"]

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PDF_MARK_WITHIN = 1024
KINDS: dict[str, Kind] = {
    "application/pdf": "pdf",
    DOCX: "docx",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/x-python": "python",
    "text/plain": "text",
}
MEDIA_TYPES: dict[Kind, str] = {
    "pdf": "application/pdf",
    "docx": DOCX,
    "html": "text/html",
    "markdown": "text/markdown",
    "python": "text/x-python",
    "code": "text/x-source",
    "text": "text/plain",
}
_CODE = (
    "c cc cpp cxx h hh hpp cs go java js jsx mjs cjs ts tsx kt kts rs rb php swift scala sh bash "
    "zsh lua "
    "pl pm r jl hs ml mli ex exs erl clj dart zig nim sql proto vue svelte m mm groovy ps1 v sv"
)
SUFFIXES: dict[str, Kind] = {
    ".pdf": "pdf",
    ".docx": "docx",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
    **dict.fromkeys((".py", ".pyi", ".pyw"), "python"),
    **{f".{suffix}": "code" for suffix in _CODE.split()},
}
# First bytes, what they mean, and what to do about it.
FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file or an encrypted DOCX",
     "Save it as DOCX without a password."),
    (b"{\\rtf", "RTF", "Save it as DOCX or text."),
    (b"%!PS", "PostScript", "Convert it to PDF."),
    (b"\x89PNG", "a PNG picture", "Run it through OCR and send the text."),
    (b"\xff\xd8\xff", "a JPEG picture", "Run it through OCR and send the text."),
    (b"GIF8", "a GIF picture", "Run it through OCR and send the text."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it and send the documents."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it and send the documents."),
    (b"Rar!", "a RAR archive", "Unpack it and send the documents."),
    (b"BZh", "a bzip2 archive", "Unpack it and send the documents."),
    (b"\xfd7zXZ", "an XZ archive", "Unpack it and send the documents."),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it and send the documents."),
    (b"\x7fELF", "a program", "Send text, Markdown, HTML, PDF, DOCX or source code."),
    (b"MZ\x90\x00", "a program", "Send text, Markdown, HTML, PDF, DOCX or source code."),
    (b"SQLite format 3\x00", "an SQLite database", "Export what matters as text."),
)  # fmt: skip


class Found(Value):
    """What a file is. `claimed` is what its sender or its name says."""

    kind: Kind
    media_type: str


def recognise(head: bytes, wish: Wish) -> Found:
    """Raises `NotReadable` for what can't be read, and where a claim does not hold."""
    if not head.strip(b"\0 \t\r\n\f\v\xef\xbb\xbf"):
        raise NotReadable("The document is empty. Send one with text.", reason="empty")
    claimed = _claimed(wish)
    for mark, what, instead in FOREIGN:
        if head.startswith(mark):
            raise NotReadable(f"This is {what}. {instead}", reason="unsupported")
    if b"%PDF-" in head[:PDF_MARK_WITHIN] and claimed in (None, "pdf", "text", "docx"):
        return _found("pdf", wish)
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _found("docx", wish)
    if claimed in ("pdf", "docx"):
        raise NotReadable(
            f"This is named as a {claimed.upper()} and is none, or its beginning is missing. "
            "Send the whole file, or name it as what it is.",
            reason="mismatch" if _looks_like_text(head) else "broken",
        )
    if claimed in (None, "text") and _looks_like_html(head):
        return _found("html", wish)
    return _found(claimed or "text", wish)


def _claimed(wish: Wish) -> Kind | None:
    said = (wish.media_type or "").partition(";")[0].strip().lower()
    if (kind := KINDS.get(said)) and kind != "text":
        return kind
    by_name = SUFFIXES.get(PurePosixPath(wish.name.partition("?")[0]).suffix.lower())
    return by_name or kind


def _found(kind: Kind, wish: Wish) -> Found:
    said = (wish.media_type or "").partition(";")[0].strip().lower()
    keeps = kind == "code" and said.startswith("text/x-")
    return Found(kind=kind, media_type=said if keeps else MEDIA_TYPES[kind])


def _looks_like_html(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))


def _looks_like_text(head: bytes) -> bool:
    return b"\0" not in head
