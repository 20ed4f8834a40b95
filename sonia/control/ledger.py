"""The hash-chained ledger: rows that can be added and not changed unseen.

Each row's hash is the SHA-256 of the canonical JSON of its other fields, the hash of the row
before among them and the digest of its data in the place of the data; where the chain ends is
kept apart, so a missing tail is seen too. So data can be erased, and only by a row that says
so: what else is missing is named. Rows from before have no digest and their hash covers the
data; of one that was erased only its place in the chain is checked. Someone
who can write the file can still rewrite all of it: compare `LedgerCheck.head` with a copy
kept elsewhere to rule that out. Schneier and Kelsey, "Secure Audit Logs" (1999).

Functions of a connection: `append` belongs in the transaction of what it describes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.control.interface import LedgerCheck, LedgerDown, LedgerEntry
from sonia.control.scope import canonical
from sonia.errors import Internal
from sonia.forgetting import ERASED
from sonia.types import Damage, Value

if TYPE_CHECKING:
    import apsw

    from sonia.integrity import Batch

_HEAD = "SELECT number, hash FROM control_ledger_head WHERE id = 1"
_ROWS = (
    "SELECT number, at, kind, correlation_id, data, previous_hash, hash, digest FROM control_ledger"
)
_INSERT = (
    "INSERT INTO control_ledger "
    "(number, at, kind, correlation_id, data, previous_hash, hash, digest) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_Row = tuple[int, str, str, str, str, str, str, str | None]
ERASING = "ledger.erased"
NOTED_AT_ONCE = 1_000


class Stamp(Value):
    """When something is done, and on whose request."""

    at: dt.datetime
    correlation_id: str

    @property
    def text(self) -> str:
        """`at` as it is stored."""
        return stored(self.at)


def stored(moment: dt.datetime) -> str:
    """RFC 3339 UTC with microseconds, always 27 characters: compares as text."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def append(
    connection: apsw.Connection, kind: str, data: dict[str, Any], stamp: Stamp
) -> LedgerEntry:
    """Add a row. Raises `LedgerDown` when the chain's end is lost, `InvalidRequest` for `data`."""
    head = connection.execute(_HEAD).fetchone()
    if head is None:
        raise LedgerDown("The ledger's head is missing; restore a backup.")
    number, previous = head[0] + 1, head[1]
    text = canonical(data).decode()
    digest = _digest(text)
    found = _hash((number, stamp.text, kind, stamp.correlation_id, digest, previous))
    row = (number, stamp.text, kind, stamp.correlation_id, text, previous, found, digest)
    connection.execute(_INSERT, row)
    connection.execute("UPDATE control_ledger_head SET number = ?, hash = ?", (number, found))
    return _entry(row)


def erase(connection: apsw.Connection, numbers: Sequence[int], why: str, stamp: Stamp) -> None:
    """Take the data out of these rows, and say so in rows of their own."""
    connection.executemany(
        "UPDATE control_ledger SET data = ? WHERE number = ?",
        [(ERASED, number) for number in numbers],
    )
    for start in range(0, len(numbers), NOTED_AT_ONCE):
        account = {"numbers": list(numbers[start : start + NOTED_AT_ONCE]), "receipt": why}
        append(connection, ERASING, account, stamp)


def entries(connection: apsw.Connection, *, after: int, limit: int) -> tuple[LedgerEntry, ...]:
    """Rows above `after`, oldest first."""
    found = connection.execute(
        _ROWS + " WHERE number > ? ORDER BY number LIMIT ?", (after, max(0, limit))
    )
    return tuple(_entry(row) for row in found)


def head(connection: apsw.Connection) -> tuple[int, str]:
    """Number and hash of the newest row; `(0, "")` when there is none."""
    found = connection.execute(_HEAD).fetchone()
    return (found[0], found[1]) if found else (0, "")


def touch(connection: apsw.Connection) -> None:
    """A write that changes nothing: it fails when a real one would."""
    connection.execute("UPDATE control_ledger_head SET number = number")


def verify(connection: apsw.Connection) -> LedgerCheck:
    """Recompute the chain row by row, in constant memory."""
    ((count,),) = connection.execute("SELECT count(*) FROM control_ledger")
    end, end_hash = head(connection)
    number, previous, gone = 0, "", erased(connection)
    for row in connection.execute(_ROWS + " ORDER BY number"):
        number += 1
        if row[0] != number or row[5] != previous or not _fits(row, number in gone):
            return LedgerCheck(ok=False, entries=count, broken_at=number, head=end_hash)
        previous = row[6]
    if (number, previous) != (end, end_hash):
        broken_at = number if number == end else min(number, end) + 1
        return LedgerCheck(ok=False, entries=count, broken_at=broken_at, head=end_hash)
    return LedgerCheck(ok=True, entries=count, head=end_hash)


def chain(connection: apsw.Connection) -> Iterator[Batch]:
    """`verify` as a check of a whole database. See `sonia.integrity.Checker`."""
    from sonia import schema  # both bring in SQLite
    from sonia.integrity import Batch

    if "digest" not in schema.columns(connection, "control_ledger"):
        return  # a copy from before rows could be erased: the next start checks it
    found = verify(connection)
    broken = Damage(
        place="control_ledger", number=found.broken_at or 0, why="the chain of hashes breaks here"
    )
    yield Batch("control_ledger", found.entries, () if found.ok else (broken,))


def erased(connection: apsw.Connection) -> set[int]:
    """Numbers of the rows that were erased, as told by those that say so."""
    gone: set[int] = set()
    for (data,) in connection.execute("SELECT data FROM control_ledger WHERE kind = ?", (ERASING,)):
        with suppress(msgspec.DecodeError):  # a damaged row is named anyway
            gone.update(msgspec.json.decode(data, type=_Erased).numbers)
    return gone


class _Erased(msgspec.Struct):
    numbers: list[int]


def _fits(row: _Row, may_be_gone: bool) -> bool:
    number, at, kind, correlation_id, data, previous, found, digest = row
    gone = may_be_gone and data == ERASED
    if digest is None:
        return gone or found == _hash((number, at, kind, correlation_id, data, previous))
    if found != _hash((number, at, kind, correlation_id, digest, previous)):
        return False
    return gone or digest == _digest(data)


def _digest(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()


def _hash(row: tuple[Any, ...]) -> str:
    return hashlib.sha256(canonical(list(row))).hexdigest()


def _entry(row: _Row) -> LedgerEntry:
    number, at, kind, correlation_id, data, previous_hash, found, _ = row
    try:
        return LedgerEntry(
            number=number,
            at=dt.datetime.fromisoformat(at),
            kind=kind,
            correlation_id=correlation_id,
            data=msgspec.json.decode(data, type=dict[str, Any]),
            previous_hash=previous_hash,
            hash=found,
        )
    except (ValueError, msgspec.DecodeError) as error:
        raise Internal(f"Row {number} of the ledger is damaged.", number=number) from error
