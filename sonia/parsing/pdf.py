"""PDF: the text of each page, under the headings of the document's outline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from sonia.parsing.interface import NotReadable
from sonia.parsing.pieces import About, Headings, Piece
from sonia.parsing.plain import paragraphs

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
SECURITY_ERROR = 5  # FPDF_ERR_SECURITY
_CLEANED = str.maketrans({"\ufffe": None, "\x02": None, "\x00": None})


def read(file: BinaryIO, about: About) -> Iterator[Piece]:
    """A piece per page."""
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) in (PASSWORD_ERROR, SECURITY_ERROR):
            raise NotReadable(
                "The PDF is encrypted and needs a password. Save a copy without one.",
                reason="encrypted",
            ) from error
        raise _broken() from error
    about.pages = len(document)
    about.title = " ".join((document.get_metadata_value("Title") or "").split())
    outline = _outline(document)
    path: tuple[str, ...] = ()
    found = False
    for number in range(len(document)):
        text = _page_text(document, number)
        path = outline.get(number, path)
        blocks = paragraphs(text, heading=path)
        found = found or bool(blocks)
        yield Piece(f"{text}\n\n", blocks, page=number + 1)
    if not found:
        raise NotReadable(
            f"The PDF has {len(document)} pages and no text: it is scanned or drawn. Run it "
            "through OCR (for example ocrmypdf) and send the result.",
            reason="scanned",
            pages=len(document),
        )


def _page_text(document: PdfDocument, number: int) -> str:
    import pypdfium2 as pdfium

    try:
        page = document[number]
        try:
            text: str = page.get_textpage().get_text_bounded()
        finally:
            page.close()
    except pdfium.PdfiumError as error:
        raise _broken(number + 1) from error
    text = text.translate(_CLEANED).replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _outline(document: PdfDocument) -> dict[int, tuple[str, ...]]:
    """The headings that hold from each page on that begins some."""
    headings, paths = Headings(), dict[int, tuple[str, ...]]()
    for bookmark in document.get_toc(max_depth=8):
        place = bookmark.get_dest()
        number = place.get_index() if place else None
        path = headings.enter(bookmark.level + 1, bookmark.get_title())
        if number is not None and number >= 0:
            paths.setdefault(number, path)
    return dict(sorted(paths.items()))


def _broken(page: int | None = None) -> NotReadable:
    where = f"Page {page} of the PDF" if page else "The PDF"
    return NotReadable(
        f"{where} is broken and can't be read. Open it in a viewer, save it anew, and send that.",
        reason="broken",
    )
