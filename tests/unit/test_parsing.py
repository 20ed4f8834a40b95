"""Reading files: structure, offsets, encodings, and what is said of those that can't be read."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.parsing import Chunk, Limits, NotReadable, Parsed, ReadingFailed, Wish
from sonia.parsing.chunking import chunks
from sonia.parsing.pieces import Piece
from sonia.parsing.plain import paragraphs
from sonia.parsing.process import chunks_in, parse
from tests.documents_given import HTML, REFUSED, docx, pdf


async def read(folder: Path, name: str, content: bytes, **wish: Any) -> tuple[Parsed, list[Chunk]]:
    file, out = folder / "file", folder / "chunks"
    await asyncio.to_thread(file.write_bytes, content)
    parsed = await parse(file, out, Wish(name=name, **wish))
    return parsed, list(chunks_in(out))


async def test_markdown_keeps_its_headings_and_its_offsets(tmp_path: Path) -> None:
    text = (
        "---\ntitle: Garden\n---\n# Beds\n\nTomatoes.\n\n## North\n\n- moss\n- fern\n\n"
        "# End\n\nBye.\n"
    )

    parsed, found = await read(tmp_path, "garden.md", text.encode())

    assert (parsed.title, parsed.media_type) == ("Garden", "text/markdown")
    assert [chunk.heading for chunk in found] == [(), ("Beds",), ("Beds", "North"), ("End",)]
    assert all(text[chunk.start : chunk.end] == chunk.content for chunk in found)
    assert found[2].content == "## North\n\n- moss\n- fern"


async def test_html_is_what_a_reader_sees(tmp_path: Path) -> None:
    parsed, found = await read(tmp_path, "page", HTML.encode())

    text = "\n\n".join(chunk.content for chunk in found)
    assert (parsed.title, parsed.media_type) == ("Soup & salt", "text/html")
    assert [chunk.heading for chunk in found] == [("Soup",), ("Soup", "End")]
    assert "Boil water\ntwice." in text
    assert "salt\npepper" in text
    assert "a | b\nc | d" in text
    assert "x = 1\n  y" in text
    assert not [hidden for hidden in ("secret", "menu", "x{}") if hidden in text]


async def test_a_pdf_keeps_pages_and_outline(tmp_path: Path) -> None:
    content = pdf(
        [["Tomatoes need sun.", "And water."], ["Roses are pruned."]],
        title="Garden book",
        outline=("Vegetables", "Flowers"),
    )

    parsed, found = await read(tmp_path, "wrong.txt", content)

    assert (parsed.title, parsed.pages, parsed.media_type) == ("Garden book", 2, "application/pdf")
    assert [(chunk.page, chunk.heading) for chunk in found] == [
        (1, ("Vegetables",)),
        (2, ("Flowers",)),
    ]
    assert found[0].content == "Tomatoes need sun.\nAnd water."


async def test_a_docx_keeps_headings_items_and_rows(tmp_path: Path) -> None:
    parsed, found = await read(tmp_path, "trip.docx", docx())

    assert parsed.title == "Trip plan"
    assert [chunk.heading for chunk in found] == [("Trip",), ("Trip", "Hotel")]
    assert found[1].content == "Hotel\nBring a key\nPay cash\n\nday | city\nMon | Porto"


async def test_python_is_cut_at_its_definitions(tmp_path: Path) -> None:
    body = "\n".join(f"        x = {number}" for number in range(60))
    code = (
        "import os\n\n\n@cache\ndef first():\n    pass\n\n\nclass Big:\n    a = 1\n\n"
        f"    def one(self):\n{body}\n\n    def two(self):\n{body}\n"
    )

    _, found = await read(tmp_path, "code.py", code.encode())

    assert [chunk.heading for chunk in found] == [
        (),
        ("def first",),
        ("class Big",),
        ("class Big", "def one"),
        ("class Big", "def two"),
    ]
    assert found[1].content == "@cache\ndef first():\n    pass"


async def test_other_code_is_cut_where_a_definition_begins(tmp_path: Path) -> None:
    code = (
        "import a\n\nexport async function load(x) {\n  return 1\n}\n\nclass Foo {\n  bar() {}\n}\n"
    )

    _, found = await read(tmp_path, "code.js", code.encode())

    assert [chunk.heading for chunk in found] == [(), ("load",), ("Foo",)]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("Grüße aus Köln".encode("utf-8-sig"), "utf-8"),
        ("Grüße aus Köln".encode("utf-16"), "utf-16"),
        (("Grüße aus Köln " * 9).encode("utf-16-be"), "utf-16-be"),
        ("Grüße aus Köln".encode("utf-32"), "utf-32"),
        ("Grüße aus Köln".encode("latin-1"), "windows-1252"),
        ("Grüße aus ".encode() + "Köln".encode("cp1252"), "windows-1252"),
    ],
)
async def test_encodings_even_mixed_ones_are_read_right(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    parsed, found = await read(tmp_path, "a.txt", content)

    assert found[0].content.startswith("Grüße aus Köln")
    assert parsed.encoding == encoding


@pytest.mark.parametrize(("name", "content", "reason", "word"), REFUSED)
async def test_t44_what_cannot_be_read_is_told_why(
    tmp_path: Path, name: str, content: bytes, reason: str, word: str
) -> None:
    with pytest.raises(NotReadable) as refused:
        await read(tmp_path, name, content)

    assert refused.value.details["reason"] == reason
    assert word in refused.value.message


async def test_t44_a_file_that_needs_too_much_memory_ends_its_own_process_only(
    tmp_path: Path,
) -> None:
    limits = Limits(memory_bytes=220_000_000)

    with pytest.raises(ReadingFailed, match="more than 220000000 bytes"):
        await read(tmp_path, "a.html", b"<p>word</p>" * 4_000_000, limits=limits)


async def test_t44_a_file_with_too_much_text_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ReadingFailed, match="more text than"):
        await read(tmp_path, "a.txt", b"word " * 2_000_000, limits=Limits(output_bytes=100_000))


async def test_t44_a_file_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ReadingFailed, match="longer than"):
        await read(tmp_path, "a.md", b"- word\n" * 4_000_000, limits=Limits(seconds=0.5))


class Begun:
    """Tells of the reader's process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begin = asyncio.create_subprocess_exec
        self.process: asyncio.Future[psutil.Process] = asyncio.Future()
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self)

    async def __call__(self, *words: Any, **options: Any) -> asyncio.subprocess.Process:
        made = await self._begin(*words, **options)
        self.process.set_result(psutil.Process(made.pid))
        return made


