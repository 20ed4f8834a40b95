"""The text index: tantivy, one folder per generation, nothing in it but words and numbers.

It holds no content of its own (nothing is `stored`), so it can always be thrown away. Text is
never parsed as query syntax: it is cut into words by the analyser that cut the documents, and
the query is built of those. Everything here blocks: call it in threads. One writer at a time;
searching beside it is fine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sonia.memory.bookkeeping import Pending
from sonia.memory.columns import micros
from sonia.memory.interface import Query

if TYPE_CHECKING:
    import tantivy

MAX_TERMS = 64
MAX_WORD_BYTES = 64
HEAP_BYTES = 15_000_000  # the least that tantivy takes


class IndexDamaged(Exception):
    """The folder can't be read or written as an index. It is rebuilt; nothing is lost."""


_of_thread = threading.local()


def words(text: str) -> list[str]:
    """Cut text as the index does: letters and digits, folded, stemmed as English."""
    analyzer: tantivy.TextAnalyzer | None = getattr(_of_thread, "analyzer", None)
    if analyzer is None:
        analyzer = _of_thread.analyzer = _analyzer()
    return analyzer.analyze(text)


def terms(text: str) -> list[str]:
    """The distinct words of a question, the first 64 of them."""
    return list(dict.fromkeys(words(text)))[:MAX_TERMS]


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
    builder.add_unsigned_field("number", indexed=True, fast=True)
    builder.add_text_field("content", tokenizer_name="spoken", index_option="freq")
    for name in ("type", "user_id", "session_id"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("valid_from", indexed=True, fast=True)
    return builder.build()


class TextIndex:
    """One generation. Every method raises `IndexDamaged` when the folder lets it down."""

    def __init__(self, path: Path) -> None:
        import tantivy

        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._index = tantivy.Index(_schema(), path=str(path))
            self._index.register_tokenizer("spoken", _analyzer())
            self._writer = self._index.writer(HEAP_BYTES, 1)
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error

    @property
    def documents(self) -> int:
        """As of the last commit."""
        return self._searcher.num_docs

    def add(self, rows: Iterable[Pending]) -> None:
        """Take these in, each in place of what had its number; `commit` makes it so."""
        from tantivy import Document

        try:
            for row in rows:
                self._writer.delete_documents_by_term("number", row.number)
                document = Document()
                document.add_unsigned("number", row.number)
                document.add_text("content", row.content)
                document.add_text("type", row.type)
                document.add_text("user_id", row.user_id)
                if row.session_id is not None:
                    document.add_text("session_id", row.session_id)
                document.add_integer("valid_from", row.valid_from)
                self._writer.add_document(document)
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error

    def commit(self) -> None:
        """Make what was added durable, then findable."""
        try:
            self._writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error

    def search(self, asked: Sequence[str], query: Query, limit: int) -> list[tuple[int, float]]:
        """Numbers and BM25 scores, best first, of documents with any of the words `asked`."""
        searcher = self._searcher
        try:
            hits = searcher.search(_built(asked, query), limit, count=False).hits
            addresses = [address for _, address in hits]
            numbers = searcher.fast_field_values("number", addresses)
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error
        return [
            (cast(int, number), cast(float, score))
            for number, (score, _) in zip(numbers, hits, strict=True)
        ]

    def frequency(self, word: str) -> int:
        """How many documents hold this word."""
        try:
            return self._searcher.doc_freq("content", word)
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error

    def close(self) -> None:
        """Wait for segments being merged, and write no more; searches under way may finish."""
        try:
            self._writer.wait_merging_threads()
        except (ValueError, OSError) as error:
            raise IndexDamaged(str(error)) from error


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
