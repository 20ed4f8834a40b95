"""The text index: tantivy, one folder per generation, nothing in it but words and numbers.

It holds no content of its own (nothing is `stored`), so it can always be thrown away. Text is
never parsed as query syntax: it is cut into words by the analyser that cut the documents, and
the query is built of those. Everything here blocks: call it in threads. One writer at a time;
searching beside it is fine.
"""

from __future__ import annotations

import re
import threading
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from sonia.memory.bookkeeping import Pending
from sonia.memory.columns import micros
from sonia.memory.function_words import FUNCTION_WORDS
from sonia.memory.interface import Query

if TYPE_CHECKING:
    import tantivy

MAX_TERMS = 64
MAX_WORD_BYTES = 64
SEGMENT_SUFFIXES = frozenset({".term", ".idx", ".pos", ".fast", ".fieldnorm", ".store", ".del"})
HEAP_BYTES = 15_000_000  # the least that tantivy takes
KNOWN_WORDS = 65_536
ANALYSIS = "2"  # goes up when texts are cut into words in another way

# Chinese, Japanese kana and Korean are written without spaces between words.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
_RUNS = re.compile(r"[^\W_]+")
END = "\x01"
_RUNS_OF_BYTES = bytes(  # of UTF-8, in which all of other scripts is from 128 on
    byte
    if byte >= 128 or chr(byte) == END
    else ord(chr(byte).lower() if chr(byte).isalnum() else " ")
    for byte in range(256)
)


class IndexDamaged(Exception):
    """The folder can't be read or written as an index. It is rebuilt; nothing is lost."""


_of_thread = threading.local()


def words(text: str) -> list[str]:
    """Cut text as the index does: letters and digits, folded, stemmed as English.

    Composed first, so that the two ways of writing an accent are one; of scripts without spaces
    every two neighbouring characters are a word.
    """
    analyzer: tantivy.TextAnalyzer | None = getattr(_of_thread, "analyzer", None)
    if analyzer is None:
        analyzer = _of_thread.analyzer = _analyzer()
    return analyzer.analyze(spaced(text))


def spaced(text: str) -> str:
    """What is given to the index of a text."""
    if text.isascii():
        return text
    return _UNSPACED.sub(_in_pairs, unicodedata.normalize("NFC", text))


def _in_pairs(run: re.Match[str]) -> str:
    characters = run[0]
    if len(characters) == 1:
        return f" {characters} "
    return f" {' '.join(a + b for a, b in pairwise(characters))} "


def terms(text: str) -> list[str]:
    """The distinct words of a question that say what it asks for, the first 64 of them.

    All of them, if it is made of function words alone.
    """
    found = list(dict.fromkeys(words(text)))
    telling = [word for word in found if word not in function_stems()]
    return (telling or found)[:MAX_TERMS]


def only_function_words(asked: Sequence[str]) -> bool:
    """Whether a question's words say nothing of what it asks for."""
    return all(word in function_stems() for word in asked)


def runs_of(texts: Sequence[str]) -> bytes:
    """The runs of letters and digits of all the texts, each of which is a word or none.

    In UTF-8, with spaces around each. Each text is followed by `END`.
    """
    cut = [text if text.isascii() else _cut(text) for text in texts]
    whole = f" {END} ".join([*cut, ""])
    if whole.count(END) != len(cut):  # as can be in any text
        whole = f" {END} ".join([*(text.replace(END, " ") for text in cut), ""])
    return b" " + whole.encode().translate(_RUNS_OF_BYTES)


def _cut(text: str) -> str:
    return " ".join(_RUNS.findall(spaced(text).lower()))


@cache
def function_stems() -> frozenset[str]:
    """What function words are to the index."""
    return frozenset(stem for word in FUNCTION_WORDS for stem in words(word))


def _analyzer() -> tantivy.TextAnalyzer:
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    return (
        TextAnalyzerBuilder(Tokenizer.simple())
        .filter(Filter.remove_long(MAX_WORD_BYTES))
        .filter(Filter.lowercase())
        .filter(Filter.ascii_fold())
        .filter(Filter.stemmer("english"))
        .build()
    )


