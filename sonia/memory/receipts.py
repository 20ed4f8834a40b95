"""The SQL of what was asked to be forgotten, and how far that is."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any, cast

import apsw
import msgspec

from sonia.forgetting import Erasure
from sonia.memory.columns import maybe_moment, micros, moment
from sonia.memory.interface import Forget, Receipt, ReceiptNotFound
from sonia.types import new_id

_COLUMNS = "id, what, state, requested_at, erased_at, done_at, erased, tombstones, digest"


def begin(c: apsw.Connection, what: str, asked: Forget, at: dt.datetime) -> str:
    """Note what is to be forgotten, before anything is touched."""
    receipt_id = new_id("fgt")
    c.execute(
        "INSERT INTO memory_forgettings (id, what, state, request, requested_at) "
        "VALUES (?, ?, 'erasing', ?, ?)",
        (receipt_id, what, msgspec.json.encode(asked).decode(), micros(at)),
    )
    return receipt_id


def asked(c: apsw.Connection, receipt_id: str) -> Forget | None:
    """What is to be forgotten; nothing once it is."""
    row = c.execute(
        "SELECT request FROM memory_forgettings WHERE id = ? AND state = 'erasing'", (receipt_id,)
    ).fetchone()
    return None if row is None else msgspec.json.decode(cast(str, row[0]), type=Forget)


def erased(c: apsw.Connection, receipt_id: str, erasure: Erasure, at: dt.datetime) -> None:
    """The rows are gone, and what was asked with them."""
    receipt = find(c, receipt_id)
    account = [
        receipt.id,
        receipt.what,
        micros(receipt.requested_at),
        micros(at),
        sorted(erasure.counts.items()),
        sorted(hash_.hex() for hash_ in erasure.hashes),
    ]
    c.execute(
        "UPDATE memory_forgettings SET state = 'settling', request = '', erased_at = ?, "
        "erased = ?, tombstones = ?, digest = ? WHERE id = ?",
        (
            micros(at),
            msgspec.json.encode(erasure.counts).decode(),
            len(erasure.hashes),
            hashlib.sha256(msgspec.json.encode(account)).hexdigest(),
            receipt_id,
        ),
    )


def open_ones(c: apsw.Connection, state: str) -> list[str]:
    """Ids of those in this state, oldest first."""
    rows = c.execute("SELECT id FROM memory_forgettings WHERE state = ? ORDER BY number", (state,))
    return [cast(str, row[0]) for row in rows]


def settled(c: apsw.Connection, receipt_ids: list[str], copies: int, at: dt.datetime) -> None:
    """No file holds it any more; so many old copies of the database were removed for that."""
    c.executemany(
        "UPDATE memory_forgettings SET state = 'done', done_at = ?1, "
        "erased = iif(?2, json_set(erased, '$.copies', ?2), erased) "
        "WHERE id = ?3 AND state = 'settling'",
        [(micros(at), copies, receipt_id) for receipt_id in receipt_ids],
    )


def find(c: apsw.Connection, receipt_id: str) -> Receipt:
    """Raises `ReceiptNotFound`."""
    row = c.execute(
        f"SELECT {_COLUMNS} FROM memory_forgettings WHERE id = ?",  # noqa: S608
        (receipt_id,),
    ).fetchone()
    if row is None:
        raise ReceiptNotFound("Nothing was forgotten under this id.", id=receipt_id)
    return _receipt(*cast("tuple[Any, ...]", row))


def _receipt(
    id: str,
    what: Any,
    state: Any,
    requested_at: int,
    erased_at: int | None,
    done_at: int | None,
    erased: str,
    tombstones: int,
    digest: str,
) -> Receipt:
    return Receipt(
        id=id,
        what=what,
        state=state,
        requested_at=moment(requested_at),
        erased_at=maybe_moment(erased_at),
        done_at=maybe_moment(done_at),
        erased=msgspec.json.decode(erased, type=dict[str, int]),
        tombstones=tombstones,
        digest=digest,
    )
