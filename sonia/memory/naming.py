"""What is known about a name, found when asked: no table of entities can be out of date.

Names that stand beside it are words that begin with a capital inside a sentence, or at its
beginning when they are no common word there; neighbours belong together ("Ada Lovelace").
The rules are for scripts that have capitals.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import apsw

from sonia.forgetting import ERASED
from sonia.memory import ledger, store
from sonia.memory.interface import About, Entry, Utterance
from sonia.phrases import Phrases, words

RELATED = 10
MAX_UTTERANCES = 100
_NAME_WORD = r"[^\W\d_a-z][\w'\u2019\-]*"
_NAME = re.compile(rf"\b{_NAME_WORD}(?: {_NAME_WORD})*")
_COMMON_WORDS = """
a an and are as at but by can could did do does for from had has have he her him his how i i'm i've
i'd i'll if in is it it's its let's may me might my no not of oh on or our please she should so
some that the their them then there these they this those to today tomorrow was we we're were
what when where which who whom whose why will with would yes yesterday you your also because both
during each every everything last most next nobody nothing now one only remember since sometimes
somebody something tonight usually while once after all always another any before never many much
more
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def about(
    c: apsw.Connection, name: str, user_id: str | None, limit: int, before: int | None
) -> About:
    """The newest `limit` memories that name it, and what was said of it; newest first."""
    asked = Phrases()
    asked.add(name)
    numbers = _numbers(c, asked, user_id)
    page = [number for number in numbers if before is None or number < before][:limit]
    entries = store.entries(c, page)
    found = tuple(entries[number] for number in page if number in entries)
    return About(
        name=name,
        count=len(numbers),
        memories=found,
        utterances=_utterances(c, asked, user_id, min(limit, MAX_UTTERANCES)),
        related=dict(_related(name, found).most_common(RELATED)),
    )


def _numbers(c: apsw.Connection, asked: Phrases, user_id: str | None) -> list[int]:
    hint, needles = asked.hint("content || metadata")
    rows = c.execute(
        "SELECT number, content, metadata FROM memory_entries "  # noqa: S608
        f"WHERE (:user_id IS NULL OR user_id = :user_id) AND ({hint}) ORDER BY number DESC",
        {"user_id": user_id, **needles},
    )
    return [
        number
        for number, content, metadata in cast("Iterable[tuple[int, str, str]]", rows)
        if asked.within(content) or (metadata != "{}" and asked.within_json(metadata))
    ]


def _utterances(
    c: apsw.Connection, asked: Phrases, user_id: str | None, limit: int
) -> tuple[Utterance, ...]:
    hint, needles = asked.hint("data")
    rows = c.execute(
        "SELECT number, data FROM memory_events "  # noqa: S608
        "WHERE kind IN ('turn.user', 'turn.assistant') AND data <> :erased "
        f"AND (:user_id IS NULL OR user_id = :user_id) AND ({hint}) ORDER BY number DESC",
        {"user_id": user_id, "erased": ERASED, **needles},
    )
    naming = (number for number, data in cast("Iterable[Any]", rows) if asked.within_json(data))
    return ledger.utterances(c, list(islice(naming, limit)))


def _related(name: str, entries: Iterable[Entry]) -> Counter[str]:
    itself = words(name)
    counted: Counter[str] = Counter()
    for entry in entries:
        counted.update(
            {other for other in names(entry.content) if not set(itself) & set(words(other))}
        )
    return counted


def names(text: str) -> list[str]:
    """What is named in a text, as it is written there."""
    found = []
    for match in _NAME.finditer(text):
        parts = match.group().split(" ")
        while parts and parts[0].casefold() in _COMMON:
            parts.pop(0)
        if parts:
            found.append(re.sub(r"['\u2019]s$", "", " ".join(parts)))
    return found