@cache
def _schema() -> tantivy.Schema:
    from tantivy import SchemaBuilder

    builder = SchemaBuilder()
    # Not unsigned: deleting by an unsigned term deletes nothing (tantivy-py 0.27).
    builder.add_integer_field("number", indexed=True, fast=True)
    builder.add_text_field("content", tokenizer_name="spoken", index_option="freq")
    for name in ("type", "user_id", "session_id"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("valid_from", indexed=True, fast=True)
    return builder.build()


@contextmanager
def _seam() -> Iterator[None]:
    """tantivy's failures, its panics included, are one fact to us."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise IndexDamaged(str(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise IndexDamaged(str(error)) from error
        raise


class _Seen(NamedTuple):
    """The index as of a commit, and how many documents hold which word, as far as was asked."""

    searcher: tantivy.Searcher
    frequencies: dict[str, int]


class TextIndex:
    """One generation. Every method raises `IndexDamaged` when the folder lets it down."""

    def __init__(self, path: Path) -> None:
        import tantivy

        self.path = path
        with _seam():
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check_sums(path)
            self._index = tantivy.Index(_schema(), path=str(path))
            self._index.register_tokenizer("spoken", _analyzer())
            self._writer = self._index.writer(HEAP_BYTES, 1)
            self._seen = _Seen(self._index.searcher(), {})

    @property
    def documents(self) -> int:
        """As of the last commit."""
        return self._seen.searcher.num_docs

    def add(self, rows: Iterable[Pending]) -> None:
        """Take these in, each in place of what had its number; `commit` makes it so."""
        with _seam():
            for row in rows:
                self._writer.delete_documents_by_term("number", row.number)
                self._writer.add_document(_document(row))

    def commit(self) -> None:
        """Make what was added durable, then findable."""
        with _seam():
            self._writer.commit()
            self._index.reload()
            self._seen = _Seen(self._index.searcher(), {})

    def search(self, asked: Sequence[str], query: Query, limit: int) -> list[tuple[int, float]]:
        """Numbers and BM25 scores, best first, of documents with any of the words `asked`."""
        searcher = self._seen.searcher
        with _seam():
            hits = searcher.search(_built(asked, query), limit, count=False).hits
            addresses = [address for _, address in hits]
            numbers = searcher.fast_field_values("number", addresses)
        return [
            (cast(int, number), cast(float, score))
            for number, (score, _) in zip(numbers, hits, strict=True)
        ]

    def frequency(self, word: str) -> int:
        """How many documents hold this word."""
        seen = self._seen
        if (known := seen.frequencies.get(word)) is not None:
            return known
        with _seam():
            found = seen.searcher.doc_freq("content", word)
        if len(seen.frequencies) < KNOWN_WORDS:
            seen.frequencies[word] = found
        return found

    def close(self) -> None:
        """Wait for segments being merged, and write no more; searches under way may finish."""
        with _seam():
            self._writer.wait_merging_threads()


def _document(row: Pending) -> tantivy.Document:
    from tantivy import Document

    document = Document()
    document.add_integer("number", row.number)
    document.add_text("content", spaced(row.content))
    document.add_text("type", row.type)
    document.add_text("user_id", row.user_id)
    if row.session_id is not None:
        document.add_text("session_id", row.session_id)
    document.add_integer("valid_from", row.valid_from)
    return document


def _check_sums(path: Path) -> None:
    """Compare every file of the index's segments with the CRC-32 in its own footer.

    tantivy writes one and does not look at it when it opens an index. The footer is JSON, its
    length and a magic number, both little-endian, at the file's end. A segment that is not in
    the list is what a kill left half-written, and nobody reads it.
    """
    listed = path / "meta.json"
    if not listed.is_file():  # there is no index yet
        return
    meta = msgspec.json.decode(listed.read_bytes(), type=_Meta)
    names = {segment.segment_id.replace("-", "") for segment in meta.segments}
    for file in path.iterdir():
        if file.suffix not in SEGMENT_SUFFIXES or file.name.partition(".")[0] not in names:
            continue
        data = file.read_bytes()
        length = int.from_bytes(data[-8:-4], "little")
        body, footer = data[: -8 - length], data[-8 - length : -8]
        if zlib.crc32(body) != msgspec.json.decode(footer, type=_Footer).crc:
            raise IndexDamaged(f"{file.name} is not what was written")


class _Segment(msgspec.Struct):
    segment_id: str


class _Meta(msgspec.Struct):
    segments: list[_Segment]


class _Footer(msgspec.Struct):
    crc: int


def _built(asked: Sequence[str], query: Query) -> tantivy.Query:
    from tantivy import FieldType, Occur
    from tantivy import Query as Built

    schema = _schema()
    anything = [(Occur.Should, Built.term_query(schema, "content", word, "freq")) for word in asked]
    narrow = []
    if query.types:
        narrow.append(Built.term_set_query(schema, "type", query.types))
    if query.user_id is not None:
        narrow.append(Built.term_query(schema, "user_id", query.user_id, "basic"))
    if query.session_id is not None:
        narrow.append(Built.term_query(schema, "session_id", query.session_id, "basic"))
    if query.since is not None or query.until is not None:
        narrow.append(
            Built.range_query(
                schema,
                "valid_from",
                FieldType.Integer,
                lower_bound=None if query.since is None else micros(query.since),
                upper_bound=None if query.until is None else micros(query.until),
            )
        )
    musts = [(Occur.Must, Built.const_score_query(only, 0.0)) for only in narrow]
    return Built.boolean_query([(Occur.Must, Built.boolean_query(anything)), *musts])
