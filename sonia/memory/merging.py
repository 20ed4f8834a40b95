"""What a new statement does to what is known: adds to it, takes its place, or nothing.

A statement meets others by digests of what it says: of its words in their normal form, and of
the attribute it tells ("where I live"). Nothing here compares meanings; that is done behind.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import cast

import apsw

from sonia.memory import bookkeeping, ledger, store
from sonia.memory.attributes import Attribute, attribute_of, said_words
from sonia.memory.columns import likeness, micros
from sonia.memory.interface import Entry, NewMemory
from sonia.memory.provenance import may_replace
from sonia.types import MemoryId, Value

STATEMENTS = ("fact", "preference", "task", "episode")
MAX_STATEMENT_CHARS = 400  # what is longer tells more than one thing
READ_UP_TO = "attributes_read_up_to"


class TakenUp(Value):
    """The memory that was made, and those whose place it took, as they are now."""

    entry: Entry
    replaced: tuple[Entry, ...] = ()


def take_up(
    c: apsw.Connection, new: NewMemory, at: dt.datetime, turn_id: str | None = None
) -> TakenUp | None:
    """Keep a statement unless it says nothing new; end what it contradicts or says more fully.

    What comes from less trusted a place than what it contradicts stands beside it.
    """
    told = attribute_of(new.content)
    met = _met(c, new, told, at)
    if any(_says_no_more(new, old, told) for old in met):
        return None
    entry = store.insert(c, new, at, turn_id)
    number = store.number_of(c, entry.id)
    note(c, number, entry)
    c.execute("INSERT INTO memory_uncompared (number) VALUES (?)", (number,))
    gone = [
        old for old in met if _replaces(new, old, told) and may_replace(entry.origin, old.origin)
    ]
    replaced = tuple(store.give_way(c, old, entry, at) for old in gone)
    return TakenUp(entry=entry, replaced=replaced)


def saying(c: apsw.Connection, statement: str, user_id: str) -> list[MemoryId]:
    """This person's memories that say just that, also those that are over."""
    told = attribute_of(statement)
    abouts = [_form(user_id, statement)]
    if told is not None:
        abouts.append(_about(user_id, told.key))
    rows = c.execute(
        "SELECT number FROM memory_attributes WHERE about IN (?, ?) ORDER BY number",
        (abouts[0], abouts[-1]),
    )
    found = store.entries(c, [cast(int, row[0]) for row in rows])
    return [
        entry.id
        for entry in found.values()
        if said_words(entry.content) == said_words(statement)
        or (told is not None and attribute_of(entry.content) == told)
    ]


def note_superseded(
    c: apsw.Connection, replaced: Iterable[Entry], at: dt.datetime, correlation_id: str
) -> None:
    """Say of each that something took its place."""
    for entry in replaced:
        ledger.append(
            c,
            ledger.Row(
                kind="memory.superseded",
                at=at,
                data={"id": entry.id, "type": entry.type, "version": entry.version},
                correlation_id=correlation_id,
                user_id=entry.user_id,
                session_id=entry.session_id,
            ),
        )


def note(c: apsw.Connection, number: int, entry: Entry) -> None:
    """Have later statements meet this memory; in the transaction in which its words change."""
    c.execute("DELETE FROM memory_attributes WHERE number = ?", (number,))
    if entry.type not in STATEMENTS or len(entry.content) > MAX_STATEMENT_CHARS:
        return
    told = attribute_of(entry.content)
    rows = [(_form(entry.user_id, entry.content), b"")]
    if told is not None:
        rows.append((_about(entry.user_id, told.key), _digest(told.value, str(told.ends))))
    c.executemany(
        "INSERT OR REPLACE INTO memory_attributes (about, number, says) VALUES (?, ?, ?)",
        [(about, number, says) for about, says in rows],
    )


def note_unread(c: apsw.Connection, limit: int) -> int:
    """Note up to `limit` memories that came in by other ways; return how many were looked at."""
    after = int(bookkeeping.derived(c, READ_UP_TO) or 0)
    rows = c.execute(
        "SELECT number FROM memory_entries WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
    )
    numbers = [cast(int, row[0]) for row in rows]
    noted = {
        cast(int, row[0])
        for row in c.execute("SELECT number FROM memory_attributes WHERE number > ?", (after,))
    }
    for number, entry in store.entries(c, [n for n in numbers if n not in noted]).items():
        note(c, number, entry)
    if numbers:
        bookkeeping.note_derived(c, READ_UP_TO, str(numbers[-1]))
    return len(numbers)


def _met(
    c: apsw.Connection, new: NewMemory, told: Attribute | None, at: dt.datetime
) -> Sequence[Entry]:
    """What this person has told of the same, as far as it is held true; oldest first."""
    abouts = [_form(new.user_id, new.content)]
    if told is not None:
        abouts.append(_about(new.user_id, told.key))
    # The pluses keep SQLite from reading everything of a person in search of these few.
    rows = c.execute(
        "SELECT number FROM memory_entries WHERE number IN ("
        "SELECT number FROM memory_attributes WHERE about IN (:form, :about) UNION "
        "SELECT number FROM memory_entries WHERE likeness = :likeness AND user_id = :user) "
        "AND +superseded_by IS NULL AND (+valid_to IS NULL OR +valid_to > :at) "
        "AND +user_id = :user ORDER BY number",
        {
            "at": micros(at),
            "user": new.user_id,
            "form": abouts[0],
            "about": abouts[-1],
            "likeness": likeness(new.content),
        },
    )
    numbers = [cast(int, row[0]) for row in rows]
    found = store.entries(c, numbers)
    return [found[number] for number in numbers if number in found]


def _says_no_more(new: NewMemory, old: Entry, told: Attribute | None) -> bool:
    more = said_words(new.content) - said_words(old.content)
    before = attribute_of(old.content)
    if told is None or before is None or told.key != before.key:
        return not more
    return told == before and not _telling(more)


def _replaces(new: NewMemory, old: Entry, told: Attribute | None) -> bool:
    """Whether both can't be true now, or `new` says all that `old` does."""
    before = attribute_of(old.content)
    less = said_words(old.content) - said_words(new.content)
    if told is None or before is None or told.key != before.key:
        return not less
    if told.ends and not before.ends:
        return told.value == before.value
    return told != before or not _telling(less)


def _telling(words: frozenset[str]) -> bool:
    """Whether these words tell something by themselves, beside the verb that was chosen."""
    return any(not _VERBS.fullmatch(word) for word in words)


_VERBS = re.compile(
    r"live|mov|relocat|bas|work|start|got|get|job|as|called|name|am|is|have|been|be|my"
    r"|i|from|like|love|enjoy|adore|hate|own|drive|eat|drink|play|speak"
)


def _about(user_id: str, key: str) -> bytes:
    return _digest("about", user_id, key)


def _form(user_id: str, content: str) -> bytes:
    return _digest("form", user_id, " ".join(sorted(said_words(content))))


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
