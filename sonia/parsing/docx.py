"""DOCX: headings, paragraphs, list items and rows, in their order."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from sonia.parsing.interface import NotReadable
from sonia.parsing.pieces import About, Headings, Piece, Writing

if TYPE_CHECKING:
    from docx.table import Table
    from docx.text.paragraph import Paragraph

MAX_PARTS = 10_000
MAX_RATIO = 200  # unpacked to packed; Word's own stay far below
RATIO_COUNTS_FROM = 33_554_432
_HEADING = re.compile(r"^heading (\d)$", re.I)


def check_archive(file: BinaryIO, limit_bytes: int) -> None:
    """Refuse an archive that is broken, no DOCX, or would unpack to too much."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _broken() from error
    if not any(part.filename == "word/document.xml" for part in parts):
        raise NotReadable(
            "This is an archive, and no DOCX is in it. Unpack it and send the documents.",
            reason="unsupported",
        )
    unpacked, packed = (
        sum(part.file_size for part in parts),
        sum(part.compress_size for part in parts),
    )
    bomb = unpacked > RATIO_COUNTS_FROM and unpacked > MAX_RATIO * max(packed, 1)
    if unpacked > limit_bytes or bomb or len(parts) > MAX_PARTS:
        raise NotReadable(
            f"The DOCX would unpack from {packed} to {unpacked} bytes in {len(parts)} parts; at "
            f"most {limit_bytes} bytes, {MAX_RATIO} to 1 and {MAX_PARTS} parts are read. "
            "Send its text instead.",
            reason="bomb",
            limit_bytes=limit_bytes,
        )
    file.seek(0)


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """One piece."""
    from docx import Document
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table
    from lxml.etree import XMLSyntaxError

    try:
        document = Document(file)
    except (PackageNotFoundError, XMLSyntaxError, KeyError, ValueError, zipfile.BadZipFile) as e:
        raise _broken() from e
    about.title = " ".join((document.core_properties.title or "").split())
    writing, headings = Writing(), Headings()
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            _table(item, writing, headings)
        else:
            _paragraph(item, writing, headings, about)
    yield writing.piece()


def _paragraph(item: Paragraph, writing: Writing, headings: Headings, about: About) -> None:
    style = (item.style.name if item.style else "") or ""
    if style == "Title":
        about.title = about.title or item.text.strip()
    if heading := _HEADING.match(style):
        writing.add(item.text, headings.enter(int(heading[1]), item.text), title=True)
    else:
        writing.add(item.text, headings.path, close=style.startswith("List"))


def _table(table: Table, writing: Writing, headings: Headings) -> None:
    for number, row in enumerate(table.rows):
        seen: list[str] = []
        last = None
        for cell in row.cells:  # a merged cell comes once for every column it spans
            if cell._tc is not last:
                seen.append(" ".join(cell.text.split()))
            last = cell._tc
        writing.add(" | ".join(seen) if any(seen) else "", headings.path, close=number > 0)


def _broken() -> NotReadable:
    return NotReadable(
        "The DOCX is broken: its archive or its XML can't be read. Open it in a word processor, "
        "save it anew, and send that.",
        reason="broken",
    )
