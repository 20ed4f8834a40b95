"""What it takes to forget: what is meant, the places it may be in, and what a copy is told of it.

Each module describes its places; one transaction erases in all of them. What was erased leaves
tombstones (hashes of ids, no words), by which a backup from before is cleaned when restored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, cast

import msgspec

from sonia.phrases import Phrases
from sonia.types import DEFAULT_USER

if TYPE_CHECKING:
    import apsw

ERASED = '{"erased":true}'
FORGOTTEN = "forgotten"  # stands where the name of a forgotten person stood
TOMBSTONES = "tombstones"  # a copy of them beside the database, for when that is lost

Key = int | str
Whole = Literal["person", "session"]


class Scope(msgspec.Struct, kw_only=True):
    """What is meant. Places add what they find to it, for the places after them.

    Only rows of `users` are touched. `persons` and `sessions` go whole, as far as written up to
    `until` (microseconds since 1970). `others` are sessions of somebody else. An exchange is a
    correlation id in a session. `documents` are those meant as such.
    """

    receipt: str
    users: set[str]
    persons: set[str] = msgspec.field(default_factory=set)
    sessions: set[str] = msgspec.field(default_factory=set)
    memories: set[str] = msgspec.field(default_factory=set)
    documents: set[str] = msgspec.field(default_factory=set)
    others: set[str] = msgspec.field(default_factory=set)
    turns: set[str] = msgspec.field(default_factory=set)
    exchanges: set[tuple[str, str | None]] = msgspec.field(default_factory=set)
    approvals: set[str] = msgspec.field(default_factory=set)
    actions: set[str] = msgspec.field(default_factory=set)
    entity: Phrases = msgspec.field(default_factory=Phrases)
    phrases: Phrases = msgspec.field(default_factory=Phrases)
    until: int | None = None
    at: int = 0

    def theirs(self, session_id: str | None) -> bool:
        """Whether what happened in this session, or in none, may be of these users."""
        return DEFAULT_USER in self.users if session_id is None else session_id not in self.others

    def whole(self, session_id: str | None) -> bool:
        """Whether all of this session goes; what happened in none is the owner's."""
        return DEFAULT_USER in self.persons if session_id is None else session_id in self.sessions


class Place(Protocol):
    """Where something may be that is to be forgotten. Rows are pairs of a key and a name.

    The key finds the row in this database, the name is the same in every copy of it and holds
    no word of what is forgotten but as a hash. `tables` are those that it answers for.
    """

    name: str
    tables: tuple[str, ...]

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        ...

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """The persons and sessions that this place knows."""
        ...

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """The rows that `scope` means; what they lead to is added to it."""
        ...

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Erase these rows; how many of what."""
        ...


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: counts by place, and the tombstones."""

    counts: dict[str, int]
    hashes: frozenset[bytes]


def erase(c: apsw.Connection, scope: Scope, places: Sequence[Place]) -> Erasure:
    """Erase what is meant from every place, in the caller's transaction."""
    found = [(place, dict(place.concerned(c, scope))) for place in places]
    hashes = {tombstone(place.name, name) for place, rows in found for name in rows.values()}
    hashes |= {tombstone("person", name) for name in scope.persons}
    if not scope.persons:
        hashes |= {tombstone("session", name) for name in scope.sessions}
    counts: dict[str, int] = {}
    for place, rows in found:
        if rows:
            counts |= place.erase(c, list(rows), scope)
    bury(c, dict.fromkeys(hashes, scope.at))
    return Erasure({name: count for name, count in counts.items() if count}, frozenset(hashes))


def tombstone(place: str, name: str) -> bytes:
    """SHA-256; 32 bytes."""
    return hashlib.sha256(f"{place}\0{name}".encode()).digest()


def bury(c: apsw.Connection, tombstones: Mapping[bytes, int]) -> None:
    """Keep tombstones; the later of two moments counts."""
    c.executemany(
        "INSERT INTO forget_tombstones (hash, at) VALUES (?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET at = max(at, excluded.at)",
        list(tombstones.items()),
    )


def tombstones(c: apsw.Connection) -> dict[bytes, int]:
    """Hash and moment of everything that was ever forgotten."""
    rows = c.execute("SELECT hash, at FROM forget_tombstones")
    return {cast(bytes, hash_): cast(int, at) for hash_, at in rows}


def write_tombstones(known: Mapping[bytes, int]) -> bytes:
    """As kept beside the database: a line each, hash and moment."""
    return b"".join(b"%s %d\n" % (hash_.hex().encode(), at) for hash_, at in sorted(known.items()))


def read_tombstones(data: bytes) -> dict[bytes, int]:
    """The inverse of `write_tombstones`; a torn last line is left out."""
    lines = (line.split() for line in data[: data.rfind(b"\n") + 1].splitlines())
    return {bytes.fromhex(hash_.decode()): int(at) for hash_, at in lines}


def apply_tombstones(
    c: apsw.Connection, known: Mapping[bytes, int], places: Sequence[Place]
) -> dict[str, int]:
    """Forget in a restored copy what was forgotten since it was made; counts by place.

    In the caller's transaction, on a database of the current schema. What was said after
    somebody was forgotten stays. The copy holds the tombstones from then on.
    """
    bury(c, known)
    counts: dict[str, int] = {}
    for scope in _wholes(c, known, places):
        _add(counts, erase(c, scope, places).counts)
    every = {cast(str, row[0]) for row in c.execute("SELECT DISTINCT user_id FROM memory_events")}
    scope = Scope(receipt="restore", users=every)
    for place in places:
        keys = [key for key, name in place.everything(c) if tombstone(place.name, name) in known]
        if keys:
            _add(counts, place.erase(c, keys, scope))
    return {name: count for name, count in counts.items() if count}


def _wholes(
    c: apsw.Connection, known: Mapping[bytes, int], places: Sequence[Place]
) -> Iterable[Scope]:
    for whole, name in [pair for place in places for pair in place.wholes(c)]:
        at = known.get(tombstone(whole, name))
        if at is None:
            continue
        if whole == "person":
            yield Scope(receipt="restore", users={name}, persons={name}, until=at, at=at)
        else:
            yield Scope(receipt="restore", users=set(), sessions={name}, until=at, at=at)


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
