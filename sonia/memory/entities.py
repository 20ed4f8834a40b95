"""Who and what a memory is about, by simple rules: what is named, who spoke, what was said so.

Names are words that begin with a capital inside a sentence, or at its beginning when they are
no common word there; neighbours belong together ("Ada Lovelace"). Metadata may name more under
`entity`, `entities` and `speaker`.
"""

from __future__ import annotations

import re
from typing import Any, cast

import apsw

from sonia.memory.interface import Entry

MAX_NAME_CHARS = 80
MAX_NAMES = 32
NAMED_IN = ("entity", "entities", "speaker", "person")

_WORD = r"[A-Z\u00c0-\u00de][\w'\u2019\-]*"
_NAME = re.compile(rf"\b{_WORD}(?: {_WORD})*")
_COMMON_WORDS = """
a an and are as at but by can could did do does for from had has have he her his how i i'm i've
i'd i'll if in is it it's its let's may me might my no not of oh on or our please she should so
some that the their them then there these they this those to today tomorrow was we we're were
what when where which who whom whose why will with would yes yesterday you your also because both
during each every everything last most next nobody nothing now one only remember since sometimes
somebody something tonight usually while once after all always another any before never many much
more
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def names(entry: Entry) -> tuple[str, ...]:
    """The entities of a memory, as they are written, each once."""
    found = [part for value in _said(entry.metadata) for part in (value.strip(),) if part]
    for match in _NAME.finditer(entry.content):
        words = match.group().split(" ")
        while words and words[0].casefold() in _COMMON:
            words.pop(0)
        if words:
            found.append(" ".join(words).removesuffix("'s").removesuffix("\u2019s"))
    kept = {folded(name): name for name in reversed(found) if len(name) <= MAX_NAME_CHARS}
    return tuple(reversed(kept.values()))[:MAX_NAMES]


def folded(name: str) -> str:
    """What two spellings of one name have in common."""
    return " ".join(name.casefold().split())


def note(c: apsw.Connection, number: int, entry: Entry) -> None:
    """Write down the entities of this memory in place of those it had."""
    c.execute("DELETE FROM memory_entities WHERE number = ?", (number,))
    c.executemany(
        "INSERT OR IGNORE INTO memory_entities (folded, number, name) VALUES (?, ?, ?)",
        [(folded(name), number, name) for name in names(entry)],
    )


def about(
    c: apsw.Connection, name: str, user_id: str | None, limit: int, before: int | None = None
) -> list[int]:
    """Numbers of the memories about it, newest first: named so, or with it as session or person.

    A name of several words is also found by one of them ("Ada" finds "Ada Lovelace").
    """
    wanted = folded(name)
    rows = c.execute(
        "SELECT number FROM memory_entries WHERE (:user IS NULL OR user_id = :user) "
        "AND (:before IS NULL OR number < :before) AND (session_id = :name OR user_id = :name "
        "OR id = :name OR number IN (SELECT number FROM memory_entities "
        "WHERE folded = :folded OR folded GLOB :first OR folded GLOB :last OR folded GLOB :middle)"
        ") ORDER BY number DESC LIMIT :limit",
        {
            "name": name,
            "folded": wanted,
            "first": f"{_literal(wanted)} *",
            "last": f"* {_literal(wanted)}",
            "middle": f"* {_literal(wanted)} *",
            "user": user_id,
            "before": before,
            "limit": limit,
        },
    )
    return [cast(int, row[0]) for row in rows]


def _literal(text: str) -> str:
    """`text` as a GLOB pattern that matches only itself."""
    return re.sub(r"([*?\[])", r"[\1]", text)


def _said(metadata: dict[str, Any]) -> list[str]:
    said: list[str] = []
    for field in NAMED_IN:
        value = metadata.get(field)
        values = value if isinstance(value, list) else [value]
        said += [item for item in values if isinstance(item, str)]
    return said