async def test_a_reader_is_cancelled_with_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(monkeypatch)
    reading = asyncio.create_task(read(tmp_path, "a.md", b"- word\n" * 4_000_000))
    child = await begun.process

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not child.is_running()


async def test_a_reader_does_not_see_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-canary")
    begun = Begun(monkeypatch)
    reading = asyncio.create_task(read(tmp_path, "a.md", b"- word\n" * 50_000))
    child = await begun.process

    environment = child.environ()

    assert environment["LANG"] == "C.UTF-8"
    assert "ANTHROPIC_API_KEY" not in environment
    await reading


async def test_a_big_text_is_read_in_little_memory(tmp_path: Path) -> None:
    line = "The heron stood in the shallows and looked at nothing. \U0001f41f\n\n"
    content = (line * 400_000).encode()

    parsed, found = await read(
        tmp_path, "big.txt", content, limits=Limits(memory_bytes=150_000_000)
    )

    assert parsed.chars == len(line) * 400_000
    assert found[-1].end == parsed.chars - 2


@given(
    st.text(st.sampled_from("ab .\n!é\u3002"), max_size=600),
    st.integers(20, 80),
    st.integers(0, 15),
)
@settings(max_examples=300, deadline=None)
def test_chunks_are_slices_that_leave_no_word_out(text: str, length: int, overlap: int) -> None:
    found = list(chunks([Piece("", []), Piece(text, paragraphs(text))], length, overlap))

    covered = [False] * len(text)
    for chunk in found:
        assert chunk.content == text[chunk.start : chunk.end] != ""
        assert len(chunk.content) <= length
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(held or character.isspace() for held, character in zip(covered, text, strict=True))
    assert [chunk.start for chunk in found] == sorted({chunk.start for chunk in found})


def test_a_chunk_that_goes_on_repeats_the_end_of_the_one_before() -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(40))

    found = list(chunks([Piece(text, paragraphs(text))], 300, 60))

    assert len(found) > 3
    for before, after in pairwise(found):
        assert before.end - 60 <= after.start < before.end
        assert after.content.startswith("Sentence number")
