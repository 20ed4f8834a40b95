"""Documents for tests: whole, broken and hostile."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence

HTML = """<!doctype html><html><head><title>Soup &amp; salt</title><style>x{}</style></head><body>
<nav>menu</nav><h1>Soup</h1><p>Boil <b>water</b><br>twice.</p><div>Loose<p>para</p>tail</div>
<ul><li>salt<li>pepper</ul><table><tr><td>a<td>b<tr><td>c<td>d</table>
<p hidden>secret one</p><p style="display: none">secret two</p><pre>x = 1\n  y</pre>
<h2>End</h2>bye</body></html>"""


def pdf(pages: Sequence[Sequence[str]], title: str = "", outline: Sequence[str] = ()) -> bytes:
    """A PDF of these lines; `outline` names a bookmark for each page, from the first."""
    objects: list[bytes] = [b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]

    def add(body: str) -> int:
        objects.append(body.encode("latin-1"))
        return len(objects)

    tree = 2 * len(pages) + 2
    kids = []
    for lines in pages:
        shown = "BT /F1 12 Tf 50 750 Td 14 TL " + " ".join(f"({x}) Tj T*" for x in lines) + " ET"
        stream = add(f"<</Length {len(shown)}>>stream\n{shown}\nendstream")
        kids.append(
            add(
                f"<</Type/Page/Parent {tree} 0 R/MediaBox[0 0 600 800]/Contents {stream} 0 R"
                "/Resources<</Font<</F1 1 0 R>>>>>>"
            )
        )
    add(f"<</Type/Pages/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]/Count {len(kids)}>>")
    marks = ""
    if outline:
        first, root = len(objects) + 1, len(objects) + len(outline) + 1
        for number, name in enumerate(outline):
            after = f"/Next {first + number + 1} 0 R" if number + 1 < len(outline) else ""
            before = f"/Prev {first + number - 1} 0 R" if number else ""
            where = f"/Dest[{kids[number]} 0 R/Fit]"
            add(f"<</Title({name})/Parent {root} 0 R{where}{after}{before}>>")
        add(f"<</First {first} 0 R/Last {root - 1} 0 R/Count {len(outline)}>>")
        marks = f"/Outlines {root} 0 R"
    catalog = add(f"<</Type/Catalog/Pages {tree} 0 R{marks}>>")
    return _file(objects, catalog, add(f"<</Title({title})>>"))


def _file(objects: list[bytes], catalog: int, about: int) -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"trailer<</Size %d/Root %d 0 R/Info %d 0 R>>" % (size, catalog, about)
    start = len(out)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s%s\nstartxref\n%d\n%%%%EOF" % (
        size,
        table,
        end,
        start,
    )


def encrypted_pdf() -> bytes:
    """A PDF whose pages can't be had without a password."""
    plain = pdf([["secret"]])
    zeros = "00" * 32
    lock = f"/Encrypt<</Filter/Standard/V 1/R 2/O<{zeros}>/U<{zeros}>/P -4>>/ID[<00><00>]"
    return plain.replace(b"/Info ", lock.encode() + b"/Info ")


def docx() -> bytes:
    """Headings, a paragraph, list items, a table."""
    from docx import Document

    document = Document()
    document.core_properties.title = "Trip plan"
    document.add_heading("Trip", 1)
    document.add_paragraph("We fly to Porto. " * 30)
    document.add_heading("Hotel", 2)
    document.add_paragraph("Bring a key", style="List Bullet")
    document.add_paragraph("Pay cash", style="List Bullet")
    table = document.add_table(2, 2)
    for row, texts in zip(table.rows, (("day", "city"), ("Mon", "Porto")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def bomb(unpacked_mb: int = 300) -> bytes:
    """A DOCX of a few hundred kilobytes that unpacks to `unpacked_mb`."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(unpacked_mb):
            part.write(b" " * 1_000_000)
    return target.getvalue()


def archive(name: str = "a.txt") -> bytes:
    """A ZIP without a DOCX in it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr(name, "x")
    return target.getvalue()


# name, content, reason, a word of the message
REFUSED: tuple[tuple[str, bytes, str, str], ...] = (
    ("empty.txt", b"", "empty", "empty"),
    ("blank.txt", b" \n\n\t ", "empty", "empty"),
    ("blank.html", b"<html><body><script>x()</script></body></html>", "empty", "no text"),
    ("broken.pdf", b"%PDF-1.7\n" + bytes(range(1, 255)) * 9, "broken", "viewer"),
    ("locked.pdf", encrypted_pdf(), "encrypted", "password"),
    ("scanned.pdf", pdf([[], []]), "scanned", "OCR"),
    ("named.pdf", b"These are words.", "mismatch", "named as a PDF"),
    ("random.txt", os.urandom(200_000), "binary", "binary"),
    ("late.txt", b"words " * 20_000 + b"\0\1\2" * 100, "binary", "binary"),
    ("program.txt", b"\x7fELF\2\1\1" + bytes(500), "unsupported", "program"),
    ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(500), "unsupported", "OCR"),
    ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "unsupported", "DOCX"),
    ("bomb.docx", bomb(), "bomb", "unpack"),
    ("other.docx", archive(), "unsupported", "no DOCX"),
    ("half.docx", b"PK\x03\x04" + os.urandom(5000), "broken", "broken"),
    ("cut.docx", docx()[:3000], "broken", "broken"),
    ("deep.html", b"<div>" * 300_000, "nested", "deep"),
)
