"""What is asked of a parser, and what it answers.

The text of a document is what was extracted from it: newlines are `\n`, and blocks of formats
that have any (PDF, DOCX, HTML) are parted by blank lines. Offsets count its characters (code
points) from 0; a chunk's `content` is exactly `text[start:end]`.
"""

from __future__ import annotations

from sonia.errors import InvalidRequest, PayloadTooLarge
from sonia.types import Value


class NotReadable(InvalidRequest):
    """The file is empty, broken, locked or of a kind that is not read; `message` says which.

    `details["reason"]` is one word for it: `empty`, `broken`, `encrypted`, `scanned`, `binary`,
    `mismatch`, `unsupported`, `bomb`, `nested`.
    """


class ReadingFailed(PayloadTooLarge):
    """Reading the file took more time, memory or room than a document may."""


class Limits(Value):
    """What reading one file may use, in the process that reads it."""

    memory_bytes: int = 1_610_612_736
    seconds: float = 300.0
    output_bytes: int = 2_147_483_648
    archive_bytes: int = 268_435_456  # what a DOCX may be when unpacked


class Wish(Value):
    """How to read a file. `name` and `media_type` are what its sender says it is."""

    name: str = ""
    media_type: str | None = None
    chunk_chars: int = 1000
    overlap_chars: int = 150
    limits: Limits = Limits()


class Chunk(Value):
    """A part of the text. `heading` is the path of headings it stands under, outermost first.

    `page` counts from 1, where the format has pages.
    """

    content: str
    start: int
    end: int
    heading: tuple[str, ...] = ()
    page: int | None = None


class Parsed(Value):
    """A whole file, read. `title` is its own, "" when it has none. `encoding` is of text files."""

    media_type: str
    title: str
    chars: int
    chunks: int
    pages: int | None = None
    encoding: str | None = None
